"""The indexes of a collection: they make searching and filtering a million embeddings fast.

Columns have indexes of LanceDB; embeddings have files beside the table (`birder.collection.vector_files`). Both are
optional: rows that they do not cover yet are looked at one by one, and so are all rows without them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.disk import images_folder, optimize, storing
from birder.collection.filter import Filter, filter_errors
from birder.collection.filter_source import sql_of
from birder.collection.manifest import Fragment, column_files, fragments
from birder.collection.storage import Storage
from birder.collection.vector_files import (
    FOLDER,
    GONE,
    VectorFiles,
    live_addresses,
    open_files,
    row_addresses,
    write_files,
)
from birder.errors import CollectionError, unknown_name
from birder.sources import RESERVED
from birder.vectors import length, unit

AUTOMATIC = 20_000
"""Rows from which a collection is indexed automatically: LanceDB compares so many in about 0.1 s."""
_UNINDEXED = 5_000  # rows that filters look at one by one before they are added to the indexes of columns
_MANY_VALUES = 1_000  # a bitmap for each value up to here, a tree for more
_LEFT_OUT = RESERVED - {"id", "uri"}


@dataclass(frozen=True)
class IndexReport:
    """What was done: rows whose embeddings are indexed, columns with an index and its kind, seconds taken."""

    rows: int
    columns: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class IndexStatus:
    """The state of the indexes.

    Attributes
    ----------
    rows
        Rows of the collection.
    kind, indexed
        How embeddings are compared ("HNSW", or "float16" without a graph), and the rows that the files beside the table
        have; None if there are none.
    trained_on
        The number of rows when the graph was built.
    columns
        Columns with an index: its kind, and the rows that it has.
    """

    rows: int
    kind: str | None
    indexed: int | None
    trained_on: int | None
    columns: dict[str, tuple[str, int]]


def make_index(collection: Storage, *, columns: Sequence[str] = ()) -> IndexReport:
    """Build the vector index and those of columns, replacing existing ones.

    Parameters
    ----------
    collection
        The collection; no other process may be writing to it.
    columns
        The columns that filters use; default: id, uri, and every other column that has values.

    Raises
    ------
    UnknownNameError
        The column does not exist.
    CollectionError
        Another process is writing, the disk is full, or there are too few rows.
    """
    with collection.writing():
        return _make(collection, columns)


def ensure_index(collection: Storage) -> IndexReport | None:
    """Make the indexes of a collection that has become large, or bring them up to date; within `writing` only.

    A collection of fewer than `AUTOMATIC` rows is indexed only when a user asks for it.

    Returns
    -------
    What was done; None if there was nothing to do.
    """
    files = open_files(collection.path, collection.model.embedding_size)
    if files is None:
        wanted = collection.count() >= AUTOMATIC and _fragments(collection) is not None
        return _make(collection, ()) if wanted else None
    begun = time.perf_counter()
    status = index_status(collection)
    columns = {name: kind for name, (kind, _) in status.columns.items()}
    lagging = any(status.rows - rows >= _UNINDEXED for _, rows in status.columns.values())
    if lagging:
        with storing(collection.path):
            optimize(collection.path, collection._images)
    parts = _fragments(collection)
    if parts is None or (not lagging and parts == files.fragments and _columns_fit(collection, files)):
        return None
    return IndexReport(_write(collection), columns, time.perf_counter() - begun)


def index_status(collection: Storage) -> IndexStatus:
    """The state of a collection's indexes."""
    images = collection._images
    columns = {
        index.columns[0]: (index.index_type, int(index.num_indexed_rows or 0)) for index in images.list_indices()
    }
    columns.pop("embedding", None)  # of an earlier version of Birder
    rows = int(images.count_rows())
    files, parts = open_files(collection.path, collection.model.embedding_size), _fragments(collection)
    if files is None or parts is None:
        return IndexStatus(rows, None, None, None, columns)
    living = None if parts == files.fragments else row_addresses(images)
    indexed = int((live_addresses(files, parts, living) != GONE).sum())
    kind = "float16" if files.graph is None else "HNSW"
    return IndexStatus(rows, kind, indexed, files.trained_on or None, columns)


