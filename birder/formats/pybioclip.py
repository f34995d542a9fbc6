"""What pybioclip writes: `bioclip embed` gives JSON of embeddings, `bioclip predict` CSV of names.

From pybioclip 2.1.6: the JSON is {"model": NAME, "embeddings": {PATH: [numbers, projected and not normalised]}}; the
CSV has a row a name, some for each image: `file_name`, then the ranks (with `species_epithet`, `species` as genus and
epithet, `common_name`) or `classification`, then `score`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from birder.errors import ConfigError
from birder.formats.json_file import read_object
from birder.formats.predictions import Given
from birder.formats.text_table import read_table
from birder.taxonomy import COMMON_NAME, ranks_in

_FILE, _SCORE, _CLASS = "file_name", "score", "classification"


def read_embeddings(file: Path) -> tuple[pa.Table, str | None]:
    """The embeddings of `bioclip embed`: columns `path` and `embedding` (null if it is no list of numbers); the model.

    Raises
    ------
    ConfigError
        It cannot be read or holds no embeddings.
    """
    found = read_object(file, "the output of `bioclip embed`")
    embeddings = found.get("embeddings")
    if not isinstance(embeddings, dict) or not embeddings:
        raise ConfigError(f'{file} has no "embeddings": it must be the output of `bioclip embed`.')
    paths = [path.encode("utf-8", "replace").decode() for path in embeddings]
    columns = {
        "path": pa.array(paths, pa.string()),
        "embedding": pa.array(_vectors(embeddings), pa.list_(pa.float32())),
    }
    model = found.get("model")
    return pa.table(columns), model if isinstance(model, str) else None


def _vectors(embeddings: dict[str, object]) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float32]] | None]:
    for values in embeddings.values():
        numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
        try:
            with np.errstate(over="ignore"):
                yield np.array(values, np.float32) if numbers else None
        except OverflowError:  # an integer of hundreds of digits
            yield None


def is_predictions(file: Path) -> bool:
    """Whether a CSV has the columns of `bioclip predict`."""
    names = read_table(file).column_names
    return _FILE in names and _SCORE in names and (_CLASS in names or bool(ranks_in(names)))


def read_predictions(file: Path) -> Iterator[Given]:
    """The best name of each image in the output of `bioclip predict`.

    Raises
    ------
    ConfigError
        It cannot be read, or a score is no number.
    """
    table = read_table(file)
    names = [*ranks_in(table.column_names), *({COMMON_NAME} & set(table.column_names))]
    best: dict[str, Given] = {}
    for number, row in enumerate(table.to_pylist(), start=2):
        try:
            score = float(row[_SCORE])
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise ConfigError(f"{file}, row {number}: the score {row[_SCORE]!r} is no number.")
        if (known := best.get(row[_FILE])) is None or known.score < score:
            label = {"label": row[_CLASS]} if _CLASS in row else {name: row[name] for name in names}
            best[row[_FILE]] = Given(row[_FILE], {name: value for name, value in label.items() if value}, score)
    yield from best.values()
