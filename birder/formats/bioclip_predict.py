"""The CSV of pybioclip's `bioclip predict`, read: a row for each name, several for each image.

As pybioclip 2.1.6 writes it: `file_name`, then the ranks (with `species_epithet`, `species` as genus and epithet,
`common_name`) or `classification`, then `score`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from birder.errors import ConfigError
from birder.formats.foreign_predictions import ForeignPrediction
from birder.sources.text_table import read_text_table
from birder.taxonomy import COMMON_NAME, ranks_in

_FILE, _SCORE, _CLASS = "file_name", "score", "classification"


def read_predictions(file: Path) -> Iterator[ForeignPrediction]:
    """The best name of each image.

    Raises
    ------
    ConfigError
        The file cannot be read, lacks a column, or has a score that is not a number.
    """
    table = read_text_table(file)
    _check_columns(table, file)
    names = [*ranks_in(table.column_names), *({COMMON_NAME} & set(table.column_names))]
    best: dict[str, ForeignPrediction] = {}
    for number, row in enumerate(table.to_pylist(), start=2):
        try:
            score = float(row[_SCORE])
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise ConfigError(f"{file}, row {number}: the score {row[_SCORE]!r} is not a number.")
        if (known := best.get(row[_FILE])) is None or known.score < score:
            given = {"label": row[_CLASS]} if _CLASS in row else {name: row[name] for name in names}
            named = {name: value for name, value in given.items() if value}
            best[row[_FILE]] = ForeignPrediction(row[_FILE], named, score, "pybioclip")
    yield from best.values()


def _check_columns(table: pa.Table, file: Path) -> None:
    names = table.column_names
    if _FILE not in names or _SCORE not in names or not (_CLASS in names or ranks_in(names)):
        raise ConfigError(
            f"{file} has no columns file_name, score, and classification or ranks, as `bioclip predict` writes them. "
            "To add columns of your own, use birder embed with --table."
        )
