"""The catalogue: all columns of a collection but the embeddings, in memory, in a stable order, as of one version.

Each write to the collection, by this server or another process, makes a new version; the next request then reads the
columns again, and requests under way keep those they began with. Labels that are in the journal and not in the rows yet
are applied to the columns; a filter is applied to them in a small table of their own.
"""

from __future__ import annotations

import contextlib
import copy
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.filter import Filter, as_filter, filter_errors, quoted
from birder.collection.filter_source import with_persons
from birder.collection.in_memory import rows_in_memory
from birder.collection.index import vectors_for_graph
from birder.collection.journal import Cells, Journal
from birder.collection.schema import LABEL_SOURCE, VECTORS
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import BirderError, unknown_name
from birder.server.column_reader import ColumnReader
from birder.server.encoded import Positions, decoded, replaced, sorted_positions
from birder.server.id_index import IdIndex
from birder.server.text_order import text_order

_CHECK_EVERY = 0.5  # seconds between checks for a new version
_MOST_NAMED = 2000  # rows with pending labels that a filter names by their ids
_FILTERS = 64  # results of filters that a snapshot remembers


LISTED = ("id", "uri", "label", "width", "height", "sha256")
"""The columns that lists of images show."""


class Snapshot:
    """The columns of a collection as they were at one version; never changes, so that threads may share it.

    One row an image, sorted by uri; frames of a video in the order of time. Texts that repeat are numbers of a
    dictionary: `birder.server.encoded`. Ids and uris are read when it is made, other columns after that: what needs one
    waits for it.

    Attributes
    ----------
    rows_version
        The number of the version of the rows.
    labels_until
        The bytes of the journal of labels that are in this.
    ids
        Their ids, to find rows by; the same object for as long as the rows are the same.
    collection
        For searches among the embeddings. Its rows lack pending labels: see `with_labels`.
    """

    def __init__(self, path: Path, journal: Journal) -> None:
        self._lock = threading.Lock()
        self._read_from(path)
        reader = ColumnReader(self._rows)
        id_, uri = reader.read(["id", "uri"])
        sequence = _by_uri(uri)
        if sequence is not None:
            id_, uri = id_.take(sequence), uri.take(sequence)
        self._columns: dict[str, pa.Array | Future[pa.Array]] = {"id": id_, "uri": uri}
        others = [name for name in self._rows.columns if name not in VECTORS and name not in self._columns]
        self._columns |= reader.begin(sorted(others, key=lambda name: name not in LISTED), sequence)
        addresses = self._rows.addresses()
        self._addresses = addresses if sequence is None else addresses[sequence.to_numpy()]
        self.ids = IdIndex(id_)
        self._orders: dict[str, Positions] = {}
        self._filled: dict[str, int] = {}
        cells, self.labels_until = journal.pending(self.rows_version)
        self._lay_over(cells)

    @property
    def table(self) -> pa.Table:
        """All columns but the embedding, once they are read."""
        names = [name for name in self._rows.columns if name in self._columns]
        return pa.table({name: self._kept(name) for name in names})

    def wait(self) -> Snapshot:
        """Wait until all columns are read; gives the snapshot itself."""
        for name in self._columns:
            self._kept(name)
        return self

    @property
    def failed(self) -> bool:
        """Whether a column could not be read."""
        futures = [column for column in self._columns.values() if isinstance(column, Future)]
        return any(each.done() and each.exception() is not None for each in futures)

    def _read_from(self, path: Path) -> None:
        """Read rows as they are now, none of whose labels are pending."""
        self.collection = Storage.open(path, labels=False)
        self._rows = self.collection.stored_rows()
        self.rows_version = self._rows.version
        self._filtered: OrderedDict[Filter, Positions] = OrderedDict()
        self._filtered_pending: dict[Filter, Positions] = {}
        self._sorted_addresses: tuple[npt.NDArray[np.uint64], Positions] | None = None
        self._pending: Positions = np.zeros(0, np.int64)

    def labelled(self, cells: Cells, until: int) -> Snapshot:
        """The same rows with more labels, up to an offset of the journal."""
        other = copy.copy(self)
        other._filtered_pending = {}
        other.labels_until = until
        other._lay_over(cells)
        return other

    def folded(self, journal: Journal) -> Snapshot | None:
        """The rows as they are now, if they differ from these in labels alone, and the journal says so; else None."""
        other = copy.copy(self)
        other._lock = threading.Lock()
        other._read_from(self.collection.path)
        if not journal.only_labels(self.rows_version, other.rows_version):
            return None
        addresses = other._rows.addresses()
        if len(addresses) != len(self):
            return None
        if not np.array_equal(addresses, np.sort(self._addresses)):  # rows that changed have moved
            rows = self.positions(other._rows.to_table(["id"])["id"].to_pylist())
            other._addresses = np.empty_like(self._addresses)
            other._addresses[rows] = addresses
        cells, _ = journal.since(self.labels_until)  # of others, who have folded them since
        other._lay_over(cells)
        other._pending = np.zeros(0, np.int64)
        cells, other.labels_until = journal.pending(other.rows_version)
        other._lay_over(cells)
        return other

    def _lay_over(self, cells: Cells) -> None:
        touched = [self._pending]
        for name, values in cells.items():
            if name not in self._columns:
                continue  # of a column that the rows get with the next version
            positions = self.positions(list(values))
            there = positions >= 0
            order = np.argsort(positions[there], kind="stable")
            positions = positions[there][order]
            new = pa.array(
                [value for value, is_there in zip(values.values(), there, strict=True) if is_there], pa.string()
            )
            column = replaced(self._kept(name), positions, new.take(pa.array(order)))
            self._columns = self._columns | {name: column}
            touched.append(positions)
        self._orders = {order: found for order, found in self._orders.items() if order.lstrip("-") not in cells}
        self._filled = {name: count for name, count in self._filled.items() if name not in cells}
        self._pending = np.unique(np.concatenate(touched))

    def _kept(self, name: str) -> pa.Array:
        column = self._columns[name]
        return column.result() if isinstance(column, Future) else column

    def __len__(self) -> int:
        return len(self.ids.ids)

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
            name: kind
            for name, type_ in self._rows.columns.items()
            if name in self._columns and (kind := kind_of(type_)) is not None and name != LABEL_SOURCE
        }

    @property
    def filled(self) -> dict[str, int]:
        """In how many rows each column has a value."""
        missing = {name: len(self) - self._kept(name).null_count for name in self.types if name not in self._filled}
        self._filled = self._filled | missing
        return self._filled

    def position(self, id_: str) -> int | None:
        """The row of an id; None if there is none."""
        return self.ids.position(id_)

    def positions(self, ids: list[str]) -> Positions:
        """The rows of ids, -1 where there is none."""
        return self.ids.positions(ids)

    def embedded(self, ids: list[str], k: int | None = None) -> dict[str, dict[str, Any]]:
        """The uri and the embedding, (D,) float32, of those of some ids that there are; of none while rows change.

        For a search for k rows among all that the graph answers, the embeddings are of length 1 and rounded to float16,
        as the graph's are: LanceDB would take half of the time of a search to read them.
        """
        positions = self.positions(list(dict.fromkeys(ids))) if ids else np.zeros(0, np.int64)
        positions = positions[positions >= 0]
        if not len(positions) or self.collection.version != self.rows_version:
            return {}
        addresses = self._addresses[positions]
        vectors = None if k is None else vectors_for_graph(self.collection, addresses, k)
        if vectors is None:
            with filter_errors(None, self.collection.path):
                found = self.collection.take(self.rows_version, addresses, ["embedding"])
            vectors = found["embedding"].combine_chunks().flatten().to_numpy().reshape(len(positions), -1)
        rows = self.rows(positions, ["id", "uri"])
        return {row["id"]: {"uri": row["uri"], "embedding": vector} for row, vector in zip(rows, vectors, strict=True)}

    def rows(self, positions: Positions, columns: list[str]) -> list[dict[str, Any]]:
        """Values of some rows."""
        some = pa.table({name: self._kept(name) for name in columns})
        rows: list[dict[str, Any]] = some.take(pa.array(positions)).to_pylist()
        return rows

    def column(self, name: str, positions: Positions | None = None) -> pa.Array:
        """A column, or its values in some rows.

        Raises
        ------
        UnknownNameError
            The column does not exist or cannot be shown.
        """
        return decoded(self.encoded(name, positions))

    def encoded(self, name: str, positions: Positions | None = None) -> pa.Array:
        """As `column`, in the form in which it is kept: see `birder.server.encoded`."""
        if name not in self.types:
            raise unknown_name("column", name, self.types)
        column = self._kept(name)
        return column if positions is None else column.take(pa.array(positions))

    def filter(self, where: str | None, *, wrong_boxes: bool = False) -> Filter | None:
        """A request's filter, parsed and checked; None where all rows match.

        Boxes that a person said are wrong are left out unless they are asked for, here or by the filter itself:
        `birder.collection.wrong_boxes`.

        Raises
        ------
        FilterError
            It cannot be used.
        """
        parsed = as_filter if wrong_boxes else without_wrong_boxes
        found = parsed(where or None, self.collection.columns)
        if found is None or found.of_source is None:
            return found
        journal = self.collection.journal
        journal.read()
        given = list(journal.given.get("label", ()))
        positions = self.positions(given)
        there = positions >= 0
        labels = self._kept("label").take(pa.array(positions[there])).to_pylist()
        ids = [id_ for id_, is_there in zip(given, there.tolist(), strict=True) if is_there]
        return with_persons(found, journal, dict(zip(ids, labels, strict=True)))

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
        found = np.sort(self._places[1][np.searchsorted(self._places[0], self._rows.addresses(where))])
        with self._lock:
            self._filtered[where] = found
            if len(self._filtered) > _FILTERS:
                self._filtered.popitem(last=False)
        return found

    @property
    def _places(self) -> tuple[npt.NDArray[np.uint64], Positions]:
        """Where rows are stored, ascending, and the row of each."""
        if self._sorted_addresses is None:
            order = np.argsort(self._addresses, kind="stable")
            self._sorted_addresses = self._addresses[order], order
        return self._sorted_addresses

    def _matching_labelled(self, where: Filter) -> Positions:
        """The rows with pending labels that match a filter."""
        found = self._filtered_pending.get(where)
        if found is None:
            names = sorted({"id", *where.columns} - set(VECTORS))
            some = pa.array(self._pending)
            rows = pa.table({name: decoded(self._kept(name).take(some)) for name in names})
            read = rows_in_memory(self.collection.path, rows, where, self._rows.schema)
            inside = pc.index_in(read.to_table(["id"], where)["id"], rows["id"]).to_numpy()
            found = self._pending[np.sort(inside)]
            if len(self._filtered_pending) >= _FILTERS:
                self._filtered_pending = {}
            self._filtered_pending[where] = found
        return found

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
        ids = pc.take(self.ids.ids, pa.array(self._pending)).to_pylist()
        matching = pc.take(self.ids.ids, pa.array(self._matching_labelled(where))).to_pylist()
        sql = f"({where.sql} AND id NOT IN ({', '.join(map(quoted, ids))}))"
        sql = f"({sql} OR id IN ({', '.join(map(quoted, matching))}))" if matching else sql
        return Filter(where.text, sql, where.columns | {"id"})

    def _order(self, order: str) -> Positions:
        if order not in self._orders:
            name = order.removeprefix("-") if order.startswith("-") and order not in self.types else order
            self._orders[order] = sorted_positions(self.encoded(name), descending=name != order)
        return self._orders[order]


