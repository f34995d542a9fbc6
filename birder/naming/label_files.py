"""The user's files of labels: lists, bins, and tables of taxa."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from birder.errors import ConfigError
from birder.sources.text_table import read_text, read_text_table
from birder.taxonomy import COMMON_NAME, RANKS, ranks_in, species_name

_NAMES = ("label", "labels", "class", "classes", "cls", "classification", "name", "names", "common_name", *RANKS)
_HEADERS = (*_NAMES, "bin", "bins", "group", "groups", "category", "type")
"""One of these in the first line of bins makes it the header."""


def read_label_list(source: str) -> list[str]:
    """Labels from "a,b,c" or, if there is such a file, from a text file with one per line; empty lines are skipped."""
    path = Path(source)
    if path.suffix.lower() == ".txt" or _is_file(path):
        text = read_text(path)
        return [line.strip() for line in text.splitlines() if line.strip()]
    return [label.strip() for label in source.split(",") if label.strip()]


def read_bins(path: Path) -> dict[str, str]:
    """Label -> bin, from the first two columns of a CSV or Parquet table with a header.

    NA, nan, null and the like are missing values, unless they are quoted: "NA" may be a label (Namibia) or a bin. A
    first line that is a label with a bin of others is one; the header is then left out.

    Raises
    ------
    ConfigError
        Fewer than two columns, no row, no header, a label without a bin, or a label with two.
    """
    table = read_text_table(path, missing=True)
    if table.num_columns < 2 or table.num_rows == 0:
        raise ConfigError(f"{path} needs a header and two columns: a label, and the bin it belongs to.")
    header = (table.column_names[0], table.column_names[1])
    rows = list(zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True))
    if not any(name.lower() in _HEADERS for name in header):
        if header[1] not in {group for _, group in rows}:
            raise ConfigError(
                f"{path} begins with {header[0]},{header[1]}: if that is a label and its bin, put a line label,bin "
                "before it; if it names the columns, call them label and bin."
            )
        rows.insert(0, header)
    bins: dict[str, str] = {}
    for number, (label, group) in enumerate(rows, start=1):
        if not label or not group:
            who = repr(label) if label else f"row {number}"
            raise ConfigError(
                f"{path}: {who} has no {'bin' if label else 'label'}. Fill it in; NA, nan and null stand for nothing "
                'unless they are quoted ("NA").'
            )
        if bins.setdefault(label, group) != group:
            raise ConfigError(f"{path}: {label!r} is in the bin {bins[label]!r} and in {group!r}. Keep one.")
    return bins


def read_taxa(path: Path) -> pa.Table:
    """A table of taxa from a CSV or Parquet file.

    Its columns are named by rank (`RANKS`, in any case); `common_name` is optional; others are left out. The species
    may be given as "Pica hudsonia", or as the epithet "hudsonia" beside the genus.

    Returns
    -------
    The ranks that the file has, from the widest, and `common_name` (empty where unknown); species with their genus.
    """
    table = read_text_table(path)
    columns = {name.lower(): table.column(i) for i, name in enumerate(table.column_names)}
    known = ranks_in(columns)
    if not known:
        raise ConfigError(f"{path} has no column of taxa: it needs at least one of {', '.join(RANKS)}.")
    values = {name: columns[name].to_pylist() for name in known}
    if "genus" in values and "species" in values:
        pairs = zip(values["genus"], values["species"], strict=True)
        values["species"] = [species_name(genus, species) for genus, species in pairs]
    values[COMMON_NAME] = columns[COMMON_NAME].to_pylist() if COMMON_NAME in columns else [""] * table.num_rows
    if table.num_rows == 0:
        raise ConfigError(f"{path} has no rows.")
    return pa.table({name: pa.array(column, pa.string()) for name, column in values.items()})


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a list of labels can be longer than a path may be
        return False
