"""Filtering rows that are in memory, by the same rules as those in the store."""

from __future__ import annotations

from pathlib import Path

import lancedb
import pyarrow as pa

from birder.collection.reading import RowReader
from birder.collection.schema import VECTORS


def rows_in_memory(path: Path, rows: pa.Table, schema: pa.Schema) -> RowReader:
    """Rows of a collection, in memory, to be read and filtered as if they were stored.

    Parameters
    ----------
    path
        The collection's folder, for messages.
    rows
        The rows, with all columns but the vectors.
    schema
        All columns of the collection: a filter may name the vectors as well.
    """
    for field in schema:
        if field.name in VECTORS:
            rows = rows.append_column(pa.field(field.name, field.type), pa.nulls(len(rows), field.type))
    return RowReader(path, lancedb.connect("memory://").create_table("rows", rows, on_bad_vectors="null"))
