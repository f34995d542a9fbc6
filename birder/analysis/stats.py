"""Summary of a collection: rows, failures, filled columns, ranges of times and places, values and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.filter import Filter
from birder.collection.reading import RowReader
from birder.collection.schema import VECTORS
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import unknown_name
from birder.taxonomy import RANKS

TAXA = ("label", *RANKS)
"""The columns that are counted unless others are asked for."""


@dataclass(frozen=True)
class ColumnStats:
    """A column: its Arrow type, rows with a value, different values of a text, least and most of numbers and times."""

    column: str
    type: str
    filled: int
    distinct: int | None
    least: Any
    most: Any


@dataclass(frozen=True)
class Stats:
    """A collection at a glance.

    Attributes
    ----------
    rows
        Images embedded, of a filter those that match it.
    failures
        Files that could not be read. They have no columns, so a filter does not change their number.
    contents
        Different contents (sha256) among the rows.
    model, engine, precision, embedding_size
        What made the embeddings.
    columns
        All columns but the embedding.
    """

    rows: int
    failures: int
    contents: int
    model: str
    engine: str
    precision: str
    embedding_size: int
    columns: tuple[ColumnStats, ...]


@dataclass(frozen=True)
class ValueCount:
    """A value of a column (None: no value), the rows that have it, and their share of all rows that were counted."""

    value: Any
    count: int
    share: float


def stats(collection: Storage, *, where: str | Filter | None = None) -> Stats:
    """Summarise a collection, reading one column at a time and never the embeddings.

    Parameters
    ----------
    collection
        The collection.
    where
        A filter: only these rows.

    Returns
    -------
    Its counts, model and columns, in the order of the table.

    Raises
    ------
    FilterError
        The filter cannot be used.
    """
    rows = collection.snapshot()
    chosen = without_wrong_boxes(where, rows.columns)
    columns = tuple(_column_stats(name, _column(rows, name, chosen)) for name in rows.columns if name not in VECTORS)
    card = collection.model
    return Stats(
        rows=rows.count(chosen),
        failures=len(collection.failures()),
        contents=next(column.distinct or 0 for column in columns if column.column == "sha256"),
        model=card.name,
        engine=card.engine,
        precision=card.precision,
        embedding_size=card.embedding_size,
        columns=columns,
    )


def value_counts(collection: Storage, column: str, *, where: str | Filter | None = None) -> list[ValueCount]:
    """The values of a column and their row counts, the most frequent first; rows without a value last.

    Parameters
    ----------
    collection
        The collection.
    column
        One of its columns.
    where
        A filter: only these rows, and shares of these.

    Raises
    ------
    UnknownNameError
        There is no such column.
    FilterError
        The filter cannot be used.
    """
    if column not in collection.columns or column in VECTORS:
        raise unknown_name("column", column, [name for name in collection.columns if name not in VECTORS])
    rows = collection.snapshot()
    return count_values(_column(rows, column, without_wrong_boxes(where, rows.columns)))


def count_values(values: pa.Array | pa.ChunkedArray) -> list[ValueCount]:
    """The values of a column's array and how many rows have each, as `value_counts` gives them."""
    counted = [
        (pair["values"], int(pair["counts"]))
        for pair in values.value_counts().to_pylist()
        if pair["values"] is not None
    ]
    counted.sort(key=lambda pair: (-pair[1], str(pair[0])))
    if values.null_count:
        counted.append((None, values.null_count))
    return [ValueCount(value, count, count / len(values)) for value, count in counted]


def _column(rows: RowReader, name: str, where: Filter | None) -> pa.ChunkedArray:
    return rows.to_table([name], where)[name]


def _column_stats(name: str, values: pa.ChunkedArray) -> ColumnStats:
    filled = len(values) - values.null_count
    type_ = values.type
    distinct = least = most = None
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_boolean(type_):
        distinct = int(pc.count_distinct(values, mode="only_valid").as_py())
    elif filled and (pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_temporal(type_)):
        ends = pc.min_max(values).as_py()
        least, most = ends["min"], ends["max"]
    return ColumnStats(name, str(type_), filled, distinct, least, most)
