"""The map of a collection: a point in the plane for each image, near to those that look alike.

UMAP (McInnes, Healy and Melville 2018, https://arxiv.org/abs/1802.03426) lays it out, in these stages:

- the 15 nearest other images of each, by cosine, exactly: all are compared with all. Of more than 10,000 rows the
  50 principal directions of the embeddings are compared instead of the embeddings, which is some ten times faster;
- the graph of these neighbours, as UMAP weighs it;
- the layout, which starts from the two principal directions and goes through UMAP's epochs (500 up to 10,000 rows, 200
  above). It runs in one thread: with the same seed the same machine gives the same map, which UMAP's parallel layout
  does not.

Of more than 200,000 images, 200,000 are drawn at random and laid out so. Each of the others is put at the mean of the
places of the 15 of them nearest to it, weighted by exp(cosine / 0.07); a graph (HNSW) finds these.

The map is stored in the collection's own database, as the table `map`, in one commit: readers see the former map or the
new one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.analysis.approximate import some_of
from birder.analysis.neighbours import Vectors, axes_of, nearest_rows, principal
from birder.collection.filter import Filter
from birder.collection.storage import Storage
from birder.collection.vectors import unit_vectors
from birder.errors import CollectionError, ConfigError
from birder.extras import need
from birder.faiss_threads import apart
from birder.vectors import unit

FEWEST = 5
"""Rows that a map needs."""

_NEIGHBOURS = 15
_REDUCED_FROM = 10_000
_DIRECTIONS = 50
_LAID_OUT = 200_000
_TEMPERATURE = 0.07
_LINKS, _BREADTH = 16, 60
_AT_ONCE = 16_384
_TABLE = "map"
_KEY = b"birder"
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("x", pa.float32(), nullable=False),
        pa.field("y", pa.float32(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class MapPoints:
    """A collection's map.

    Attributes
    ----------
    ids
        The `id` of the row that each point stands for.
    xy
        (N, 2) float32: the coordinates; their unit has no meaning.
    missing
        Rows of the collection that are not on it: added, or changed, since it was computed.
    made
        How it was computed: `neighbours`, `directions` (0: the embeddings themselves), `seed`, `umap` (its version),
        and `laid_out` (how many rows, the others being placed by these) if those are not all.
    """

    ids: list[str]
    xy: npt.NDArray[np.float32]
    missing: int
    made: dict[str, Any]


def compute_map(collection: Storage, *, seed: int = 0, progress: Progress | None = None) -> MapPoints:
    """Compute the map of a collection and store it, replacing the former one.

    Parameters
    ----------
    collection
        The collection. Others may write to it meanwhile, except in the moment of storing.
    seed
        Another seed gives another map of the same neighbours.
    progress
        Called with the stage ("reading", "neighbours", "graph", "layout", "storing") and the share of all that is done.

    Returns
    -------
    The map.

    Raises
    ------
    CollectionError
        The collection has less than 5 rows; it cannot be written to, or another process is writing when the map is
        stored.
    """
    say: Progress = progress or (lambda stage, done: None)
    say("reading", 0.0)
    with collection.writing(patience=2.0):
        pass  # if it cannot be stored, that is better known before than after
    rows = collection.count()
    if rows < FEWEST:
        raise CollectionError(
            f"{collection.path} has {rows} rows, and a map needs at least {FEWEST}: "
            f"add images with: birder embed IMAGES --in {collection.path}"
        )
    if rows > _LAID_OUT:
        table, xy, directions = _by_sample(collection, seed, say)
    else:
        table, vectors = unit_vectors(collection, ["id", "sha256"])
        directions = min(_DIRECTIONS, vectors.shape[1]) if len(vectors) > _REDUCED_FROM else 0
        start = principal(vectors, max(directions, min(2, vectors.shape[1])))
        if directions:
            vectors = unit(start)
        xy = _lay_out(vectors, start[:, :2], seed, say)
    say("storing", 0.98)
    made = {
        "neighbours": min(_NEIGHBOURS, len(xy) - 1),
        "directions": directions,
        "seed": seed,
        "umap": _umap_version(),
    }
    if len(xy) > _LAID_OUT:
        made["laid_out"] = _LAID_OUT
    columns = {"id": table["id"], "x": xy[:, 0], "y": xy[:, 1], "sha256": table["sha256"]}
    schema = _SCHEMA.with_metadata({_KEY: json.dumps(made).encode()})
    collection.write_side_table(_TABLE, pa.table(columns, schema=schema))
    say("storing", 1.0)
    found = read_map(collection)
    assert found is not None
    return found


def read_map(collection: Storage) -> MapPoints | None:
    """The map of a collection; None if there is none. Points of rows that are gone are left out.

    Raises
    ------
    CollectionError
        It is damaged.
    """
    stored = stored_map(collection)
    if stored is None:
        return None
    rows = collection.snapshot().to_table(["id", "sha256"])
    at = pc.index_in(stored.ids, rows["id"])
    there = at.is_valid()
    same = pc.sum(pc.equal(rows["sha256"].take(at), stored.sha256)).as_py() or 0
    kept = stored.ids.filter(there).to_pylist()
    return MapPoints(kept, np.ascontiguousarray(stored.xy[there.to_numpy()]), len(rows) - same, stored.made)


def matching_points(collection: Storage, points: MapPoints, where: Filter) -> MapPoints:
    """The points of the rows that match a filter, at their places on the map of all.

    `missing` is then the number of rows that match and are not on the map.

    Raises
    ------
    CollectionError
        No row on the map matches the filter.
    FilterError
        The filter cannot be used.
    """
    rows = collection.snapshot().to_table(["id"], where)["id"]
    kept = pc.is_in(pa.array(points.ids, pa.string()), value_set=rows.combine_chunks())
    ids = pa.array(points.ids, pa.string()).filter(kept).to_pylist()
    if not ids:
        raise CollectionError(f"No image on the map of {collection.path} matches the filter.")
    xy = np.ascontiguousarray(points.xy[kept.to_numpy(zero_copy_only=False)])
    return MapPoints(ids, xy, len(rows) - len(ids), points.made)


class StoredMap(NamedTuple):
    """A map as it was computed.

    Attributes
    ----------
    ids, sha256
        The row that each of N points stands for, texts, and the content that it had.
    xy
        (N, 2) float32.
    made
        As in `MapPoints`.
    """

    ids: pa.ChunkedArray
    sha256: pa.ChunkedArray
    xy: npt.NDArray[np.float32]
    made: dict[str, Any]


def stored_map(collection: Storage) -> StoredMap | None:
    """The map of a collection with the points of rows that are gone; raises as `read_map`."""
    try:
        stored = collection.side_table(_TABLE)
        if stored is None:
            return None
        made = json.loads((stored.schema.metadata or {})[_KEY])
        xy = np.stack([stored["x"].to_numpy(), stored["y"].to_numpy()], axis=1).astype(np.float32, copy=False)
        return StoredMap(stored["id"], stored["sha256"], xy, made)
    except (ValueError, KeyError, CollectionError) as error:
        raise CollectionError(
            f"The map of {collection.path} is damaged ({error}). Compute it again: birder map {collection.path} "
            "--recompute"
        ) from error


def _lay_out(vectors: Vectors, start: Vectors, seed: int, say: Progress) -> Vectors:
    """Places (N, 2) float32 of unit vectors (N, D), from where they start (N, 1 or 2)."""
    rows = len(vectors)
    k = min(_NEIGHBOURS, rows - 1)
    need("map", "Computing a map")
    say("neighbours", 0.02)
    indices, cosines = nearest_rows(vectors, k, progress=lambda done: say("neighbours", 0.02 + 0.38 * done))
    say("graph", 0.40)
    import umap

    # UMAP counts a row as its own first neighbour.
    indices = np.concatenate([np.arange(rows)[:, None], indices], axis=1)
    distances = np.concatenate([np.zeros((rows, 1), np.float32), np.maximum(1 - cosines, 0)], axis=1)
    place = umap.UMAP(
        n_neighbors=k + 1,
        metric="cosine",
        init=_spread(start, seed),
        random_state=seed,
        n_jobs=1,
        precomputed_knn=(indices.astype(np.int32), distances.astype(np.float32)),
        force_approximation_algorithm=True,  # else few rows are compared anew
        tqdm_kwds={
            "disable": False,
            "file": _Percentages(lambda done: say("layout", 0.45 + 0.53 * done)),
            "bar_format": "{percentage:.2f} ",
            "mininterval": 0.5,
        },
    )
    with warnings.catch_warnings():
        # That a map made of known neighbours takes no new points; what numba says of its own.
        warnings.simplefilter("ignore")
        xy = np.asarray(place.fit_transform(vectors), np.float32)
    if xy.shape != (rows, 2) or not np.isfinite(xy).all():
        raise ConfigError("UMAP gave some images no coordinates. Try another seed, and report this as a bug.")
    return xy


def _by_sample(collection: Storage, seed: int, say: Progress) -> tuple[pa.Table, Vectors, int]:
    """Columns of all rows, their places (N, 2) float32, and the number of directions that were compared.

    Memory: some 600 bytes a row; the embeddings are read twice.
    """
    rows = collection.snapshot()
    table = rows.to_table(["id", "sha256"])
    by_id = np.array(pc.sort_indices(table["id"]))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(by_id))[:_LAID_OUT])
    chosen = by_id[drawn]

    def stream() -> Iterator[Vectors]:
        for _, embeddings in rows.embedding_batches(("id",)):
            yield unit(embeddings)

    directions = min(_DIRECTIONS, collection.model.embedding_size)
    axes = axes_of(some_of(stream(), np.sort(chosen)), directions)
    projected = np.empty((len(by_id), directions), np.float32)
    done = 0
    for block in stream():
        projected[done : done + len(block)] = block @ axes
        done += len(block)
    start = projected[chosen, :2]
    projected = unit(projected, out=projected)
    sample = projected[chosen]
    places = _lay_out(sample, start, seed, say)
    xy = np.empty((len(by_id), 2), np.float32)
    xy[chosen] = places
    others = np.ones(len(by_id), bool)
    others[chosen] = False
    _place(xy, np.flatnonzero(others), projected, sample, places, say)
    return table, xy, directions


def _place(
    xy: Vectors, others: npt.NDArray[np.int64], vectors: Vectors, sample: Vectors, places: Vectors, say: Progress
) -> None:
    """Put the other rows of unit vectors (N, d) between the nearest of the sample, which have places (S, 2)."""
    import faiss

    graph = faiss.IndexHNSWFlat(sample.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = _BREADTH, _BREADTH
    for begin in range(0, len(sample), _AT_ONCE):
        apart(functools.partial(graph.add, sample[begin : begin + _AT_ONCE]), threads=1)
    for begin in range(0, len(others), _AT_ONCE):
        some = others[begin : begin + _AT_ONCE]
        cosines, near = apart(functools.partial(graph.search, vectors[some], min(_NEIGHBOURS, len(sample))))
        weights = np.where(near >= 0, np.exp((cosines - cosines[:, :1]) / _TEMPERATURE), 0)
        weights /= weights.sum(axis=1, keepdims=True)
        xy[some] = np.einsum("nk,nkx->nx", weights, places[near])
        say("layout", 0.9 + 0.08 * min(1.0, (begin + _AT_ONCE) / len(others)))


def _spread(start: Vectors, seed: int) -> Vectors:
    """Where the layout starts: within 10 of the origin, with a little noise, so that no two are in one place."""
    wide = np.zeros((len(start), 2), np.float32)
    centred = start - start.mean(axis=0)
    wide[:, : start.shape[1]] = centred / (np.abs(centred).max() or 1.0) * 10
    noise = np.random.default_rng(seed).normal(scale=1e-3, size=wide.shape)
    return (wide + noise).astype(np.float32)


class _Percentages:
    """A file that a progress bar writes percentages to; they are handed on as shares."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell

    def write(self, text: str) -> None:
        with contextlib.suppress(ValueError):
            self._tell(min(float(text.strip()) / 100, 1.0))

    def flush(self) -> None:
        pass


def _umap_version() -> str:
    from importlib.metadata import version

    return version("umap-learn")
