"""A collection on disk: a LanceDB table of embeddings, one row a file, and beside it the table of files that failed.

What is promised, and how. Rows appear in atomic commits. A file that becomes a row leaves `failures` after the row is
there; a row whose file turned unreadable goes before the failure is written. So a process that dies between two commits
leaves a file in one table, or in none and due again; a file in both is a failure that was overcome, which the next
writer removes.

`Storage` owns the tables, and everything else asks it: no other room of Birder knows LanceDB. It adds to `Committed`,
which reads, the right to write. Its parts are `creation` (tables made and opened), `commit` (rows written), `pending`
(labels that rows do not have yet) and `inventory` (what exists already).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from birder.collection.commit import commit, delete_failures, rename_failures, table_of, with_all_columns
from birder.collection.committed import Committed
from birder.collection.creation import create_tables, exists, open_tables
from birder.collection.detection import DetectionRecord, check_detection, write_detection
from birder.collection.disk import (
    PATIENCE,
    connect,
    locked,
    make_table,
    open_images,
    optimize,
    running,
    stand_in,
    storing,
)
from birder.collection.flush import flushing
from birder.collection.in_place import change_columns
from birder.collection.inventory import Index, Shard, add_shards, forget_shards
from birder.collection.moving import finish
from birder.collection.pending import copy_with_labels, relabelled
from birder.collection.places import read_places, with_roots, write_places
from birder.collection.predictions import AT, BY, PREFIX, SCORE, prediction_table
from birder.collection.schema import (
    LABEL_SOURCE,
    NOTHING_FORMER,
    USERS,
    Content,
    Failure,
    Former,
    ModelCard,
    Row,
    check_model,
    column_types,
    fits,
    refuse_reserved,
)
from birder.collection.times import finish_shift
from birder.collection.vector_files import refresh_columns
from birder.collection.whole import make_whole, refuse_unfinished_backup
from birder.errors import CollectionError
from birder.files import at_home
from birder.sources import Stamp

__all__ = [
    "USERS",
    "Content",
    "Failure",
    "Index",
    "ModelCard",
    "Row",
    "Shard",
    "Stamp",
    "Storage",
    "column_types",
    "exists",
]

_PREDICTED_AT_ONCE = 16_384
"""Predictions put into an Arrow table at once: as dictionaries, those of a million rows take more than 1 GB."""


class _Folded(NamedTuple):
    """How many rows got labels, up to which offset of the journal, and which version of the rows has them.

    From the version `since` to that one, the rows changed in labels alone.
    """

    rows: int
    offset: int
    version: int
    since: int


class Storage(Committed):
    """Embeddings of images on disk, to read and to write; `Storage.open` and `Storage.create_or_open` make one."""

    @classmethod
    def open(cls, path: str | Path, *, labels: bool = True) -> Storage:
        """Open a collection.

        Parameters
        ----------
        path
            Its folder.
        labels
            Apply labels that are only in the journal so far to the rows: see `see_latest`.

        Raises
        ------
        CollectionNotFoundError
            The folder does not contain a collection.
        TornCopyError
            It was copied while it was written, and no version of it is whole; or it is an interrupted backup.
        CollectionError
            It is damaged, or one that this version cannot read.

        Warns
        -----
        TornCopyWarning
            It is a copy that was taken while the collection was written: its newest whole version is opened.
        """
        path = at_home(path)
        if exists(path):
            make_whole(path)
        else:
            refuse_unfinished_backup(path)
        collection = cls(path, *open_tables(path))
        if labels:
            collection.see_latest()
        return collection

    @classmethod
    def create_or_open(cls, path: str | Path, model: ModelCard) -> Storage:
        """Open a collection for a model's rows, created empty if it does not exist.

        Raises
        ------
        WrongModelError
            It belongs to another model.
        CollectionError
            It is damaged, or cannot be created there.
        """
        path = at_home(path)
        if not exists(path):
            create_tables(path, model)
        collection = cls.open(path)
        collection.check_model(model)
        return collection

    def check_model(self, model: ModelCard) -> None:
        """Refuse (`WrongModelError`) a model whose embeddings could not be compared with those here."""
        check_model(self.path, self.model, model)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Hold the exclusive right to add images, for a whole run; each of its commits is `writing`.

        Raises
        ------
        CollectionBusyError
            Another process holds it.
        """
        with running(self.path):
            with self.writing():
                self._before = connect(self.path).open_table("images", version=self._images.version)
                if self._failures.count_rows():
                    index = self.index()
                    delete_failures(self._failures, [uri for uri in index.failures if uri in index.rows])
            yield

    def check_free(self) -> None:
        """Raise `CollectionBusyError` if another process is adding images: before a model is loaded for nothing."""
        with running(self.path):
            pass

    @contextlib.contextmanager
    def writing(self, *, patience: float | None = None) -> Iterator[None]:
        """Hold the exclusive right to commit, for a moment; others wait. Commits within are on disk afterwards.

        Parameters
        ----------
        patience
            Seconds to wait for another process that commits; default: half a minute.

        Raises
        ------
        CollectionBusyError
            Another process held it for all that time.
        CollectionError
            The disk is full or broken.
        """
        with locked(self.path, patience=patience), self._holding(), contextlib.ExitStack() as after:
            with storing(self.path):
                self.see_latest()
                after.enter_context(flushing(self.path))
            finish(self)
            finish_shift(self)
            yield
            with storing(self.path):
                after.close()

    def see_latest(self) -> None:
        """Reload what others have committed since, and the labels that people gave (outside of `writing`).

        Labels that are only in the journal so far are written into the rows. Where that is impossible, as in a
        read-only folder, a copy of the table that has them is read instead.
        """
        if not self._held:
            self.labelled = False
            self._show_labels()
        super().see_latest()

    def fold_labels(self, *, patience: float = 2.0) -> int:
        """Write all pending labels into the rows, in one commit.

        If it is interrupted, it has had either no effect or all of it: a pending label is the value of a cell.

        Parameters
        ----------
        patience
            Seconds to wait for another process that writes rows.

        Returns
        -------
        How many rows changed.

        Raises
        ------
        CollectionError
            Another process is writing, or the folder cannot be written to.
        """
        with self.writing(patience=patience):
            folded = self._fold()
        if folded is None:
            return 0
        self.journal.folded(folded.offset, folded.version, folded.since)
        return folded.rows

    @contextlib.contextmanager
    def nothing_pending(self) -> Iterator[int | None]:
        """Hold the right to commit and the right to label, with every label written into the rows.

        Yields
        ------
        Where the journal ends; None if there is no journal.

        Raises
        ------
        CollectionError
            Another process is writing, or the folder cannot be written to.
        """
        if not self.journal.exists():
            with self.writing():
                yield None
            return
        self.fold_labels(patience=PATIENCE)  # most of them, while others may still give labels
        with self.writing():
            while True:
                with self.journal.writing() as append:
                    folded = self._fold()
                    if folded is None:
                        yield self.journal.offset
                        return
                    append({"fold": folded.offset, "version": folded.version, "since": folded.since})

    def write(self, rows: Sequence[Row], failures: Sequence[Failure] = (), former: Former = NOTHING_FORMER) -> None:
        """Commit rows and failures; within `writing` only. Each uri comes once.

        A row whose content is None takes it from a row with its sha256, in `rows` or in the collection. Rows and
        failures that are `former` go.

        Raises
        ------
        CollectionError
            The disk is full, or cannot be written to.
        """
        with storing(self.path):
            commit(
                self._images, self._failures, self._before, self.journal, read_places(self.path), rows, failures, former
            )

    def append(self, rows: pa.Table) -> None:
        """Add rows with id, uri, sha256, embedding and any other columns, in one commit; within `writing` only."""
        with storing(self.path):
            self._images.add(with_all_columns(rows, self.schema))

    def update(self, rows: pa.Table) -> None:
        """Change columns of existing rows, in one commit; within `writing` only.

        Parameters
        ----------
        rows
            `uri` or `id`, by which the rows are found, and the columns to write, which must be there.
        """
        with storing(self.path):
            self._images.merge_insert(_key(rows)).when_matched_update_all().execute(rows)

    def update_uris(self, rows: pa.Table) -> None:
        """Give rows other uris, in one commit; `rows` has `id` and `uri`. Within `writing` only."""
        with storing(self.path):
            self._images.merge_insert("id").when_matched_update_all().execute(rows)

    def write_columns(self, rows: pa.Table) -> None:
        """Write values into existing rows, in one commit; missing columns are added.

        Other rows and other columns stay as they are, and nothing is embedded again.

        Parameters
        ----------
        rows
            `uri` or `id`, by which the rows are found, and the columns to write.

        Raises
        ------
        CollectionError
            Another process is writing, or a column exists with another type or is Birder's own.
        """
        with self.writing():
            self.add_columns({field.name: field.type for field in rows.schema if field.name not in ("uri", "id")})
            self._change(rows)

    def save_predictions(
        self,
        best: Iterable[tuple[str, Mapping[str, Any] | None]],
        names: Sequence[str],
        by: Sequence[str] | str,
        at: datetime | None,
        further: Mapping[str, pa.DataType] | None = None,
    ) -> list[str]:
        """Write the best name of each row into its columns of predictions, in one commit; labels are not touched.

        Values that an earlier run left in other such columns of these rows are removed. Parameters as for
        `birder.collection.predictions.prediction_table`; `best` is gone through once.

        Returns
        -------
        The columns that have been written.
        """
        columns, rows, parts = self.columns, iter(best), []
        for start in itertools.count(0, _PREDICTED_AT_ONCE):
            some = list(itertools.islice(rows, _PREDICTED_AT_ONCE))
            models = by if isinstance(by, str) else by[start : start + len(some)]
            parts.append(prediction_table(some, names, models, at, columns, further))
            if len(some) < _PREDICTED_AT_ONCE:
                break
        self.write_columns(pa.concat_tables(parts))
        return [*(PREFIX + name for name in (*names, *(further or {}))), SCORE, BY, AT]

    def check_columns(self, columns: Mapping[str, pa.DataType]) -> None:
        """Refuse (`CollectionError`) columns that the rows cannot have: a name that is ours, or another type."""
        own = self.columns
        for name, type_ in columns.items():
            if name in own and not fits(type_, own[name]):
                raise CollectionError(
                    f"The column {name} is {own[name]} in {self.path}, but {type_} in the table. "
                    "Convert its values, or rename it in the table."
                )
            refuse_reserved(name)

    def add_columns(self, columns: Mapping[str, pa.DataType]) -> None:
        """Add the columns that do not exist yet, null in existing rows; see `check_columns`."""
        self.check_columns(columns)
        self._add_columns(columns)

    def add_own_columns(self) -> None:
        """Add those of Birder's own columns that an older collection lacks."""
        self._add_columns({**USERS, LABEL_SOURCE: pa.string()})

    def remember_detection(self, record: DetectionRecord) -> None:
        """Keep what boxes are found by, or refuse it as `check_detection` does; within `writing` only."""
        self.check_detection(record)
        if self.detection is None:
            write_detection(self.path, record)

    def check_detection(self, record: DetectionRecord) -> None:
        """Refuse (`CollectionError`) boxes that were found in another way than those here."""
        check_detection(self.path, self.detection, record)

    def remember_shards(self, shards: Mapping[str, Shard]) -> None:
        """Store what `shards` returns; within `writing` only."""
        if shards:
            add_shards(self.path, shards)

    def forget_shards(self, places: Sequence[str]) -> None:
        """Forget the shards in some places, so that the next run scans them; within `writing` only."""
        forget_shards(self.path, places)

    def remember_roots(self, paths: Iterable[str | Path]) -> None:
        """Keep the folders among some paths as roots, from which images were embedded; within `writing` only."""
        places = read_places(self.path)
        if (more := with_roots(places, paths)) != places:
            with storing(self.path):
                write_places(self.path, more)

    def rename_failures(self, uris: Mapping[str, str], version: int) -> None:
        """Give failures other uris; within `writing` only. See `birder.collection.commit.rename_failures`."""
        rename_failures(self._failures, uris, version)

    def forget_failures(self, uris: Sequence[str]) -> None:
        """Clear failures that no longer hold, of files without a row of their own; within `writing` only."""
        with storing(self.path):
            delete_failures(self._failures, uris)

    def write_side_table(self, name: str, table: pa.Table) -> None:
        """Write a table beside the rows, in place of the former one; until then, readers have that one."""
        with self.writing(), storing(self.path):
            make_table(self.path, name, table.schema, table)

    def compact(self) -> None:
        """Join the small pieces that many commits leave, so that searching stays fast; within `writing` only."""
        with storing(self.path):
            optimize(self.path, self._images)
            optimize(self.path, self._failures)

    def table_of(self, rows: Sequence[Row], contents: Mapping[str, Content]) -> pa.Table:
        """Rows as an Arrow table of the collection's schema; `contents` has the content of each sha256."""
        return table_of(self.schema, rows, contents, self.journal, read_places(self.path))

    def _add_columns(self, columns: Mapping[str, pa.DataType]) -> None:
        new = [pa.field(name, type_) for name, type_ in columns.items() if name not in self.columns]
        if new:
            with storing(self.path):
                self._images.add_columns(pa.schema(new))
            self._changes += 1

    def _fold(self) -> _Folded | None:
        """Write pending labels into the rows; within `writing`. None: there were none."""
        cells, end = self.journal.pending(self.version)
        if not cells:
            return None
        self.add_columns(dict.fromkeys((name for name in cells if name not in self.columns), pa.string()))
        since = self.version
        changed = relabelled(self._rows, cells)
        if changed.num_rows:
            self._change(changed)
        return _Folded(int(changed.num_rows), end, self.version, since)

    def _change(self, rows: pa.Table) -> None:
        """Change columns of existing rows as `update` does, in several commits, of which one changes them."""
        with storing(self.path):
            change_columns(self._images, rows, _key(rows))
            refresh_columns(self.path, self._images, int(self._images.version))

    @contextlib.contextmanager
    def _holding(self) -> Iterator[None]:
        """Look at the rows themselves while they are written."""
        if stand_in(self.path, None):
            self._reopen()
        self._held = True
        try:
            yield
        finally:
            self._changes += 1
            self._held = False

    def _show_labels(self) -> None:
        """Fold pending labels; where that is not possible now, read a copy of the table that has them."""
        stored = self.stored_rows()
        cells, _ = self.journal.pending(stored.version)
        if cells:
            try:
                self.fold_labels()
            except CollectionError:
                stand_in(self.path, copy_with_labels(stored, cells))
                self._reopen()
                return
        if stand_in(self.path, None):
            self._reopen()

    def _reopen(self) -> None:
        """Read the rows from where `open_images` finds them from now on."""
        self._table = open_images(self.path)
        self.__dict__.pop("_async_rows", None)


def _key(rows: pa.Table) -> str:
    """The column by which rows to change are found."""
    return "uri" if "uri" in rows.column_names else "id"
