"""The catalogue: all columns of a collection but the embeddings, in memory, in a stable order, as of one version.

Each write to the collection, by this server or another process, makes a new version; the next request then reads the
columns again, and requests under way keep those they began with. Labels that are in the journal and not in the rows yet
are applied to the columns; a filter is applied to them in a small table of their own.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.filter import Filter, as_filter, quoted
from birder.collection.in_memory import rows_in_memory
from birder.collection.journal import Cells, Journal
from birder.collection.reading import RowReader
from birder.collection.schema import LABEL_SOURCE
from birder.collection.storage import Storage
from birder.errors import BirderError, unknown_name

Positions = npt.NDArray[np.int64]
"""Rows of a snapshot, as numbers."""

_CHECK_EVERY = 0.5  # seconds between checks for a new version
_MOST_NAMED = 2000  # rows with pending labels that a filter names by their ids
_FILTERS = 64  # results of filters that a snapshot remembers


class Snapshot:
    """The columns of a collection as they were at one version; never changes, so that threads may share it.

    Attributes
    ----------
    rows_version
        The number of the version of the rows.
    labels_until
        The bytes of the journal of labels that are in this.
    table
        All columns but the embedding, one row an image, sorted by uri; frames of a video in the order of time.
    collection
        For searches among the embeddings. Its rows lack pending labels: see `with_labels`.
    """

    def __init__(self, path: Path, journal: Journal) -> None:
        self.collection = Storage.open(path, labels=False)
        self._rows = self.collection.stored_rows()
        self.rows_version = self._rows.version
        table = self._rows.to_table()
        self.table: pa.Table = table.take(_by_uri(table)).combine_chunks()
        self._position = {id_: position for position, id_ in enumerate(self.table["id"].to_pylist())}
        self._lock = threading.Lock()
        self._filtered: OrderedDict[Filter, Positions] = OrderedDict()
        self._start()
        cells, self.labels_until = journal.pending(self.rows_version)
        self._lay_over(cells)

    def _start(self) -> None:
        self._pending: Positions = np.zeros(0, np.int64)
        self._pending_rows: RowReader | None = None
        self._orders: dict[str, Positions] = {}
        self._filled: dict[str, int] = {}

    def labelled(self, cells: Cells, until: int) -> Snapshot:
        """The same rows with more labels, up to an offset of the journal."""
        other = copy.copy(self)
        other._start()
        other._pending = self._pending
        other._orders = {name: found for name, found in self._orders.items() if name.lstrip("-") not in cells}
        other._filled = {name: count for name, count in self._filled.items() if name not in cells}
        other.labels_until = until
        other._lay_over(cells)
        return other

    def _lay_over(self, cells: Cells) -> None:
        touched = [self._pending]
        for name, values in cells.items():
            if name not in self.table.schema.names:
                continue  # of a column that the rows get with the next version
            positions = self.positions(list(values))
            there = positions >= 0
            order = np.argsort(positions[there], kind="stable")
            positions = positions[there][order]
            new = pa.array(
                [value for value, is_there in zip(values.values(), there, strict=True) if is_there], pa.string()
            )
            mask = np.zeros(len(self), np.bool_)
            mask[positions] = True
            column = pc.replace_with_mask(self.column(name), pa.array(mask), new.take(pa.array(order)))
            self.table = self.table.set_column(self.table.schema.get_field_index(name), name, column)
            touched.append(positions)
        self._pending = np.unique(np.concatenate(touched))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def pending(self) -> int:
        """How many rows have labels that are in the journal alone so far."""
        return len(self._pending)

    @property
    def version(self) -> int:
        """A number that grows whenever rows or labels change."""
        return self.rows_version + self.labels_until

    @property
    def types(self) -> dict[str, str]:
        """Columns that people can use, and whether they contain text, numbers, times or booleans."""
        return {
            field.name: kind
            for field in self.table.schema
            if (kind := kind_of(field.type)) is not None and field.name != LABEL_SOURCE
        }

    @property
    def filled(self) -> dict[str, int]:
        """In how many rows each column has a value."""
        missing = {name: len(self) - self.table[name].null_count for name in self.types if name not in self._filled}
        self._filled = self._filled | missing
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
            The column does not exist or cannot be shown.
        """
        if name not in self.types:
            raise unknown_name("column", name, self.types)
        column = self.table[name].combine_chunks()
        column = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
        return column if positions is None else column.take(pa.array(positions))

    def filter(self, where: str | None) -> Filter | None:
        """A request's filter, parsed and checked; None where it is absent or empty.

        Raises
        ------
        FilterError
            It cannot be used.
        """
        return as_filter(where or None, self.collection.columns)

    def select(self, where: Filter | None, order: str = "") -> Positions:
        """The rows that match a filter, in an order.

        Parameters
        ----------
        where
            From `filter`; None: all rows.
        order
            A column's name, behind "-" for descending order; default: uri. Rows without a value come last.

        Raises
        ------
        FilterError
            LanceDB refuses the filter.
        UnknownNameError
            The column does not exist.
        """
        found = None if where is None else self._where(where)
        if not order:
            return np.arange(len(self), dtype=np.int64) if found is None else found
        sequence = self._order(order)
        if found is None:
            return sequence
        mask = np.zeros(len(self), np.bool_)
        mask[found] = True
        return sequence[mask[sequence]]

    def _where(self, where: Filter) -> Positions:
        found = self._where_in_rows(where)
        if not len(self._pending):
            return found
        untouched = np.setdiff1d(found, self._pending, assume_unique=True)
        return np.union1d(untouched, self._matching_labelled(where))

    def _where_in_rows(self, where: Filter) -> Positions:
        with self._lock:
            if where in self._filtered:
                self._filtered.move_to_end(where)
                return self._filtered[where]
        found = self._matching(self._rows, where)
        with self._lock:
            self._filtered[where] = found
            if len(self._filtered) > _FILTERS:
                self._filtered.popitem(last=False)
        return found

    def _matching_labelled(self, where: Filter) -> Positions:
        """The rows with pending labels that match a filter."""
        with self._lock:
            if self._pending_rows is None:
                rows = self.table.take(pa.array(self._pending))
                self._pending_rows = rows_in_memory(self.collection.path, rows, self._rows.schema)
            pending = self._pending_rows
        return self._matching(pending, where)

    def _matching(self, rows: RowReader, where: Filter) -> Positions:
        """Where the rows that match a filter are, in ascending order."""
        return np.sort(self.positions(rows.to_table(["id"], where)["id"].to_pylist()))

    def with_labels(self, where: Filter | None) -> Filter | None:
        """A filter that matches the same rows of `collection`, which lack pending labels.

        Raises
        ------
        FilterError
            LanceDB refuses it.
        CollectionError
            So many labels are pending that they must be folded first, and cannot be.
        """
        if where is None or not len(self._pending):
            return where
        if len(self._pending) > _MOST_NAMED:
            self.collection.fold_labels()
            return where
        ids = pc.take(self.table["id"], pa.array(self._pending)).to_pylist()
        matching = pc.take(self.table["id"], pa.array(self._matching_labelled(where))).to_pylist()
        sql = f"({where.sql} AND id NOT IN ({', '.join(map(quoted, ids))}))"
        sql = f"({sql} OR id IN ({', '.join(map(quoted, matching))}))" if matching else sql
        return Filter(where.text, sql, where.columns | {"id"})

    def _order(self, order: str) -> Positions:
        if order not in self._orders:
            name = order.removeprefix("-") if order.startswith("-") and order not in self.types else order
            column = self.column(name)
            descending = name != order
            sequence = pc.array_sort_indices(column, order="descending" if descending else "ascending")
            self._orders[order] = sequence.to_numpy().astype(np.int64)
        return self._orders[order]