@dataclass(frozen=True)
class NearestRows:
    """What `nearest_rows` found.

    Attributes
    ----------
    rows
        The columns of the rows, nearest first.
    similarities
        (N,) float64, their cosines. If not all rows were compared, those of the embeddings as float16, which are off by
        less than 5e-4.
    exact
        Whether all rows were compared, rather than those that the graph led to.
    """

    rows: pa.Table
    similarities: npt.NDArray[np.float64]
    exact: bool


def nearest_rows(
    collection: Storage,
    vector: npt.NDArray[np.float32],
    k: int,
    *,
    where: Filter | None = None,
    columns: Sequence[str],
    exact: bool = False,
) -> NearestRows:
    """The rows nearest to a vector by cosine, by the files beside the table if they fit.

    Parameters
    ----------
    collection
        Kept open: opening it again loads the files again.
    vector
        (D,) float32, not 0.
    k
        How many; fewer only if no more rows match the filter.
    where
        Applied before the search.
    columns
        Which columns.
    exact
        Compare all rows.
    """
    images, version = collection._images, collection.version
    rows = collection._nearest.at(images, version)
    if rows is None:
        with filter_errors(where, collection.path):
            return _compared_by_lancedb(collection, version, vector, k, where, columns)
    direction = vector.astype(np.float64) / (length(vector) or 1.0)
    chosen = None
    if where is not None:
        with filter_errors(where, collection.path):
            chosen = rows.places(sql_of(where, collection.path, images), images)
    addresses, near, compared = rows.nearest(direction.astype(np.float32), k, chosen, exact=exact)
    cosines = near.astype(np.float64)
    if compared:
        embeddings = collection.take(version, addresses, ["embedding"])["embedding"].combine_chunks()
        known = unit(embeddings.flatten().to_numpy().reshape(-1, len(vector)).astype(np.float64))
        cosines = known @ direction
        order = np.lexsort((addresses, -cosines))[:k]
        addresses, cosines = addresses[order], cosines[order]
    found, rest = rows.columns.take(addresses, columns)
    if rest:
        more = collection.take(version, addresses, rest)
        for name in rest:
            found = more.select([name]) if not found.num_columns else found.append_column(name, more[name])
        found = found.select(list(columns))
    return NearestRows(found, cosines, compared)


def vectors_for_graph(collection: Storage, addresses: npt.NDArray[np.uint64], k: int) -> npt.NDArray[np.float32] | None:
    """Embeddings of rows as float16 vectors of length 1, (N, D), from the files beside the table.

    They are as precise as what the graph compares them with, and are there in a tenth of the time that LanceDB takes.

    Parameters
    ----------
    collection
        The collection.
    addresses
        Where the rows are stored in its version.
    k
        How many rows are searched for, among all.

    Returns
    -------
    None if the graph does not answer such a search, or the files lack one of the rows: LanceDB has their embeddings.
    """
    rows = collection._nearest.at(collection._images, collection.version)
    found = rows.vectors(addresses) if rows is not None and rows.has_graph_for(k, None) else None
    return None if found is None else found.astype(np.float32)


def _compared_by_lancedb(
    collection: Storage,
    version: int,
    vector: npt.NDArray[np.float32],
    k: int,
    where: Filter | None,
    columns: Sequence[str],
) -> NearestRows:
    sql = None if where is None else sql_of(where, collection.path, collection._images)

    def make(table: Any) -> Any:
        query: Any = table.query().nearest_to(vector).column("embedding").distance_type("cosine").limit(k)
        query = query if sql is None else query.where(sql)
        return query.bypass_vector_index().select([*columns, "_distance"])

    found = collection._async_rows.run(version, make)
    cosines = 1.0 - found["_distance"].to_numpy().astype(np.float64)
    return NearestRows(found.select(list(columns)), cosines, True)


def _fragments(collection: Storage) -> list[Fragment] | None:
    return fragments(images_folder(collection.path) / "images.lance", int(collection._images.version), "embedding")