def _by_uri(uri: pa.Array) -> pa.Array | None:
    """The order of the uris, None if rows are in it; as text, the tenth second of a video would precede the second."""
    if not pc.any(pc.match_substring(uri, "#t=npt:")).as_py():
        in_order = pc.all(pc.less_equal(uri[:-1], uri[1:])).as_py()
        return None if in_order else pa.array(text_order(uri))
    times = pc.extract_regex(uri, r"#t=npt:(?P<seconds>[0-9]{1,9}(?:\.[0-9]{1,3})?)")
    keys = {
        "file": pc.replace_substring_regex(uri, "#t=npt:.*", "#"),
        "seconds": pc.struct_field(times, "seconds").cast(pa.float64()),
        "uri": uri,
    }
    return pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys])


def uri_key(uri: str) -> tuple[str, float, str]:
    """What the rows of a snapshot are sorted by, of one uri: see `_by_uri`."""
    seconds = re.search(r"#t=npt:([0-9]{1,9}(?:\.[0-9]{1,3})?)", uri)
    return re.sub("#t=npt:.*", "#", uri), float(seconds[1]) if seconds else math.inf, uri


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
        self._rows = threading.RLock()  # held while rows are looked at, and while this server folds labels into them
        self._snapshot = Snapshot(path, self.journal)
        self._storage = Storage.open(path, labels=False)
        self._next_look = 0.0
        self._looked = 0.0

    def current(self) -> Snapshot:
        """The latest snapshot; one that is being read meanwhile is not waited for."""
        if time.monotonic() >= self._next_look and self._rows.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._rows.release()
        return self._snapshot

    def refresh(self) -> Snapshot:
        """The snapshot of all that was committed before the call; calls that wait at the same time share one check."""
        asked = time.monotonic()
        with self._rows:
            if self._looked <= asked:
                self._look()
        return self._snapshot

    @contextlib.contextmanager
    def folding(self) -> Iterator[None]:
        """Hold off looking at the rows until labels have been folded: the journal says at last what was written."""
        with self._rows:
            yield

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
            unread = self._snapshot.failed
            if unread or self._storage.newest_version() != self._snapshot.rows_version or self._settled():
                folded = None if unread else self._snapshot.folded(self.journal)
                snapshot = folded or Snapshot(self.path, self.journal).wait()
                with self._lock:  # what has been labelled meanwhile stays visible
                    cells, until = self.journal.since(snapshot.labels_until)
                    self._snapshot = snapshot.labelled(cells, until)
            self.labelled()
        except (BirderError, RuntimeError, ValueError, OSError):
            # Someone is moving or cleaning it up: what is in memory still holds, and the next look may succeed.
            pass
        now = time.monotonic()
        # While another process embeds, a large collection would otherwise be read without a break.
        self._next_look = now + max(_CHECK_EVERY, 5 * (now - begin))

    def _settled(self) -> bool:
        """Whether the rows have every label that the snapshot calls pending, though none changed (all were undone)."""
        snapshot = self._snapshot
        return bool(snapshot.pending) and self.journal.is_folded(snapshot.labels_until, snapshot.rows_version)

    def failures(self) -> pa.Table:
        """The files that could not be read: uri, reason, failed_at; sorted by uri."""
        return self._storage.newest_failures()

    def count_failures(self) -> int:
        """How many files could not be read."""
        return self._storage.count_newest_failures()
