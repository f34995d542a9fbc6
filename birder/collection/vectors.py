"""All embeddings of a collection as one matrix of unit vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.filter import Filter, as_filter
from birder.collection.storage import Storage
from birder.vectors import unit


def unit_vectors(
    collection: Storage, columns: Sequence[str] = ("id",), *, where: str | Filter | None = None
) -> tuple[pa.Table, npt.NDArray[np.float32]]:
    """Columns of a collection's rows, and their embeddings, each divided by its length.

    Parameters
    ----------
    collection
        The collection.
    columns
        Which columns.
    where
        A filter: only these rows.

    Returns
    -------
    The columns; and (N, D) float32, in the same order. An embedding of length 0 stays so: its cosine to all is 0.

    Raises
    ------
    UnknownNameError
        The column does not exist.
    FilterError
        The filter cannot be used.
    """
    rows = collection.snapshot()
    chosen = as_filter(where, rows.columns)
    columns = list(dict.fromkeys(columns))
    vectors = np.empty((rows.count(chosen), collection.model.embedding_size), np.float32)
    parts: list[pa.Table] = []
    row = 0
    for table, embeddings in rows.embedding_batches(columns, chosen):
        unit(embeddings, out=vectors[row : row + len(embeddings)])
        row += len(embeddings)
        parts.append(table)
    schema = pa.schema([(name, rows.columns[name]) for name in columns])
    return pa.concat_tables(parts) if parts else schema.empty_table(), vectors
