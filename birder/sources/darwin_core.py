"""Darwin Core's terms in a table, as GBIF and museums write them, become the columns that Birder has for the same.

Terms and their meaning: https://dwc.tdwg.org/terms/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from birder.taxonomy import COMMON_NAME, RANKS, species_name

DARWIN_CORE = {
    "decimalLatitude": "latitude",
    "decimalLongitude": "longitude",
    "eventDate": "taken_at",
    "vernacularName": COMMON_NAME,
}
"""Darwin Core's terms that are columns of ours."""
NAME = "scientificName"
_BEFORE_AUTHORS = "(?:van|von|de|den|der|du|da|di|le|la|ex|et|in|y) "
_NAME = re.compile(
    r"(?P<genus>[A-Z][a-zà-ÿ-]+)(?: \([A-Z][a-zà-ÿ-]+\))?"  # and a subgenus
    rf"(?: (?!{_BEFORE_AUTHORS})(?P<epithet>[a-zà-ÿ-]{{2,}}))?"
    rf"(?: (?!{_BEFORE_AUTHORS})(?P<below>[a-zà-ÿ.-]+.*))?"
    rf"(?: (?:[(A-ZÀ-ÖØ-Þ'&]|{_BEFORE_AUTHORS}).*)?"
)


def with_birders_names(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Arrow's columns with Birder's own names for Darwin Core's, where theirs hold what Birder's do.

    A column of Birder's name that is there already counts. So a date with a time zone or an interval stays `eventDate`.
    """
    found = dict(columns)
    for theirs, ours in DARWIN_CORE.items():
        if theirs in found and ours not in found and _fits(found[theirs].type, ours):
            found[ours] = found.pop(theirs)
    return found


def _fits(type_: pa.DataType, ours: str) -> bool:
    if ours == "taken_at":
        return bool(pa.types.is_timestamp(type_))
    if ours == COMMON_NAME:
        return bool(pa.types.is_string(type_))
    return bool(pa.types.is_floating(type_) or pa.types.is_integer(type_))


def with_ranks(columns: Mapping[str, Any]) -> dict[str, Any]:
    """A table's columns with those of ranks that `scientificName` fills.

    `scientificName` fills the column of its rank: that which `taxonRank` names, else species for a name of two words;
    its author is left out. What is not a name at one of `RANKS`, such as that of a subspecies, stays there, and a
    subspecies fills its species as well. The columns of the ranks are called the same in both.

    Parameters
    ----------
    columns
        The values of each column: lists, or Arrow's columns where a table came as Parquet.
    """
    found = dict(columns)
    if NAME not in found:
        return found
    names = _values(found[NAME])
    told = {name: _values(found[name]) for name in (*RANKS, "taxonRank", "specificEpithet") if name in found}
    taxa: list[dict[str, str]] = []
    left: list[str | None] = []
    for number, name in enumerate(names):
        row = {column: str(values[number] or "").strip() for column, values in told.items()}
        taxon, is_whole = _taxon(str(name or "").strip(), row)
        taxa.append(taxon)
        left.append(None if is_whole else name)
    for rank in RANKS:
        if rank in told or any(rank in taxon for taxon in taxa):
            own = told.get(rank, [None] * len(names))
            found[rank] = [value or taxon.get(rank) or "" for value, taxon in zip(own, taxa, strict=True)]
    if any(left):
        found[NAME] = [value or "" for value in left]
    else:
        del found[NAME]
    return found


def _taxon(name: str, row: Mapping[str, str]) -> tuple[dict[str, str], bool]:
    """The names by rank that a scientific name tells, and whether these say all of it but the author."""
    rank = row.get("taxonRank", "").lower()
    read = _NAME.fullmatch(name)
    epithet = row.get("specificEpithet", "")
    more = {"species": species_name(row["genus"], epithet)} if epithet and row.get("genus") else {}
    if not name or read is None:
        return more, not name
    genus, of_species, below = read["genus"], read["epithet"], read["below"]
    if below and not of_species:  # "Parus sp."
        return more, False
    if of_species:
        taxon = {"genus": genus, "species": f"{genus} {of_species}"}
        fits = rank in ("", "species") or (below is not None and rank not in RANKS)
        return (taxon, below is None and rank in ("", "species")) if fits else (more, False)
    if rank in RANKS and rank != "species":
        return {rank: genus}, True
    return more, not rank and genus in (row.get(each) for each in RANKS)


def _values(column: Any) -> list[Any]:
    return column if isinstance(column, list) else list(column.to_pylist())
