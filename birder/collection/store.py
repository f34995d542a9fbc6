"""A collection: a LanceDB table of embeddings, one row a file, and beside it the table of files that failed.

What is promised, and how. Rows appear in atomic commits. A file that becomes a row leaves `failures` after the row is
there; a row whose file turned unreadable goes before the failure is written. So a process that dies between two commits
leaves a file in one table, or in none and due again; what is left in both is a failure overcome, removed by
the next writer.
"""

from __future__ import annotations

import contextlib
import functools
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.condition import checked_condition, explained
from birder.collection.disk import connect, disk_says, locked, reading, storing
from birder.collection.rows import (
    FAILURES,
    NEEDED,
    USERS,
    VECTORS,
    Content,
    Failure,
    ModelCard,
    Row,
    check_model,
    check_table,
    column_types,
    fits,
    image_fields,
    refuse_reserved,
)
from birder.collection.whole import make_whole
from birder.errors import CollectionError, unknown_name
from birder.images.sources import RANKS, Stamp

if TYPE_CHECKING:
    from lancedb import DBConnection
    from lancedb.table import Table

    from birder.collection.quick import QuickTable
    from birder.collection.search import Found

__all__ = ["RANKS", "USERS", "Collection", "Content", "Failure", "Index", "ModelCard", "Row", "Stamp", "column_types"]

_KEY = b"birder"
_FORMAT = 1
_ABOUT = ("width", "height", "taken_at", "latitude", "longitude")
_NAMESPACE = uuid.NAMESPACE_URL


class Index(NamedTuple):
    """What a collection has: uri -> stamp of its rows and of its failures, and the sha256 (raw) of all contents."""

    rows: dict[str, Stamp]
    failures: dict[str, Stamp | None]
    contents: set[bytes]


class Shard(NamedTuple):
    """A shard as it was when a run went through it, and how many photographs are in it."""

    stamp: Stamp
    photographs: int