def _by_uri(table: pa.Table) -> pa.Array:
    """The order of the uris; as text, the tenth second of a video would come before the second one."""
    uri = table["uri"]
    if "video_seconds" not in table.schema.names:
        return pc.sort_indices(uri)
    times = pc.extract_regex(uri, r"#t=npt:(?P<seconds>[0-9]{1,9}(?:\.[0-9]{1,3})?)")
    keys = {
        "file": pc.replace_substring_regex(uri, "#t=npt:.*", "#"),
        "seconds": pc.struct_field(times, "seconds").cast(pa.float64()),
        "uri": uri,
    }
    return pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys])


def kind_of(type_: pa.DataType) -> str | None:
    """What a column contains: text, number, time or boolean; None if it is never shown."""
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
        self.journal = Journal(path)  # for reading; writers have another, so that neither waits for the other
        self._lock = threading.RLock()
        self._snapshot = Snapshot(path, self.journal)
        self._storage = Storage.open(path, labels=False)
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
        """The snapshot of all that was committed before the call; calls that wait at the same time share one check."""
        asked = time.monotonic()
        with self._lock:
            if self._looked <= asked:
                self._look()
        return self._snapshot

    def labelled(self) -> Snapshot:
        """The current rows with all labels that are in the journal by now."""
        with self._lock:
            snapshot = self._snapshot
            if self.journal.size() != snapshot.labels_until:
                cells, until = self.journal.since(snapshot.labels_until)
                self._snapshot = snapshot = snapshot.labelled(cells, until)
        return snapshot

    def _look(self) -> None:
        self._looked = begin = time.monotonic()
        try:
            if self._storage.newest_version() != self._snapshot.rows_version:
                self._snapshot = Snapshot(self.path, self.journal)
            else:
                self.labelled()
        except (BirderError, RuntimeError, ValueError, OSError):
            # Someone is moving or cleaning it up: what is in memory still holds, and the next look may succeed.
            pass
        now = time.monotonic()
        # While another process embeds, a large collection would otherwise be read without a break.
        self._next_look = now + max(_CHECK_EVERY, 5 * (now - begin))

    def failures(self) -> pa.Table:
        """The files that could not be read: uri, reason, failed_at; sorted by uri."""
        return self._storage.newest_failures()

    def count_failures(self) -> int:
        """How many files could not be read."""
        return self._storage.count_newest_failures()
