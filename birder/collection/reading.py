"""Reading the rows of a collection: counted, scanned and with their embeddings, all of them or by a filter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.disk import reading
from birder.collection.filter import Filter, filter_errors
from birder.collection.filter_source import sql_of
from birder.collection.schema import VECTORS
from birder.errors import unknown_name

if TYPE_CHECKING:
    from lancedb.table import Table

_ROWS_AT_ONCE = 1024
ROWS_IN_MEMORY = 65_536
"""Rows that LanceDB gives at once where all are wanted: its own 1,024 take seven times as long for a million."""


class RowReader:
    """The rows of one table of images, to be read as often as needed.

    Attributes
    ----------
    path
        The collection's folder.
    """

    def __init__(self, path: Path, images: Table) -> None:
        self.path = path
        self._images = images

    @property
    def schema(self) -> pa.Schema:
        """All columns, with the model's card in the metadata."""
        return self._images.schema

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Names and Arrow types of the columns."""
        return {column.name: column.type for column in self._images.schema}

    @property
    def version(self) -> int:
        """The number of the version that is read."""
        return int(self._images.version)

    def count(self, where: Filter | None = None) -> int:
        """Count the rows, or those that match a filter."""
        with self._explained(where):
            return int(self._images.count_rows(None if where is None else self._sql(where)))

    def count_filled(self, column: str, where: Filter | None = None) -> int:
        """Count the rows with a value in a column, among those that match a filter."""
        filled = f"`{column}` IS NOT NULL"
        with self._explained(where):
            return int(self._images.count_rows(filled if where is None else f"{self._sql(where)} AND {filled}"))

    def scan(self, columns: Sequence[str] | None = None, where: Filter | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows in the order they were written, a batch at a time.

        Parameters
        ----------
        columns
            Which columns; default: all but the vectors.
        where
            A filter: only these rows.

        Raises
        ------
        UnknownNameError
            The column does not exist.
        """
        return self._batches(columns, where, None)

    def to_table(self, columns: Sequence[str] | None = None, where: Filter | None = None) -> pa.Table:
        """The rows, in memory; see `scan`."""
        query = self._query(columns, where)
        with self._explained(where):
            return query.to_batches(ROWS_IN_MEMORY).read_all()

    def addresses(self, where: Filter | None = None) -> npt.NDArray[np.uint64]:
        """Where rows are stored, a number each: for rows of this version alone; see `scan`."""
        query: Any = self._images.search().select(["_rowid"])
        with self._explained(where):
            found = (query if where is None else query.where(self._sql(where))).to_batches(ROWS_IN_MEMORY).read_all()
        addresses: npt.NDArray[np.uint64] = found["_rowid"].to_numpy()
        return addresses

    def tables(
        self, columns: Sequence[str] | None = None, where: Filter | None = None, *, rows: int = _ROWS_AT_ONCE
    ) -> Iterator[pa.Table]:
        """Iterate over the rows as `scan` does, at least `rows` at a time: many commits leave them in small pieces."""
        return _joined(self._batches(columns, where, rows), rows)

    def embedding_batches(
        self, columns: Sequence[str] = ("uri",), where: Filter | None = None
    ) -> Iterator[tuple[pa.Table, npt.NDArray[np.float32]]]:
        """Iterate over the rows with their embeddings, a thousand or more at a time.

        Parameters
        ----------
        columns
            Which columns.
        where
            A filter: only these rows.

        Returns
        -------
        The columns, and the embeddings (B, D) float32 as the network gave them.

        Raises
        ------
        UnknownNameError
            The column does not exist.
        """
        columns = list(dict.fromkeys(columns))
        for table in _joined(self._batches([*columns, "embedding"], where, None), _ROWS_AT_ONCE):
            embeddings = table["embedding"].combine_chunks()
            vectors = embeddings.flatten().to_numpy().reshape(-1, embeddings.type.list_size)
            yield table.select(columns), vectors

    def _batches(
        self, columns: Sequence[str] | None, where: Filter | None, rows: int | None
    ) -> Iterator[pa.RecordBatch]:
        query = self._query(columns, where)
        with self._explained(where):
            yield from query.to_batches(rows)

    def _query(self, columns: Sequence[str] | None, where: Filter | None) -> Any:
        own = self.columns
        names = [name for name in own if name not in VECTORS] if columns is None else list(dict.fromkeys(columns))
        for name in names:
            if name not in own:
                raise unknown_name("column", name, own)
        query: Any = self._images.search().select(names)
        return query if where is None else query.where(self._sql(where))

    def _sql(self, where: Filter) -> str:
        return sql_of(where, self.path, self._images)

    @contextlib.contextmanager
    def _explained(self, where: Filter | None) -> Iterator[None]:
        with filter_errors(where, self.path), reading(self.path) if where is None else contextlib.nullcontext():
            yield


def _joined(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.num_rows for each in waiting) >= rows:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if any(each.num_rows for each in waiting):
        yield pa.Table.from_batches(waiting)