class Collection:
    """Embeddings of photographs on disk; `Collection.open` and `Collection.create_or_open` make one.

    Attributes
    ----------
    path
        Its folder.
    model
        What made its embeddings.
    images
        LanceDB's table of the rows, as of the last `see_latest`.
    """

    def __init__(self, path: Path, images: Table, failures: Table, model: ModelCard) -> None:
        self.path = path
        self.model = model
        self.images = images
        self._failures = failures
        self._before: Table | None = None

    @classmethod
    def open(cls, path: str | Path) -> Collection:
        """Open a collection.

        Raises
        ------
        CollectionError
            The folder holds none, or one that this version cannot read.

        Warns
        -----
        TornCopyWarning
            It is a copy that was taken while the collection was written: its newest whole version is opened.
        """
        path = Path(path)
        if not exists(path):
            raise CollectionError(f"{path} holds no collection. Make one with: birder embed PHOTOS --to {path}")
        make_whole(path)
        try:
            database = connect(path)
            images, failures = database.open_table("images"), database.open_table("failures")
            stored = json.loads((images.schema.metadata or {})[_KEY])
            version = stored.pop("format")
            if version != _FORMAT:
                raise CollectionError(f"{path} was written by a newer Birder (format {version}): update with pip.")
            model = ModelCard(**stored)
            check_table(path, images.schema, model)
            # Ours have none; of another's table it has to be counted.
            open_to_null = [name for name in NEEDED if images.schema.field(name).nullable]
            if open_to_null and images.count_rows(" OR ".join(f"{name} IS NULL" for name in open_to_null)):
                raise CollectionError(
                    f"{path} is no collection that can be used: rows have no value in {' or '.join(open_to_null)}. "
                    "Export it with what made it, and read that with: birder import."
                )
        except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
            raise CollectionError(
                f"{path} is damaged or not a collection of Birder's ({error}). "
                "Restore it from a copy, or embed the photographs into another folder."
            ) from error
        return cls(path, images, failures, model)

    @classmethod
    def create_or_open(cls, path: str | Path, model: ModelCard) -> Collection:
        """Open a collection for a model's rows, made empty if there is none.

        Raises
        ------
        CollectionError
            It belongs to another model, is damaged, or cannot be made there.
        """
        path = Path(path)
        if not exists(path):
            _create(path, model)
        collection = cls.open(path)
        collection.check_model(model)
        return collection

    def check_model(self, model: ModelCard) -> None:
        """Refuse (`CollectionError`) a model whose embeddings could not be compared with those here."""
        check_model(self.path, self.model, model)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the only right to write.

        Raises
        ------
        CollectionError
            Another process holds it.
        """
        with locked(self.path), contextlib.ExitStack() as opening:
            opening.enter_context(storing(self.path))
            self.see_latest()
            self._before = connect(self.path).open_table("images", version=self.images.version)
            if self._failures.count_rows():  # which takes a look at every row: labelling one must not
                index = self.index()
                self._delete_failures([uri for uri in index.failures if uri in index.rows])
            opening.close()
            yield

    def see_latest(self) -> None:
        """Look at what others have committed since."""
        self.images.checkout_latest()  # type: ignore[no-untyped-call]
        self._failures.checkout_latest()  # type: ignore[no-untyped-call]

    def index(self) -> Index:
        """What is there already: all that is needed to find what is missing without reading a file."""
        rows: dict[str, Stamp] = {}
        contents: set[bytes] = set()
        for batch in self.images.search().select(["uri", "sha256", *Stamp._fields]).to_batches():
            rows.update(zip(batch["uri"].to_pylist(), _stamps(batch), strict=True))
            contents.update(filter(None, map(_raw, batch["sha256"].to_pylist())))
        failures: dict[str, Stamp | None] = {}
        for batch in self._failures.search().select(["uri", *Stamp._fields]).to_batches():
            stamps = (None if stamp == (None, None, None) else stamp for stamp in _stamps(batch))
            failures.update(zip(batch["uri"].to_pylist(), stamps, strict=True))
        return Index(rows, failures, contents)

    @functools.cached_property
    def quick(self) -> QuickTable:
        """The images, kept open for finding what is nearest."""
        from birder.collection.quick import QuickTable

        return QuickTable(self.path)

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Names and Arrow types of the columns."""
        return {column.name: column.type for column in self.images.schema}

    def check_columns(self, columns: dict[str, pa.DataType]) -> None:
        """Refuse (`CollectionError`) columns that the rows cannot have: a name that is ours, or another type."""
        own = self.columns
        for name, type_ in columns.items():
            if name in own and not fits(type_, own[name]):
                raise CollectionError(
                    f"The column {name} is {own[name]} in {self.path}, but {type_} in the table. "
                    "Make its values fit, or give it another name in the table."
                )
            refuse_reserved(name)

    def add_columns(self, columns: dict[str, pa.DataType]) -> None:
        """Add the columns that are not there yet, null in the rows that are; see `check_columns`."""
        self.check_columns(columns)
        new = [pa.field(name, type_) for name, type_ in columns.items() if name not in self.columns]
        if new:
            with storing(self.path):
                self.images.add_columns(pa.schema(new))

    def write(self, rows: Sequence[Row], failures: Sequence[Failure] = ()) -> None:
        """Commit rows and failures; within `writing` only. Each uri comes once.

        A row whose content is None takes it from a row with its sha256, in `rows` or in the collection.

        Raises
        ------
        CollectionError
            The disk is full, or cannot be written to.
        """
        with storing(self.path):
            self._write(rows, failures)

    def _write(self, rows: Sequence[Row], failures: Sequence[Failure]) -> None:
        contents = {row.sha256: row.content for row in rows if row.content is not None}
        missing = {row.sha256 for row in rows} - contents.keys()
        contents |= self._find_contents(missing)
        if stale := [failure.uri for failure in failures if failure.known]:
            self.images.delete(_any_of("uri", stale))
        if new := [row for row in rows if not row.known]:
            self.images.add(self.table_of(new, contents))
        if changed := [row for row in rows if row.known]:
            merge = self.images.merge_insert("uri").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(self.table_of(changed, contents))
        if failures:
            merge = self._failures.merge_insert("uri").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(_failure_table(failures))
        self._delete_failures([row.uri for row in rows if row.failed])

    def update(self, rows: pa.Table) -> None:
        """Change columns of rows that are there, in one commit: `rows` has uri and those. Within `writing` only."""
        with storing(self.path):
            self.images.merge_insert("uri").when_matched_update_all().execute(rows)

    def scan(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of all rows, a batch at a time."""
        with reading(self.path):
            yield from self.images.search().select(list(columns)).to_batches()

    def shards(self) -> dict[str, Shard]:
        """The shards that were gone through, by uri: one that has not changed need not be again."""
        try:
            stored = json.loads((self.path / "shards.json").read_bytes())
            return {uri: Shard(Stamp(*stamp), int(count)) for uri, (stamp, count) in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # it only saves time

    def remember_shards(self, shards: Mapping[str, Shard]) -> None:
        """Keep what `shards` gives; within `writing` only."""
        if not shards:
            return
        with storing(self.path):
            draft = self.path / "shards.json.part"
            draft.write_text(json.dumps(self.shards() | dict(shards)))
            draft.replace(self.path / "shards.json")

    def compact(self) -> None:
        """Join the small pieces that many commits leave, so that searching stays fast."""
        with storing(self.path):
            self.images.optimize()
            self._failures.optimize()

    def count(self, where: str | None = None) -> int:
        """Count the rows, or those that an SQL condition holds for."""
        if where is None:
            return int(self.images.count_rows())
        condition = checked_condition(where, self.columns)
        with explained(where, self.path):
            return int(self.images.count_rows(condition))

    def search(self, **query: Any) -> Found:
        """Search by photographs, texts, rows and vectors; parameters as for `birder.collection.search.search`.

        Returns
        -------
        What `to_arrow()`, `to_pandas()` and `to_list()` give, nearest first.
        """
        from birder.collection.search import search

        return search(self, **query)

    def nearest(
        self, vector: npt.NDArray[np.float32], k: int = 10, *, where: str | None = None, columns: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """The rows whose embeddings are nearest by cosine, nearest first.

        Parameters
        ----------
        vector
            (D,) float32; need not be normalised.
        k
            How many.
        where
            An SQL condition on the columns, applied before the search: "label = 'owl' and latitude > 50".
        columns
            Which columns; all but the embedding without it.

        Returns
        -------
        One dictionary a row, with `similarity`, the cosine in [-1, 1], first.

        Raises
        ------
        CollectionError
            The vector has another length, or the condition does not read.
        """
        if vector.shape != (self.model.embedding_size,):
            raise CollectionError(
                f"{self.path} holds embeddings of {self.model.embedding_size} numbers, not of shape {vector.shape}: "
                f"embed the query with its model, {self.model.name}."
            )
        for name in columns:
            if name not in self.columns:
                raise unknown_name("column", name, self.columns)
        from birder.collection.vector_index import nearest_rows  # LanceDB comes with it: see `connect`

        selected = list(columns) or [name for name in self.columns if name not in VECTORS]
        with reading(self.path):
            table, _ = nearest_rows(self, vector, k, where=where, columns=selected)
        found = table.to_pylist()
        return [{"similarity": 1.0 - row.pop("_distance"), **row} for row in found]

    def failures(self) -> list[dict[str, Any]]:
        """The files that could not be read: uri, reason, bytes, modified, failed_at; sorted by uri."""
        rows: list[dict[str, Any]] = self._failures.to_arrow().sort_by("uri").to_pylist()
        return rows

    def to_arrow(self) -> pa.Table:
        """All rows, in memory; `embedding` is a fixed-size list of float32."""
        with reading(self.path):
            return self.images.to_arrow()

    def _delete_failures(self, uris: Sequence[str]) -> None:
        for start in range(0, len(uris), 1000):
            self._failures.delete(_any_of("uri", uris[start : start + 1000]))

    def _find_contents(self, wanted: set[str]) -> dict[str, Content]:
        """Contents by sha256, also of rows that this run has replaced since it began."""
        found: dict[str, Content] = {}
        for table in (self.images, self._before):
            missing = sorted(wanted - found.keys())
            if table is None or not missing:
                continue
            vectors = [name for name in VECTORS if name in self.columns]
            rows = table.search().where(_any_of("sha256", missing)).select(["sha256", *vectors, *_ABOUT]).to_arrow()
            arrays = {name: _matrix(rows[name]) for name in vectors}
            for i, row in enumerate(rows.select(["sha256", *_ABOUT]).to_pylist()):
                patches = arrays["patches"][i] if "patches" in arrays else None
                about = (row[name] for name in _ABOUT)
                found.setdefault(row["sha256"], Content(arrays["embedding"][i], *about)._replace(patches=patches))
        return found

    def table_of(self, rows: Sequence[Row], contents: dict[str, Content]) -> pa.Table:
        """Rows as an Arrow table of the collection's schema; `contents` has the content of each sha256."""
        schema = self.images.schema
        values: dict[str, list[Any]] = {column.name: [] for column in schema if column.name not in VECTORS}
        for row in rows:
            content = contents[row.sha256]
            filled = {name: value for name, value in row.columns.items() if value is not None}
            line = content._asdict() | filled
            line |= {"uri": row.uri, "id": str(uuid.uuid5(_NAMESPACE, row.uri)), "sha256": row.sha256}
            line |= row.stamp._asdict()
            for name, column in values.items():
                column.append(line.get(name))
        arrays = []
        for column in schema:
            if column.name in VECTORS:
                vectors = np.concatenate([getattr(contents[row.sha256], column.name) for row in rows])
                flat = pa.array(vectors.astype(column.type.value_type.to_pandas_dtype(), copy=False))
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, column.type.list_size))
            else:
                arrays.append(pa.array(values[column.name], column.type))
        return pa.Table.from_arrays(arrays, schema=schema)


