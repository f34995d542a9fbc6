"""The user's files of labels: lists, bins, and tables of taxa."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birder.errors import ConfigError
from birder.taxonomy import COMMON_NAME, RANKS, ranks_in, species_name

_MISSING = ("NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "nan", "NaN", "-nan", "-NaN", "null", "NULL", "None")
"""What stands for nothing in a table, as pandas reads it."""
_QUOTED = "\0"
"""Stands before such a word that was quoted."""
_NAMES = ("label", "labels", "class", "classes", "cls", "classification", "name", "names", "common_name", *RANKS)
_HEADERS = (*_NAMES, "bin", "bins", "group", "groups", "category", "type")
"""One of these in the first line of bins makes it the header."""


def read_label_list(source: str) -> list[str]:
    """Labels from "a,b,c" or, if there is such a file, from a text file with one a line (empty lines do not count)."""
    path = Path(source)
    if path.suffix.lower() == ".txt" or _is_file(path):
        text = _read_text(path)
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
    table = read_table(path, missing=True)
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
    table = read_table(path)
    columns = {name.lower(): table.column(i) for i, name in enumerate(table.column_names)}
    known = ranks_in(columns)
    if not known:
        raise ConfigError(f"{path} names no taxa: give it at least one of the columns {', '.join(RANKS)}.")
    values = {name: columns[name].to_pylist() for name in known}
    if "genus" in values and "species" in values:
        pairs = zip(values["genus"], values["species"], strict=True)
        values["species"] = [species_name(genus, species) for genus, species in pairs]
    values[COMMON_NAME] = columns[COMMON_NAME].to_pylist() if COMMON_NAME in columns else [""] * table.num_rows
    if table.num_rows == 0:
        raise ConfigError(f"{path} has no row.")
    return pa.table({name: pa.array(column, pa.string()) for name, column in values.items()})


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a list of labels can be longer than a path may be
        return False


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {path}: {error}. It must be a text file in UTF-8.") from error


def read_table(path: Path, *, missing: bool = False) -> pa.Table:
    """A CSV or Parquet file as a table of text without nulls, surrounding space removed.

    With `missing`, what pandas takes for a missing value (NA, nan, null, ...) is empty unless it is quoted.
    """
    if path.suffix.lower() == ".parquet":
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"Cannot read {path}: {error}") from error
        return pa.table({name: _as_text(table.column(name).to_pylist()) for name in table.column_names})
    text = _read_text(path).replace(_QUOTED, "")
    if missing:  # csv does not say what was quoted
        text = re.sub(rf'"(\s*(?:{"|".join(map(re.escape, _MISSING))})\s*)"', rf'"{_QUOTED}\1"', text)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) if row]
    if not rows:
        raise ConfigError(f"{path} is empty.")
    header = [name.replace(_QUOTED, "").strip() for name in rows[0]]
    if len(set(header)) < len(header):
        raise ConfigError(f"{path} has two columns of one name: {', '.join(header)}.")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(header):
            raise ConfigError(
                f"{path}, row {number}: {len(row)} values for {len(header)} columns. Quote commas in names."
            )
    empty = _MISSING if missing else ()
    columns = [[row[i] if i < len(row) else "" for row in rows[1:]] for i in range(len(header))]
    for column in columns:
        column[:] = ["" if cell.strip() in empty else cell.replace(_QUOTED, "") for cell in column]
    return pa.table({name: _as_text(column) for name, column in zip(header, columns, strict=True)})


def _as_text(values: Sequence[Any]) -> pa.Array:
    return pa.array(["" if value is None or value != value else str(value).strip() for value in values], pa.string())
