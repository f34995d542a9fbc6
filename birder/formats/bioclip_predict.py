"""The predictions of pybioclip, read: a row for each name, several for each image.

As pybioclip 2.1.6 gives them: `file_name`, then the ranks (with `species_epithet`, `species` as genus and epithet,
`common_name`) or `classification`, then `score`. `bioclip predict` writes them as CSV; what its `predict` in Python
returns is the same as a list of dictionaries, which users write as JSON. The JSON of `bioclip predict --log` has no
predictions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from birder.errors import ConfigError
from birder.formats.foreign_predictions import ForeignPrediction
from birder.sources import read_json
from birder.sources.text_table import read_text_table
from birder.taxonomy import COMMON_NAME, ranks_in

_FILE, _SCORE, _CLASS = "file_name", "score", "classification"


def recognizes(file: Path) -> bool:
    """Whether a JSON file is a list, as pybioclip's `predict` returns it, or the log that `bioclip predict` writes."""
    if not _is_json(file):
        return False
    with file.open("rb") as opened:
        begins = opened.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return begins.startswith(b"[") or b'"pybioclip_version"' in begins


def _is_json(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")


def _table(file: Path) -> pa.Table:
    """The predictions in a JSON file, as texts."""
    try:
        found = read_json(str(file))
    except (OSError, ValueError, MemoryError) as error:
        raise ConfigError(f"Cannot read {file}: {error}. It must be a list of pybioclip's predictions.") from error
    if isinstance(found, dict) and "pybioclip_version" in found:
        raise ConfigError(
            f"{file} is a log of bioclip predict (--log), which tells the model and the images, and has no "
            "predictions. Import what its --output wrote."
        )
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found) or not found:
        raise ConfigError(f"{file} is not a list of predictions, as pybioclip's predict returns them.")
    names = list(dict.fromkeys(name for each in found for name in each))
    texts = {
        name: ["" if (value := each.get(name)) is None else str(value).strip() for each in found] for name in names
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in texts.items()})


def read_predictions(file: Path) -> Iterator[ForeignPrediction]:
    """The best name of each image.

    Raises
    ------
    ConfigError
        The file cannot be read, lacks a column, or has a score that is not a number.
    """
    table = read_text_table(file) if not _is_json(file) else _table(file)
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
            f"{file} has no columns file_name, score, and classification or ranks, as `bioclip predict` writes them, "
            "and no embeddings: a column for each dimension, or one of lists of numbers. To add columns of your own, "
            "use birder embed with --table."
        )