def open_collection(path: str | Path) -> Collection:
    """Open the collection in a folder; see `Collection.open`."""
    return Collection.open(path)


def exists(path: str | Path) -> bool:
    """Whether a folder holds a collection; one whose making was cut short does not count."""
    # LanceDB's folders tell it without making the folder, as connecting would
    versions = Path(path) / "images.lance" / "_versions"
    return versions.is_dir() and any(entry.suffix == ".manifest" for entry in versions.iterdir())


def _create(path: Path, model: ModelCard) -> None:
    if path.is_file() or (
        path.is_dir() and any(entry.suffix != ".lance" and entry.name != "lock" for entry in path.iterdir())
    ):
        raise CollectionError(f"{path} exists and is no collection: name a new or empty folder with --to.")
    card = json.dumps({"format": _FORMAT, **asdict(model)})
    try:
        path.mkdir(parents=True, exist_ok=True)
        with locked(path):
            if exists(path):
                return  # another process has made it meanwhile
            database = connect(path)
            # The images come last: their first version is what makes it a collection.
            _create_table(database, "failures", FAILURES)
            _create_table(database, "images", pa.schema(image_fields(model), metadata={_KEY: card.encode()}))
    except (OSError, RuntimeError, ValueError) as error:
        raise CollectionError(
            f"Cannot make a collection in {path}: {disk_says(error)}. Name a folder with room that you may write to."
        ) from error


