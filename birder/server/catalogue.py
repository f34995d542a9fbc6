"""The catalogue: all columns of a collection but the embeddings, in memory, in a stable order, as of one version.

Whoever writes to the collection (this server, or another process) makes a new version; the next request then reads the
columns anew, and requests under way keep what they began with.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.table import Table

from birder.collection.condition import checked_condition, explained
from birder.collection.disk import connect, open_images
from birder.collection.rows import VECTORS
from birder.collection.store import Collection
from birder.errors import BirderError, unknown_name

Positions = npt.NDArray[np.int64]
"""Rows of a snapshot, as numbers."""

_CHECK_EVERY = 0.5  # seconds between two looks for a new version
_FILTERS = 64  # results of conditions that a snapshot remembers


class Snapshot:
    """The columns of a collection as they were at one version; never changes, so that threads may share it.

    Attributes
    ----------
    version
        The number of the version.
    table
        All columns but the embedding, one row a photograph, sorted by uri.
    collection
        For searches among the embeddings.
    """

    def __init__(self, path: Path) -> None:
        self.collection = Collection.open(path)
        self._images: Table = open_images(path)
        self.version = int(self._images.version)
        names = [name for name in self._images.schema.names if name not in VECTORS]
        table = self._images.search().select(names).to_arrow()
        self.table: pa.Table = table.take(pc.sort_indices(table["uri"])).combine_chunks()
        self._position = {id_: position for position, id_ in enumerate(self.table["id"].to_pylist())}
        self._lock = threading.Lock()
        self._filtered: OrderedDict[str, Positions] = OrderedDict()
        self._orders: dict[str, Positions] = {}
        self._filled: dict[str, int] | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def types(self) -> dict[str, str]:
        """Columns that people can make use of, and whether they hold text, numbers, times or booleans."""
        return {field.name: kind for field in self.table.schema if (kind := kind_of(field.type)) is not None}

    @property
    def filled(self) -> dict[str, int]:
        """In how many rows each column has a value."""
        if self._filled is None:
            self._filled = {name: len(self) - self.table[name].null_count for name in self.types}
        return self._filled

    def position(self, id_: str) -> int | None:
        """The row of an id; None if there is none."""
        return self._position.get(id_)

    def positions(self, ids: list[str]) -> Positions:
        """The rows of ids, -1 where there is none."""
        return np.fromiter((self._position.get(id_, -1) for id_ in ids), np.int64, len(ids))

    def rows(self, positions: Positions, columns: list[str]) -> list[dict[str, Any]]:
        """Values of some rows."""
        rows: list[dict[str, Any]] = self.table.select(columns).take(pa.array(positions)).to_pylist()
        return rows

    def column(self, name: str, positions: Positions | None = None) -> pa.Array:
        """A column, or its values in some rows.

        Raises
        ------
        UnknownNameError
            There is no such column, or none that can be shown.
        """
        if name not in self.types:
            raise unknown_name("column", name, self.types)
        column = self.table[name].combine_chunks()
        column = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
        return column if positions is None else column.take(pa.array(positions))

    def select(self, where: str | None, order: str = "") -> Positions:
        """The rows that a condition holds for, in an order.

        Parameters
        ----------
        where
            An SQL condition; all rows without it.
        order
            A column's name, behind "-" for descending order; by uri without it. Rows without a value come last.

        Raises
        ------
        CollectionError
            The condition does not work.
        UnknownNameError
            There is no such column.
        """
        found = None if not where else self._where(where)
        if not order:
            return np.arange(len(self), dtype=np.int64) if found is None else found
        sequence = self._order(order)
        if found is None:
            return sequence
        mask = np.zeros(len(self), np.bool_)
        mask[found] = True
        return sequence[mask[sequence]]

    def _where(self, where: str) -> Positions:
        with self._lock:
            if where in self._filtered:
                self._filtered.move_to_end(where)
                return self._filtered[where]
        condition = checked_condition(where, self.collection.columns)
        with explained(where, self.collection.path):
            ids = self._images.search().where(condition).select(["id"]).to_arrow()["id"].to_pylist()
        found = np.sort(self.positions(ids))
        with self._lock:
            self._filtered[where] = found
            if len(self._filtered) > _FILTERS:
                self._filtered.popitem(last=False)
        return found

    def _order(self, order: str) -> Positions:
        if order not in self._orders:
            name = order.removeprefix("-") if order.startswith("-") and order not in self.types else order
            column = self.column(name)
            descending = name != order
            sequence = pc.array_sort_indices(column, order="descending" if descending else "ascending")
            self._orders[order] = sequence.to_numpy().astype(np.int64)
        return self._orders[order]


def kind_of(type_: pa.DataType) -> str | None:
    """What a column holds: text, number, time or boolean; None for what is shown nowhere."""
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "text"
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return "number"
    return "time" if pa.types.is_timestamp(type_) or pa.types.is_date(type_) else None


class Catalogue:
    """Gives the snapshot of a collection's latest version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._snapshot = Snapshot(path)
        self._latest: Table = open_images(path)
        self._failures: Table = connect(path).open_table("failures")
        self._next_look = 0.0
        self._looked = 0.0

    def current(self) -> Snapshot:
        """The latest snapshot; one that is being read meanwhile is not waited for."""
        if time.monotonic() >= self._next_look and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._snapshot

    def refresh(self) -> Snapshot:
        """The snapshot of all that was committed before the call; calls that wait for one another share a look."""
        asked = time.monotonic()
        with self._lock:
            if self._looked <= asked:
                self._look()
        return self._snapshot

    def _look(self) -> None:
        self._looked = begin = time.monotonic()
        try:
            self._latest.checkout_latest()  # type: ignore[no-untyped-call]
            if int(self._latest.version) != self._snapshot.version:
                self._snapshot = Snapshot(self.path)
        except (BirderError, RuntimeError, ValueError, OSError):
            # Someone is moving or cleaning it up: what is in memory still holds, and the next look may succeed.
            pass
        now = time.monotonic()
        # While another process embeds, a large collection would otherwise be read without a break.
        self._next_look = now + max(_CHECK_EVERY, 5 * (now - begin))

    def failures(self) -> pa.Table:
        """The files that could not be read: uri, reason, failed_at; sorted by uri."""
        self._failures.checkout_latest()  # type: ignore[no-untyped-call]
        return self._failures.search().select(["uri", "reason", "failed_at"]).to_arrow().sort_by("uri")

    def count_failures(self) -> int:
        """How many files could not be read."""
        self._failures.checkout_latest()  # type: ignore[no-untyped-call]
        return int(self._failures.count_rows())