def _columns_fit(collection: Storage, files: VectorFiles) -> bool:
    held = column_files(images_folder(collection.path) / "images.lance", int(collection._images.version))
    return held is None or files.rows.fitting(held).complete


def _write(collection: Storage) -> int:
    """Bring the files beside the table up to it, or make them; the rows that they have."""
    images = collection._images
    parts = _fragments(collection)
    if parts is None:
        raise CollectionError(
            f"The table of {collection.path} has a form that this version of Birder does not know, so its embeddings "
            "cannot be indexed. Search works without; it compares all rows."
        )
    with storing(collection.path):
        files = write_files(collection.path, images, int(images.version), parts, collection.model.embedding_size)
    return int((files.addresses != GONE).sum())


def _make(collection: Storage, columns: Sequence[str]) -> IndexReport:
    begun = time.perf_counter()
    kinds = _kinds(collection, columns)
    images = collection._images
    rows = int(images.count_rows())
    if rows < 256:
        raise CollectionError(
            f"{collection.path} has {rows:,} rows: an index needs at least 256, and pays off from {AUTOMATIC:,}. "
            "Search works without one."
        )
    with storing(collection.path):
        for index in images.list_indices():
            if index.columns == ["embedding"]:  # of an earlier version of Birder
                images.drop_index(index.name)
        for name, kind in kinds.items():
            images.create_index(name, config=_column_config(kind), replace=True)
        (collection.path / "index.json").unlink(missing_ok=True)  # the same
        shutil.rmtree(collection.path / FOLDER, ignore_errors=True)
    return IndexReport(_write(collection), kinds, time.perf_counter() - begun)


def _column_config(kind: str) -> Any:
    """LanceDB's settings for the index of a column."""
    from lancedb.index import Bitmap, BTree, LabelList  # see `birder.collection.disk.connect`

    kinds: dict[str, Any] = {"BTREE": BTree, "BITMAP": Bitmap, "LABEL_LIST": LabelList}
    return kinds[kind]()


def _kinds(collection: Storage, columns: Sequence[str]) -> dict[str, str]:
    """Which kind of index each column gets."""
    own = collection.columns
    for name in columns:
        if name not in own:
            raise unknown_name("column", name, own)
    chosen = list(columns) or [name for name in own if name not in _LEFT_OUT]
    kinds: dict[str, str] = {}
    for name in chosen:
        type_ = own[name]
        if pa.types.is_boolean(type_):
            kinds[name] = "BITMAP"
        elif pa.types.is_list(type_) or pa.types.is_large_list(type_):
            kinds[name] = "LABEL_LIST"
        elif pa.types.is_string(type_) or pa.types.is_large_string(type_):
            kinds[name] = "BTREE" if name in ("id", "uri") else "BITMAP"
        elif pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_temporal(type_):
            kinds[name] = "BTREE"
        elif columns:
            raise CollectionError(f"The column {name} is {type_}, which cannot be indexed. Leave it out.")
    values = _some_values(collection, list(kinds))
    empty = {name for name, count in values.items() if count == 0 and name not in columns}
    return {
        name: "BTREE" if kind == "BITMAP" and values[name] > _MANY_VALUES else kind
        for name, kind in kinds.items()
        if name not in empty
    }


def _some_values(collection: Storage, columns: list[str]) -> dict[str, int]:
    """How many values each column has; of many, only that there are more than `_MANY_VALUES`."""
    seen: dict[str, pa.Array | None] = dict.fromkeys(columns)
    counts = dict.fromkeys(columns, 0)
    for batch in collection.scan(columns) if columns else ():
        for name in columns:
            if counts[name] > _MANY_VALUES:
                continue
            values = batch[name].drop_null()
            if pa.types.is_nested(values.type):
                counts[name] = max(counts[name], min(1, len(values)))
                continue
            before = seen[name]
            seen[name] = now = pc.unique(values if before is None else pa.concat_arrays([before, values]))
            counts[name] = len(now)
    return counts
