"""CSV and Parquet files as tables of text."""

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

_MISSING = ("NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "nan", "NaN", "-nan", "-NaN", "null", "NULL", "None")
"""The words that stand for a missing value in a table, as in pandas."""
_QUOTED = "\0"
"""Marks such a word that was quoted."""


def read_text(path: Path) -> str:
    """The text of a file in UTF-8.

    Raises
    ------
    ConfigError
        It cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {path}: {error}. It must be a text file in UTF-8.") from error


def read_text_table(path: Path, *, missing: bool = False) -> pa.Table:
    """A CSV or Parquet file as a table of text without nulls, surrounding space removed.

    Parameters
    ----------
    path
        The file; .parquet, or else CSV with a header.
    missing
        Values that pandas treats as missing (NA, nan, null, ...) become empty unless they are quoted.

    Raises
    ------
    ConfigError
        It cannot be read, is empty, or has two columns of the same name or a row with too many values.
    """
    if path.suffix.lower() == ".parquet":
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"Cannot read {path}: {error}") from error
        return pa.table({name: _as_text(table.column(name).to_pylist()) for name in table.column_names})
    text = read_text(path).replace(_QUOTED, "")
    if missing:  # the csv module does not tell what was quoted
        text = re.sub(rf'"(\s*(?:{"|".join(map(re.escape, _MISSING))})\s*)"', rf'"{_QUOTED}\1"', text)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) if row]
    if not rows:
        raise ConfigError(f"{path} is empty.")
    header = [name.replace(_QUOTED, "").strip() for name in rows[0]]
    if len(set(header)) < len(header):
        raise ConfigError(f"{path} has two columns of the same name: {', '.join(header)}.")
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
