"""Reading what is committed in a collection: rows, failures, and the tables beside them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.async_rows import AsyncRows
from birder.collection.detection import DETECTIONS, DetectionRecord, read_detection
from birder.collection.disk import connect, has_table, images_folder, open_images, reading
from birder.collection.filter import Filter, as_filter
from birder.collection.inventory import COLUMNS, FAILURE_COLUMNS, Index, Shard, index_of, read_shards
from birder.collection.journal import Journal
from birder.collection.nearest import Nearest
from birder.collection.reading import ROWS_IN_MEMORY, RowReader
from birder.collection.row_files import in_order
from birder.collection.schema import ModelCard
from birder.errors import CollectionError

if TYPE_CHECKING:
    from lancedb.table import Table


class Committed:
    """The tables of a collection, for reading; `birder.collection.storage.Storage` also writes.

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
        self._changes = 0  # times that the version of the rows may have changed
        # at which change, of what; version, schema and columns
        self._known: tuple[int, Table, int, pa.Schema, dict[str, pa.DataType]] | None = None
        self.labelled = False

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Names and Arrow types of the columns."""
        return dict(self._version_and_schema(self._table)[2])

    @property
    def schema(self) -> pa.Schema:
        """All columns, with the model's card in the metadata."""
        return self._version_and_schema(self._table)[1]

    @property
    def version(self) -> int:
        """The number of the version of the rows, as of the last `see_latest`."""
        return self._version_and_schema(self._images)[0]

    def _version_and_schema(self, table: Table) -> tuple[int, pa.Schema, dict[str, pa.DataType]]:
        """Of the rows, and the columns; LanceDB is not asked twice (0.1 ms each), unless this object is writing."""
        known, changes = self._known, self._changes
        if known is None or known[0] != changes or known[1] is not table or self._held:
            schema = table.schema
            columns = {column.name: column.type for column in schema}
            known = self._known = changes, table, int(table.version), schema, columns
        return known[2:]

    def newest_version(self) -> int:
        """The number of the newest version of the rows on the disk; what this object reads stays as it is."""
        self._newest.checkout_latest()  # type: ignore[no-untyped-call]
        return int(self._newest.version)

    @functools.cached_property
    def journal(self) -> Journal:
        """The labels given by people."""
        return Journal(self.path)

    def index(self) -> Index:
        """What exists already: enough to find what is missing without reading a file."""
        failures = self._failures.search().select(list(FAILURE_COLUMNS)).to_batches()
        more = () if self.detection is None or DETECTIONS not in self.columns else (DETECTIONS,)
        return index_of(self.scan([*COLUMNS, *more]), failures)

    @property
    def detection(self) -> DetectionRecord | None:
        """What the boxes were found by; None if no run has detected."""
        return read_detection(self.path)

    def shards(self) -> dict[str, Shard]:
        """The shards that were scanned, by uri: an unchanged one need not be scanned again."""
        return read_shards(self.path)

    def see_latest(self) -> None:
        """Reload what others have committed since."""
        self._images.checkout_latest()  # type: ignore[no-untyped-call]
        self._changes += 1
        self._failures.checkout_latest()  # type: ignore[no-untyped-call]

    def count(self, where: str | Filter | None = None) -> int:
        """Count the rows, or those that match a filter."""
        return self._rows.count(as_filter(where, self.columns))

    def scan(self, columns: Sequence[str] | None = None, where: str | Filter | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows as of the last `see_latest`; see `RowReader.scan`."""
        return self._rows.scan(columns, as_filter(where, self.columns))

    def embedding_batches(
        self, columns: Sequence[str] = ("uri",), where: str | Filter | None = None
    ) -> Iterator[tuple[pa.Table, npt.NDArray[np.float32]]]:
        """Iterate over the rows as they are now, with their embeddings; see `RowReader.embedding_batches`."""
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

    @property
    def failures_version(self) -> int:
        """The number of the version of the failures, as of the last `see_latest`."""
        return int(self._failures.version)

    def failed_uris(self) -> list[str]:
        """The uris of the files that could not be read."""
        uris: list[str] = self._failures.search().select(["uri"]).to_arrow()["uri"].to_pylist()
        return uris

    def newest_failures(self) -> pa.Table:
        """The files that could not be read, as of now: uri, reason, failed_at; sorted by uri."""
        self._failures.checkout_latest()  # type: ignore[no-untyped-call]
        return self._failures.search().select(["uri", "reason", "failed_at"]).to_arrow().sort_by("uri")

    def count_newest_failures(self) -> int:
        """How many files could not be read, as of now."""
        self._failures.checkout_latest()  # type: ignore[no-untyped-call]
        return int(self._failures.count_rows())

    def side_table(self, name: str) -> pa.Table | None:
        """A table stored beside the rows, such as the map; None if it does not exist.

        Raises
        ------
        CollectionError
            It is damaged.
        """
        if not has_table(self.path, name):
            return None
        try:
            return connect(self.path).open_table(name).search().to_batches(ROWS_IN_MEMORY).read_all()
        except (ValueError, RuntimeError, OSError) as error:
            raise CollectionError(
                f"The table {name} of {self.path} is damaged ({error}). Recreate it, or restore it from a copy."
            ) from error

    def take(self, version: int, addresses: npt.NDArray[np.uint64], columns: Sequence[str]) -> pa.Table:
        """Columns of rows of a version of the table itself, in the order of their addresses."""
        found = self._async_rows.run(
            version, lambda table: table.take_row_ids(addresses.tolist()).select(list(columns)).with_row_id()
        )
        return in_order(found, addresses).select(list(columns))

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
    def _nearest(self) -> Nearest:
        """What makes the nearest rows fast to find, kept open."""
        return Nearest(self.path, self.model.embedding_size)

    @functools.cached_property
    def _newest(self) -> Table:
        return connect(self.path).open_table("images")
