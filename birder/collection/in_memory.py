"""Filtering rows that are in memory, by the same rules as those in the store."""

from __future__ import annotations

from pathlib import Path

import lancedb
import pyarrow as pa

from birder.collection.filter import Filter
from birder.collection.reading import RowReader
from birder.collection.schema import VECTORS


def rows_in_memory(path: Path, rows: pa.Table, where: Filter, schema: pa.Schema) -> RowReader:
    """Rows of a collection, in memory, to be filtered as if they were stored.

    Parameters
    ----------
    path
        The collection's folder, for messages.
    rows
        The rows, with all columns but vectors that the filter reads.
    where
        The filter.
    schema
        All columns of the collection: a filter may name the vectors as well.
    """
    for field in schema:
        if field.name in VECTORS and field.name in where.columns:
            rows = rows.append_column(pa.field(field.name, field.type), pa.nulls(len(rows), field.type))
    return RowReader(path, lancedb.connect("memory://").create_table("rows", rows, on_bad_vectors="null"))
