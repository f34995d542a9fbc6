"""The ten texts that TreeOfLife's shards hold for a taxon, and the cleaning of its names before.

What Imageomics' `naming.py` and `make_wds.py` do (https://github.com/Imageomics/bioclip, `src/imageomics`,
`scripts/evobio10m`; Stevens et al., BioCLIP: A Vision Foundation Model for the Tree of Life, CVPR 2024), with their
results, whatever the names. What is odd there is odd here: an epithet without its genus is a scientific name with a
capital letter, and a family without any has "a photo of ." as `sci`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from birder.errors import ConfigError
from birder.taxonomy import RANKS

TEXTS = (
    "scientific_name",
    "taxonomic_name",
    "common_name",
    "sci",
    "com",
    "taxon",
    "taxonTag",
    "sci_com",
    "taxon_com",
    "taxonTag_com",
)
"""The texts, as the members of a shard are named: KEY.sci_com.txt."""

_UNKNOWN = frozenset(["(unidentified)", "unknown", "pleasehelp"])
"""What stands for a name that nobody knows."""
_KINGDOMS = {"metazoa": "animalia", "archaeplastida": "plantae", "chloroplastida": "plantae"}
"""Kingdoms of other trees of life."""
_NOT_THE_EPITHET = tuple(
    map(
        re.compile,
        (
            r"\(",
            r"ssp\.",
            r"subsp\.",
            r"var\.",
            r"\w+, \w+ & \w+",  # three authors
            r"\w+ & \w+",
            r"\w+ \d\d\d\d",  # an author and a year
            r"\w+, \d\d\d\d",
            r"\d\d\d\d",
            r" [A-z]\.",  # an initial
            r"<br ?>",
        ),
    )
)
"""Where what follows the name of a species begins: authors, years, ranks below. One after the other, in this order."""


def clean_taxon(taxon: Mapping[str, str]) -> dict[str, str]:
    """The names of a taxon as TreeOfLife writes them: those that are known, from the widest rank.

    HTML is removed, authors and years after the species, a genus that is said twice; names that say that nobody knows
    are left out; kingdoms of other trees become Animalia and Plantae; a genus is taken from the species where it is
    missing. All names but the epithet begin with a capital.

    Parameters
    ----------
    taxon
        Rank (see `birder.taxonomy.RANKS`) -> name; `species` is the epithet, or the whole name.
    """
    names = {rank: _clean(taxon.get(rank) or "") for rank in RANKS}
    names["kingdom"] = _KINGDOMS.get(names["kingdom"], names["kingdom"])
    names["genus"], names["species"] = _genus_and_epithet(names["genus"], _epithet(names["species"]))
    cleaned = {rank: _clean(name) for rank, name in names.items()}
    return {rank: name if rank == "species" else name.capitalize() for rank, name in cleaned.items() if name}


def taxon_texts(taxon: Mapping[str, str], common_name: str = "") -> dict[str, str]:
    """The ten texts of a taxon: each of `TEXTS` -> text.

    Parameters
    ----------
    taxon
        As for `clean_taxon`.
    common_name
        Taken as it is. Where it is empty, the scientific name stands for it, else all the names.

    Raises
    ------
    ConfigError
        No name is known at any rank.
    """
    names = clean_taxon(taxon)
    if not names:
        raise ConfigError("There is no name at any rank: a text needs one.")
    scientific = _joined([names.get("genus", ""), names.get("species", "")]).capitalize()
    taxonomic = _joined(names.values())
    tagged = " ".join(f"{rank} {name}" for rank, name in names.items())
    common = common_name or scientific or taxonomic
    return {
        "scientific_name": scientific,
        "taxonomic_name": taxonomic,
        "common_name": common,
        "sci": f"a photo of {scientific}.",
        "com": f"a photo of {common}.",
        "taxon": f"a photo of {taxonomic}.",
        "taxonTag": f"a photo of {tagged}.",
        "sci_com": f"a photo of {scientific} with common name {common}.",
        "taxon_com": f"a photo of {taxonomic} with common name {common}.",
        "taxonTag_com": f"a photo of {tagged} with common name {common}.",
    }


def _clean(name: str) -> str:
    """A name in lower case, without HTML; empty if it says that nobody knows."""
    name = _without_html(name).lower()
    return "" if name in _UNKNOWN else name


def _without_html(text: str) -> str:
    """A text without the tags that are opened and closed again on one line, such as <i>...</i>."""
    while (inner := "\n".join(map(_without_elements, text.split("\n")))) != text:
        text = inner
    return text


def _without_elements(line: str) -> str:
    """A line without a tag and the next closing one, again and again; what is between stays. Takes linear time."""
    kept: list[str] = []
    at = 0
    while True:
        opening = line.find("<", at)
        begin = line.find(">", opening + 1) + 1 if opening >= 0 else 0
        end = line.find("</", begin) if begin else -1
        following = line.find(">", end + 2) + 1 if end >= 0 else 0
        if not following:
            return "".join([*kept, line[at:]])
        kept += [line[at:opening], line[begin:end]]
        at = following


def _epithet(species: str) -> str:
    """A species without authors, years and ranks below it."""
    name = _without_html(species.lower()).strip()
    for pattern in _NOT_THE_EPITHET:
        if found := pattern.search(name):
            name = name[: found.start()].strip()
    return name


def _genus_and_epithet(genus: str, species: str) -> tuple[str, str]:
    """The genus apart from the species, which may say it, too; an epithet that is said twice is said once."""
    first, *rest = species.split() or [""]
    if rest and genus in ("", first):
        genus, species = first, " ".join(rest)
    words = species.split()
    if len(words) == 2 and words[0] == words[1]:
        species = words[0]
    return genus, species


def _joined(names: Iterable[str]) -> str:
    return " ".join(" ".join(names).split())
