"""Reads the columns of a collection by two threads, so that some can be used before all are there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from birder.collection.reading import RowReader
from birder.server.encoded import encoded

_THREADS = 2


class ColumnReader:
    """Reads columns of one version of the rows, those that were asked for first before the others.

    What LanceDB gives of a column is let go before the same thread reads the next: at no time are more than two columns
    in memory twice.
    """

    def __init__(self, rows: RowReader) -> None:
        self._rows = rows
        self._threads = ThreadPoolExecutor(_THREADS, "columns")

    def read(self, names: Sequence[str]) -> list[pa.Array]:
        """Columns as they are stored, in the order of the rows there; waits for them."""
        return list(self._threads.map(self._column, names))

    def begin(self, names: Sequence[str], sequence: pa.Array | None) -> dict[str, Future[pa.Array]]:
        """Begin to read columns; this ends the reader.

        Parameters
        ----------
        names
            Which, the first of them first.
        sequence
            The rows in the order that is wanted; None: as they are stored.

        Returns
        -------
        Each column once it is read, in the form of `birder.server.encoded`, or the error that reading it raised.
        """
        begun = {name: self._threads.submit(self._encoded, name, sequence) for name in names}
        self._threads.shutdown(wait=False)
        return begun

    def _column(self, name: str) -> pa.Array:
        return combined(self._rows.to_table([name])[name])

    def _encoded(self, name: str, sequence: pa.Array | None) -> pa.Array:
        column = self._column(name)
        return encoded(column if sequence is None else column.take(sequence))


def combined(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    whole = column.combine_chunks()
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)
