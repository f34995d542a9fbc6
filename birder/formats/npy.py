"""NumPy arrays of embeddings (.npy), with a table that describes each row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from birder.errors import ConfigError
from birder.formats.embeddings import TableInMemory
from birder.sources.table import NAME_COLUMNS, URL_COLUMNS, read_table
from birder.words import counted

_NAMES = (*NAME_COLUMNS, *URL_COLUMNS, "filepath", "image_path", "sample")


def read_embeddings(file: Path, table: Path | None = None, names: str | None = None) -> TableInMemory:
    """Read an array of embeddings (N, D) and the N rows of its table (CSV or Parquet), in the same order.

    The array is mapped, not read. Without a table the rows have nothing but their embedding.

    Parameters
    ----------
    file
        The array, of floats.
    table
        Its table.
    names
        The table's column of file names (default: the one with a usual name).

    Raises
    ------
    ConfigError
        One of them cannot be read, or they do not belong together.
    """
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise ConfigError(f"Cannot read {file}: {error}. It must be a NumPy array of numbers (.npy).") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape:
        raise ConfigError(
            f"{file} is an array {array.shape} of {array.dtype}. Embeddings are floats (N, D), a row for each image."
        )
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    if table is not None:
        described = read_table(table, (names,) if names else _NAMES)
        if len(described.names) != len(array):
            raise ConfigError(
                f"{table} has {counted(len(described.names), 'row')}, but {file} has "
                f"{counted(len(array), 'embedding')}. The table needs "
                "a row for each, in the same order."
            )
        columns["file_name"] = pa.array(described.names, pa.string())
        columns |= {
            (name if name != "embedding" else "source_embedding"): described.columns[name]
            for name in described.columns.column_names
        }
    values = pa.array(np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1))
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(values, array.shape[1])
    return TableInMemory(pa.table(columns))
