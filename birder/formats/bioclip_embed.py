"""The JSON of pybioclip's `bioclip embed`, read: {"model": NAME, "embeddings": {PATH: [number, ...]}}.

As pybioclip 2.1.6 writes it; the embeddings are projected into the space of the texts, and not normalized.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from birder.errors import ConfigError
from birder.formats.embeddings import TableInMemory
from birder.formats.json_file import read_object


def read_embeddings(file: Path) -> TableInMemory:
    """The embeddings of `bioclip embed`: columns `path` and `embedding` (null if it is not a list of numbers).

    Raises
    ------
    ConfigError
        It cannot be read, or has no embeddings.
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
    return TableInMemory(pa.table(columns), model if isinstance(model, str) else None)


def _vectors(embeddings: dict[str, object]) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float32]] | None]:
    for values in embeddings.values():
        numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
        try:
            with np.errstate(over="ignore"):
                yield np.array(values, np.float32) if numbers else None
        except OverflowError:  # an integer of hundreds of digits
            yield None
