"""The indexes of a collection: they make searching and filtering a million embeddings fast.

An index is optional: rows that it does not cover yet are compared one by one, and so are all rows if it cannot be read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.disk import optimize, storing
from birder.collection.filter import Filter, filter_errors
from birder.collection.storage import Storage
from birder.errors import CollectionError, unknown_name
from birder.files import replacing
from birder.sources import RESERVED

AUTOMATIC = 50_000
"""Rows from which a collection is indexed automatically: comparing all of them takes about 0.2 s."""
PROBES = 60
"""Partitions of the index that a search reads. Of the 244 of 1,000,000 rows (benchmarks/search.py), which begin at
random: recall@10 0.948 to 0.957 with 50 in several indexes, 0.961 with 60 in the worst of them, for 6 % more time."""
_UNINDEXED = 5_000  # rows that every search compares one by one before they are added to the index
_GROWN = 4  # times the rows that the partitions were made for, until they are rebuilt
_MANY_VALUES = 1_000  # a bitmap for each value up to here, a tree for more
_ENOUGH_BITS = 256
_REFINED = 4  # rows compared exactly for each that is wanted; more where fewer bits stand for each row
_MEMORY = "index.json"
_LEFT_OUT = RESERVED - {"id", "uri"}


@dataclass(frozen=True)
class IndexReport:
    """What was done: rows in the vector index, the columns with an index of their own and its kind, seconds taken."""

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
        The vector index, and the rows that it has; None if there is none.
    trained_on
        The number of rows when its partitions were made.
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
    """Make the index of a collection that has become large, or bring it up to date; within `writing` only.

    A collection of up to `AUTOMATIC` rows is indexed only when a user asks for it. New rows are added once there are
    some thousand of them; when the collection has grown to four times what the partitions were made for, they are
    rebuilt.

    Returns
    -------
    What was done; None if there was nothing to do.
    """
    status = index_status(collection)
    if status.indexed is None:
        return _make(collection, ()) if status.rows >= AUTOMATIC else None
    if status.trained_on is not None and status.rows >= _GROWN * status.trained_on:
        return _make(collection, tuple(status.columns))
    if status.rows - status.indexed < _UNINDEXED:
        return None
    begun = time.perf_counter()
    with storing(collection.path):
        optimize(collection.path, collection._images)
    now = index_status(collection)
    kinds = {name: kind for name, (kind, _) in now.columns.items()}
    return IndexReport(now.indexed or 0, kinds, time.perf_counter() - begun)


def index_status(collection: Storage) -> IndexStatus:
    """The state of a collection's indexes."""
    images = collection._images
    columns = {
        index.columns[0]: (index.index_type, int(index.num_indexed_rows or 0)) for index in images.list_indices()
    }
    kind, indexed = columns.pop("embedding", (None, None))
    return IndexStatus(int(images.count_rows()), kind, indexed, _trained_on(collection.path), columns)


def nearest_rows(
    collection: Storage,
    vector: npt.NDArray[np.float32],
    k: int,
    *,
    where: Filter | None = None,
    columns: Sequence[str],
    exact: bool = False,
    probes: int = PROBES,
    refine: int | None = None,
) -> tuple[pa.Table, str | None]:
    """The rows nearest to a vector by cosine, by the index if there is one.

    Parameters
    ----------
    collection
        Kept open: opening it again loads the index again.
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
    probes, refine
        In how many partitions of the index to look, 0 for all; and how many rows to compare exactly for each wanted.

    Returns
    -------
    The columns and `_distance`, 1 - cosine, nearest first; and a note for the user where the index did not work.
    """
    images, path = collection._images, collection.path
    refine = refine or max(_REFINED, _REFINED * 768 // len(vector))
    matching = None
    if where is not None:
        with filter_errors(where, path):
            matching = int(images.count_rows(where.sql))
        # The nearest of few rows are further away: then more partitions are looked into, each of which costs less.
        share = matching / max(1, int(images.count_rows()))
        probes = int(probes / share) if share > 0.1 else 0
    note = None

    def run(bypass: bool) -> pa.Table:
        def make(table: Any) -> Any:
            query: Any = table.query().nearest_to(vector).column("embedding").distance_type("cosine").limit(k)
            query = query if where is None else query.where(where.sql)
            query = query.nprobes(probes) if probes else query.maximum_nprobes(0).minimum_nprobes(PROBES)
            query = query.refine_factor(refine)
            query = query.bypass_vector_index() if bypass else query
            return query.select([*columns, "_distance"])

        return collection._async_rows.run(int(images.version), make)

    found = None
    if not exact:
        try:
            found = run(bypass=False)
        except Exception as error:  # whatever made LanceDB fail, comparing all rows shows whether it was the index
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            note = f"The index of {path} cannot be read, so all rows were compared ({reason[:200]}). "
            note += f"Rebuild it: birder index {path}"
    if found is not None and found.num_rows < k:  # in these partitions there may be too few
        found = found if found.num_rows >= (int(images.count_rows()) if matching is None else matching) else None
    if found is None:
        with filter_errors(where, path):
            found = run(bypass=True)
    return found, note


def _make(collection: Storage, columns: Sequence[str]) -> IndexReport:
    begun = time.perf_counter()
    kinds = _kinds(collection, columns)
    images = collection._images
    rows = int(images.count_rows())
    if rows < 256:  # what LanceDB needs at least
        raise CollectionError(
            f"{collection.path} has {rows:,} rows: an index needs at least 256, and pays off from {AUTOMATIC:,}. "
            "Search works without one."
        )
    with storing(collection.path):
        images.create_index("embedding", config=_vector_config(collection.model.embedding_size), replace=True)
        for name, kind in kinds.items():
            images.create_index(name, config=_column_config(kind), replace=True)
        with replacing(collection.path / _MEMORY) as draft:
            draft.write_text(json.dumps({"rows": rows}))
    return IndexReport(rows, kinds, time.perf_counter() - begun)


def _column_config(kind: str) -> Any:
    """LanceDB's settings for the index of a column."""
    from lancedb.index import Bitmap, BTree, LabelList  # see `birder.collection.disk.connect`

    kinds: dict[str, Any] = {"BTREE": BTree, "BITMAP": Bitmap, "LABEL_LIST": LabelList}
    return kinds[kind]()


def _vector_config(size: int) -> Any:
    """LanceDB's settings for the vector index.

    One bit per dimension says little if there are few of them: then the embeddings themselves are kept.
    """
    from lancedb.index import IvfFlat, IvfRq

    return IvfRq(distance_type="cosine") if size >= _ENOUGH_BITS else IvfFlat(distance_type="cosine")


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


def _trained_on(path: Path) -> int | None:
    try:
        return int(json.loads((path / _MEMORY).read_bytes())["rows"])
    except (OSError, ValueError, TypeError, KeyError):
        return None  # then it is not rebuilt automatically
