"""A collection on disk: a LanceDB table of embeddings, one row a file, and beside it the table of files that failed.

What is promised, and how. Rows appear in atomic commits. A file that becomes a row leaves `failures` after the row is
there; a row whose file turned unreadable goes before the failure is written. So a process that dies between two commits
leaves a file in one table, or in none and due again; what is left in both is a failure overcome, removed by
the next writer.

`Storage` holds the tables, and everything else asks it: no other room of Birder knows LanceDB. It is made of `creation`
(tables made and opened), `reading`, `commit` (rows written), `pending` (labels that rows do not have yet) and
`inventory` (what is there already).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.async_rows import AsyncRows
from birder.collection.commit import commit, delete_failures, table_of, with_all_columns
from birder.collection.creation import create_tables, exists, open_tables
from birder.collection.disk import (
    PATIENCE,
    connect,
    has_table,
    images_folder,
    locked,
    make_table,
    open_images,
    optimize,
    reading,
    running,
    stand_in,
    storing,
)
from birder.collection.filter import Filter, as_filter
from birder.collection.flush import flushing
from birder.collection.inventory import COLUMNS, FAILURE_COLUMNS, Index, Shard, add_shards, index_of, read_shards
from birder.collection.journal import Journal
from birder.collection.pending import copy_with_labels, relabelled
from birder.collection.predictions import AT, BY, PREFIX, SCORE, prediction_table
from birder.collection.reading import RowReader
from birder.collection.schema import (
    LABEL_SOURCE,
    USERS,
    Content,
    Failure,
    ModelCard,
    Row,
    check_model,
    column_types,
    fits,
    refuse_reserved,
)
from birder.collection.whole import make_whole, refuse_unfinished_backup
from birder.errors import CollectionError
from birder.sources import Stamp

if TYPE_CHECKING:
    from lancedb.table import Table

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


class _Folded(NamedTuple):
    """How many rows got labels, up to which offset of the journal, and which version of the rows has them."""

    rows: int
    offset: int
    version: int


class Storage:
    """Embeddings of images on disk; `Storage.open` and `Storage.create_or_open` make one.

    Attributes
    ----------
    path
        Its folder.
    model
        What made its embeddings.
    labelled
        Whether labels were given by this object that its rows do not have yet.
    """

    def __init__(self, path: Path, images: Table, failures: Table, model: ModelCard) -> None:
        self.path = path
        self.model = model
        self._table = images
        self._failures = failures
        self._before: Table | None = None
        self._held = False
        self.labelled = False

    @classmethod
    def open(cls, path: str | Path, *, labels: bool = True) -> Storage:
        """Open a collection.

        Parameters
        ----------
        path
            Its folder.
        labels
            Let the rows have the labels that are in the journal alone so far: see `see_latest`.

        Raises
        ------
        CollectionNotFoundError
            The folder holds no collection.
        TornCopyError
            It was copied while it was written, and no version of it is whole; or it is an interrupted backup.
        CollectionError
            It is damaged, or one that this version cannot read.

        Warns
        -----
        TornCopyWarning
            It is a copy that was taken while the collection was written: its newest whole version is opened.
        """
        path = Path(path)
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
        """Open a collection for a model's rows, created empty if there is none.

        Raises
        ------
        WrongModelError
            It belongs to another model.
        CollectionError
            It is damaged, or cannot be created there.
        """
        path = Path(path)
        if not exists(path):
            create_tables(path, model)
        collection = cls.open(path)
        collection.check_model(model)
        return collection

    # What is there

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Names and Arrow types of the columns."""
        return {column.name: column.type for column in self._table.schema}

    @property
    def schema(self) -> pa.Schema:
        """All columns, with the model's card in the metadata."""
        return self._table.schema

    @property
    def version(self) -> int:
        """The number of the version of the rows, as of the last `see_latest`."""
        return int(self._images.version)

    def newest_version(self) -> int:
        """The number of the newest version of the rows on the disk; what this object reads stays as it is."""
        self._newest.checkout_latest()  # type: ignore[no-untyped-call]
        return int(self._newest.version)

    @functools.cached_property
    def journal(self) -> Journal:
        """The labels that people gave."""
        return Journal(self.path)

    def check_model(self, model: ModelCard) -> None:
        """Refuse (`WrongModelError`) a model whose embeddings could not be compared with those here."""
        check_model(self.path, self.model, model)

    def index(self) -> Index:
        """What is there already: all that is needed to find what is missing without reading a file."""
        failures = self._failures.search().select(list(FAILURE_COLUMNS)).to_batches()
        return index_of(self.scan(COLUMNS), failures)

    def shards(self) -> dict[str, Shard]:
        """The shards that were gone through, by uri: one that has not changed need not be again."""
        return read_shards(self.path)

    # Reading

    def count(self, where: str | Filter | None = None) -> int:
        """Count the rows, or those that match a filter."""
        return self._rows.count(as_filter(where, self.columns))

    def scan(self, columns: Sequence[str] | None = None, where: str | Filter | None = None) -> Iterator[pa.RecordBatch]:
        """Go through the rows as of the last `see_latest`; see `RowReader.scan`."""
        return self._rows.scan(columns, as_filter(where, self.columns))

    def embedding_batches(
        self, columns: Sequence[str] = ("uri",), where: str | Filter | None = None
    ) -> Iterator[tuple[pa.Table, npt.NDArray[np.float32]]]:
        """Go through the rows as they are now with their embeddings; see `RowReader.embedding_batches`."""
        rows = self.snapshot()
        return rows.embedding_batches(columns, as_filter(where, rows.columns))

    def to_arrow(self) -> pa.Table:
        """All rows, in memory; `embedding` is a fixed-size list of float32."""
        with reading(self.path):
            return self._images.to_arrow()

    def snapshot(self) -> RowReader:
        """The rows as they are now, to be read as often as needed: later commits do not show."""
        images = open_images(self.path)
        images.checkout(images.version)
        return RowReader(self.path, images)

    def stored_rows(self) -> RowReader:
        """The rows as they are now in the collection's own table, without labels that are in the journal alone."""
        return RowReader(self.path, connect(self.path).open_table("images"))

    def failures(self) -> list[dict[str, Any]]:
        """The files that could not be read: uri, reason, bytes, modified, failed_at; sorted by uri."""
        rows: list[dict[str, Any]] = self.failures_table().to_pylist()
        return rows

    def failures_table(self) -> pa.Table:
        """The files that could not be read, as `failures` lists them."""
        return self._failures.to_arrow().sort_by("uri")

    def newest_failures(self) -> pa.Table:
        """The files that could not be read, as of now: uri, reason, failed_at; sorted by uri."""
        self._failures.checkout_latest()  # type: ignore[no-untyped-call]
        return self._failures.search().select(["uri", "reason", "failed_at"]).to_arrow().sort_by("uri")

    def count_newest_failures(self) -> int:
        """How many files could not be read, as of now."""
        self._failures.checkout_latest()  # type: ignore[no-untyped-call]
        return int(self._failures.count_rows())

    def side_table(self, name: str) -> pa.Table | None:
        """A table beside the rows, such as the map; None if there is none.

        Raises
        ------
        CollectionError
            It is damaged.
        """
        if not has_table(self.path, name):
            return None
        try:
            return connect(self.path).open_table(name).to_arrow()
        except (ValueError, RuntimeError, OSError) as error:
            raise CollectionError(
                f"The table {name} of {self.path} is damaged ({error}). Make it again, or restore it from a copy."
            ) from error

    # Writing

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Hold the only right to add images, for a whole run; each of its commits is `writing`.

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

    @contextlib.contextmanager
    def writing(self, *, patience: float | None = None) -> Iterator[None]:
        """Hold the only right to commit, for a moment: others wait. What is committed within is on the disk after it.

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
            yield
            with storing(self.path):
                after.close()

    def see_latest(self) -> None:
        """Look at what others have committed since, and at the labels that people gave (outside of `writing`).

        Labels that are in the journal alone so far are written into the rows. Where that cannot be, as in a folder that
        may not be written to, a copy of the table that has them is read in its place.
        """
        if not self._held:
            self.labelled = False
            self._show_labels()
        self._images.checkout_latest()  # type: ignore[no-untyped-call]
        self._failures.checkout_latest()  # type: ignore[no-untyped-call]

    def fold_labels(self, *, patience: float = 2.0) -> int:
        """Write all pending labels into the rows, in one commit.

        Interrupted at any moment it has no effect, or that of having been finished: what is pending is a value for a
        cell.

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
        self.journal.folded(folded.offset, folded.version)
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
                    append({"fold": folded.offset, "version": folded.version})

    def write(self, rows: Sequence[Row], failures: Sequence[Failure] = ()) -> None:
        """Commit rows and failures; within `writing` only. Each uri comes once.

        A row whose content is None takes it from a row with its sha256, in `rows` or in the collection.

        Raises
        ------
        CollectionError
            The disk is full, or cannot be written to.
        """
        with storing(self.path):
            commit(self._images, self._failures, self._before, self.journal, rows, failures)

    def append(self, rows: pa.Table) -> None:
        """Add rows with id, uri, sha256, embedding and any other columns, in one commit; within `writing` only."""
        with storing(self.path):
            self._images.add(with_all_columns(rows, self.schema))

    def update(self, rows: pa.Table) -> None:
        """Change columns of rows that are there, in one commit; within `writing` only.

        Parameters
        ----------
        rows
            `uri` or `id`, by which the rows are found, and the columns to write, which must be there.
        """
        key = "uri" if "uri" in rows.column_names else "id"
        with storing(self.path):
            self._images.merge_insert(key).when_matched_update_all().execute(rows)

    def write_columns(self, rows: pa.Table) -> None:
        """Write values into rows that are there, in one commit; columns that are not there yet are added.

        Other rows and other columns stay as they are, and nothing is embedded again.

        Parameters
        ----------
        rows
            `uri` or `id`, by which the rows are found, and the columns to write.

        Raises
        ------
        CollectionError
            Another process is writing, or a column is there with another type or is Birder's own.
        """
        with self.writing():
            self.add_columns({field.name: field.type for field in rows.schema if field.name not in ("uri", "id")})
            self.update(rows)

    def save_predictions(
        self,
        best: Sequence[tuple[str, Mapping[str, Any] | None]],
        names: Sequence[str],
        by: Sequence[str] | str,
        at: datetime | None,
    ) -> list[str]:
        """Write the best name of each row into its columns of predictions; labels are not touched.

        What an earlier run said of these rows in other such columns is taken away. Parameters as for
        `birder.collection.predictions.prediction_table`.

        Returns
        -------
        The columns that have been written.
        """
        self.write_columns(prediction_table(best, names, by, at, self.columns))
        return [*(PREFIX + name for name in names), SCORE, BY, AT]

    def check_columns(self, columns: Mapping[str, pa.DataType]) -> None:
        """Refuse (`CollectionError`) columns that the rows cannot have: a name that is ours, or another type."""
        own = self.columns
        for name, type_ in columns.items():
            if name in own and not fits(type_, own[name]):
                raise CollectionError(
                    f"The column {name} is {own[name]} in {self.path}, but {type_} in the table. "
                    "Make its values fit, or give it another name in the table."
                )
            refuse_reserved(name)

    def add_columns(self, columns: Mapping[str, pa.DataType]) -> None:
        """Add the columns that are not there yet, null in the rows that are; see `check_columns`."""
        self.check_columns(columns)
        self._add_columns(columns)

    def add_own_columns(self) -> None:
        """Add those of Birder's own columns that a collection lacks which was created before there were any."""
        self._add_columns({**USERS, LABEL_SOURCE: pa.string()})

    def remember_shards(self, shards: Mapping[str, Shard]) -> None:
        """Keep what `shards` gives; within `writing` only."""
        if shards:
            add_shards(self.path, shards)

    def forget_failures(self, uris: Sequence[str]) -> None:
        """Clear failures that no longer hold, of files without a row of their own; within `writing` only."""
        with storing(self.path):
            delete_failures(self._failures, uris)

    def write_side_table(self, name: str, table: pa.Table) -> None:
        """Write a table beside the rows, in place of the former one; until it is there, readers have that one."""
        with self.writing(), storing(self.path):
            make_table(self.path, name, table.schema, table)

    def compact(self) -> None:
        """Join the small pieces that many commits leave, so that searching stays fast; within `writing` only."""
        with storing(self.path):
            optimize(self.path, self._images)
            optimize(self.path, self._failures)

    def table_of(self, rows: Sequence[Row], contents: Mapping[str, Content]) -> pa.Table:
        """Rows as an Arrow table of the collection's schema; `contents` has the content of each sha256."""
        return table_of(self.schema, rows, contents, self.journal)

    # For the modules of this room

    @property
    def _images(self) -> Table:
        """LanceDB's table of the rows, with the labels that were given by this object."""
        if self.labelled and not self._held:
            self.see_latest()
        return self._table

    @property
    def _rows(self) -> RowReader:
        return RowReader(self.path, self._images)

    @functools.cached_property
    def _async_rows(self) -> AsyncRows:
        """The rows, kept open for finding what is nearest."""
        return AsyncRows(images_folder(self.path))

    @functools.cached_property
    def _newest(self) -> Table:
        return connect(self.path).open_table("images")

    def _add_columns(self, columns: Mapping[str, pa.DataType]) -> None:
        new = [pa.field(name, type_) for name, type_ in columns.items() if name not in self.columns]
        if new:
            with storing(self.path):
                self._images.add_columns(pa.schema(new))

    def _fold(self) -> _Folded | None:
        """Write pending labels into the rows; within `writing`. None: there were none."""
        cells, end = self.journal.pending(self.version)
        if not cells:
            return None
        self.add_columns(dict.fromkeys((name for name in cells if name not in self.columns), pa.string()))
        changed = relabelled(self._rows, cells)
        if changed.num_rows:
            self.update(changed)
        return _Folded(int(changed.num_rows), end, self.version)

    @contextlib.contextmanager
    def _holding(self) -> Iterator[None]:
        """Look at the rows themselves while they are written."""
        if stand_in(self.path, None):
            self._reopen()
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _show_labels(self) -> None:
        """Fold pending labels; where that cannot be now, read a copy of the table that has them."""
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
