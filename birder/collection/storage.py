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
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.disk import (
    connect,
    disk_says,
    has_table,
    images_folder,
    locked,
    make_table,
    open_images,
    reading,
    running,
    stand_in,
    storing,
)
from birder.collection.filter import checked_condition, explained
from birder.collection.flush import flush_folder, flushing
from birder.collection.journal import Journal
from birder.collection.schema import (
    FAILURES,
    LABEL_SOURCE,
    NEEDED,
    PREDICTED,
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
from birder.sources import RANKS, RESERVED, Stamp

if TYPE_CHECKING:
    from lancedb.table import Table

    from birder.collection.quick import QuickTable
    from birder.collection.search import Found

__all__ = ["RANKS", "USERS", "Content", "Failure", "Index", "ModelCard", "Row", "Stamp", "Storage", "column_types"]

_KEY = b"birder"
_FORMAT = 1
_ABOUT = ("width", "height", "taken_at", "latitude", "longitude", "suspect")
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


class Storage:
    """Embeddings of photographs on disk; `Storage.open` and `Storage.create_or_open` make one.

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
        self._images = images
        self._failures = failures
        self._before: Table | None = None
        self._held = False
        self.labelled = False

    @property
    def images(self) -> Table:
        """LanceDB's table of the rows, with the labels that were given by this object."""
        if self.labelled and not self._held:
            self.see_latest()
        return self._images

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
        CollectionError
            The folder holds none, or one that this version cannot read.

        Warns
        -----
        TornCopyWarning
            It is a copy that was taken while the collection was written: its newest whole version is opened.
        """
        path = Path(path)
        if not exists(path):
            raise CollectionError(f"{path} holds no collection. Create one with: birder embed IMAGES --in {path}")
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
        collection = cls(path, images, failures, model)
        if labels:
            collection.see_latest()
        return collection

    @classmethod
    def create_or_open(cls, path: str | Path, model: ModelCard) -> Storage:
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
    def running(self) -> Iterator[None]:
        """Hold the only right to add images, for a whole run; each of its commits is `writing`.

        Raises
        ------
        CollectionError
            Another process holds it.
        """
        with running(self.path):
            with self.writing():
                self._before = connect(self.path).open_table("images", version=self.images.version)
                if self._failures.count_rows():
                    index = self.index()
                    self._delete_failures([uri for uri in index.failures if uri in index.rows])
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
        CollectionError
            Another process held it for all that time, or the disk is full or broken.
        """
        with locked(self.path, patience=patience), self._holding(), contextlib.ExitStack() as after:
            with storing(self.path):
                self.see_latest()
                after.enter_context(flushing(self.path))
            yield
            with storing(self.path):
                after.close()

    @contextlib.contextmanager
    def _holding(self) -> Iterator[None]:
        """Look at the rows themselves while they are written."""
        if stand_in(self.path, None):
            self.use_images()
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def use_images(self) -> None:
        """Read the rows from where `open_images` finds them from now on."""
        self._images = open_images(self.path)
        self.__dict__.pop("quick", None)

    @functools.cached_property
    def journal(self) -> Journal:
        """The labels that people gave."""
        return Journal(self.path)

    @property
    def version(self) -> int:
        """The number of the version of the rows, as of the last `see_latest`."""
        return int(self.images.version)

    def see_latest(self) -> None:
        """Look at what others have committed since, and at the labels that people gave (outside of `writing`).

        Labels that are in the journal alone so far are written into the rows. Where that cannot be, as in a folder that
        may not be written to, a copy of the table that has them stands in for it.
        """
        if not self._held:
            self.labelled = False
            from birder.collection.labels import show_labels

            show_labels(self)
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

        return QuickTable(images_folder(self.path))

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Names and Arrow types of the columns."""
        return {column.name: column.type for column in self._images.schema}

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

    def add_own_columns(self) -> None:
        """Add those of Birder's own columns that a collection lacks which was made before there were any."""
        own = {**USERS, LABEL_SOURCE: pa.string()}
        if new := [pa.field(name, type_) for name, type_ in own.items() if name not in self.columns]:
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
            merge.execute(self.table_of(self._with_kept(changed), contents))
        if failures:
            merge = self._failures.merge_insert("uri").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(_failure_table(failures))
        self._delete_failures([row.uri for row in rows if row.failed])

    def update(self, rows: pa.Table) -> None:
        """Change columns of rows that are there, in one commit: `rows` has uri and those. Within `writing` only."""
        with storing(self.path):
            self.images.merge_insert("uri").when_matched_update_all().execute(rows)

    def scan(self, columns: Sequence[str] | None = None, where: str | None = None) -> Iterator[pa.RecordBatch]:
        """Columns of the rows that match a filter, a batch at a time; without columns all but the vectors."""
        names = [name for name in self.columns if name not in VECTORS] if columns is None else list(columns)
        query = self.images.search().select(names)
        query = query if where is None else query.where(checked_condition(where, self.columns))
        with reading(self.path), explained(where, self.path):
            yield from query.to_batches()

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
        from birder.collection.index import nearest_rows  # LanceDB comes with it: see `connect`

        selected = list(columns) or [name for name in self.columns if name not in VECTORS]
        with reading(self.path):
            table, _ = nearest_rows(self, vector, k, where=where, columns=selected)
        found = table.to_pylist()
        return [{"similarity": 1.0 - row.pop("_distance"), **row} for row in found]

    def failures(self) -> list[dict[str, Any]]:
        """The files that could not be read: uri, reason, bytes, modified, failed_at; sorted by uri."""
        rows: list[dict[str, Any]] = self.failures_table().to_pylist()
        return rows

    def failures_table(self) -> pa.Table:
        """The files that could not be read, as `failures` lists them."""
        return self._failures.to_arrow().sort_by("uri")

    def to_arrow(self) -> pa.Table:
        """All rows, in memory; `embedding` is a fixed-size list of float32."""
        with reading(self.path):
            return self.images.to_arrow()

    def forget_failures(self, uris: Sequence[str]) -> None:
        """Clear failures that no longer hold, of files without a row of their own; within `writing` only."""
        with storing(self.path):
            self._delete_failures(uris)

    def _with_kept(self, rows: list[Row]) -> list[Row]:
        """Rows of changed files, with what somebody wrote into the rows that they replace and the run does not bring.

        What was told from the former content goes: EXIF's time and place, and predictions. A label of a table or of a
        person is not replaced by the name of a folder.
        """
        left_out = {*RESERVED, *_ABOUT} - {LABEL_SOURCE}
        names = [name for name in self.columns if name not in left_out and not name.startswith(PREDICTED)]
        former = self.images.search().where(_any_of("uri", [row.uri for row in rows])).select(["uri", *names])
        kept = {row.pop("uri"): row for row in former.to_arrow().to_pylist()}
        changed = []
        for row in rows:
            before, now = _filled(kept.get(row.uri, {})), _filled(row.columns)
            if now.get(LABEL_SOURCE) == "folder" and before.get("label") and before.get(LABEL_SOURCE) != "folder":
                now = {name: value for name, value in now.items() if name not in ("label", LABEL_SOURCE)}
            changed.append(replace(row, columns=before | now))
        return changed

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
            about = [name for name in _ABOUT if name in table.schema.names]
            # Of a content that thousands of files have, one row's numbers, not those of all.
            held = table.search().where(_any_of("sha256", missing)).select(["sha256"]).with_row_id(True).to_arrow()
            ids = dict(zip(held["sha256"].to_pylist(), held["_rowid"].to_pylist(), strict=True))
            rows = table.take_row_ids(list(ids.values())).select(["sha256", *vectors, *about]).to_arrow()
            arrays = {name: _matrix(rows[name]) for name in vectors}
            for i, row in enumerate(rows.select(["sha256", *about]).to_pylist()):
                patches = arrays["patches"][i] if "patches" in arrays else None
                known = (row.get(name) for name in _ABOUT)
                found.setdefault(row["sha256"], Content(arrays["embedding"][i], *known)._replace(patches=patches))
        return found

    def table_of(self, rows: Sequence[Row], contents: dict[str, Content]) -> pa.Table:
        """Rows as an Arrow table of the collection's schema; `contents` has the content of each sha256."""
        schema = self.images.schema
        ids = [str(uuid.uuid5(_NAMESPACE, row.uri)) for row in rows]
        words = self.journal.words(ids, schema.names)
        told = schema.field("suspect").type == USERS["suspect"] if "suspect" in schema.names else False
        values: dict[str, list[Any]] = {column.name: [] for column in schema if column.name not in VECTORS}
        for row, id_ in zip(rows, ids, strict=True):
            content = contents[row.sha256]
            about = content if told else content._replace(suspect=None)  # a column of the user's own of that name
            line = about._asdict() | _filled(row.columns)
            line |= {"uri": row.uri, "id": id_, "sha256": row.sha256} | row.stamp._asdict()
            line |= words.get(id_, {})  # a person's word stands above what a file or a table says
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


def open_collection(path: str | Path) -> Storage:
    """Open the collection in a folder; see `Storage.open`."""
    return Storage.open(path)


def exists(path: str | Path) -> bool:
    """Whether a folder holds a collection; one whose making was cut short does not count."""
    return has_table(Path(path), "images")


def _create(path: Path, model: ModelCard) -> None:
    if path.is_file() or (path.is_dir() and any(entry.suffix not in (".lance", ".lock") for entry in path.iterdir())):
        raise CollectionError(f"{path} exists and is no collection: name a new or empty folder with --to.")
    card = json.dumps({"format": _FORMAT, **asdict(model)})
    try:
        path.mkdir(parents=True, exist_ok=True)
        with locked(path):
            if exists(path):
                return  # another process has made it meanwhile
            with flushing(path):
                make_table(path, "failures", FAILURES)
            with flushing(path):  # the images come last: their first version is what makes it a collection
                make_table(path, "images", pa.schema(image_fields(model), metadata={_KEY: card.encode()}))
        flush_folder(path.parent)
    except (OSError, RuntimeError, ValueError) as error:
        raise CollectionError(
            f"Cannot make a collection in {path}: {disk_says(error)}. Name a folder with room that you may write to."
        ) from error


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


def _filled(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value is not None}


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