def _create_table(database: DBConnection, name: str, schema: pa.Schema) -> None:
    """Make an empty table, in place of what is left of one whose making was cut short."""
    left = (Path(database.uri) / f"{name}.lance").exists()
    database.create_table(name, schema=schema, mode="overwrite" if left else "create")


def _failure_table(failures: Sequence[Failure]) -> pa.Table:
    now = datetime.now(UTC)
    lines = [
        {
            "uri": failure.uri,
            "reason": failure.reason.encode("utf-8", "replace").decode(),
            "failed_at": now,
        }
        | (failure.stamp or Stamp(None, None))._asdict()
        for failure in failures
    ]
    columns = {c.name: pa.array([line.get(c.name) for line in lines], c.type) for c in FAILURES}
    return pa.table(columns, schema=FAILURES)


def _raw(sha256: str) -> bytes | None:
    """The bytes of a sha256; None for another text, which a collection that others made may have there."""
    try:
        return bytes.fromhex(sha256)
    except ValueError:
        return None


def _stamps(batch: pa.RecordBatch) -> Iterator[Stamp]:
    columns = (batch["bytes"], batch["modified"].cast(pa.int64()), batch["etag"])
    return map(Stamp, *(column.to_pylist() for column in columns))


def _matrix(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column of fixed-size lists as (N, size)."""
    matrix: npt.NDArray[Any] = column.combine_chunks().flatten().to_numpy().reshape(-1, column.type.list_size)
    return matrix


def _any_of(column: str, values: Sequence[str]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"
