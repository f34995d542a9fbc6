"""Pairs of near rows among more than can be compared with each other, by a graph of neighbours (faiss's HNSW).

The graph (Malkov and Yashunin 2016, arXiv:1603.09320) is built in memory, in one thread, so that the same rows give the
same graph: of the first principal directions of the rows, 8 bits each. It proposes neighbours, and may miss some.

N is the number of rows, D the embedding dimension, d the number of principal directions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from birder.analysis.neighbours import Vectors, axes_of
from birder.faiss_threads import apart

Stream = Callable[[], Iterable[Vectors]]
"""Gives N unit vectors from the first on, float32 (B, D) at a time, as often as it is called."""
Rows = npt.NDArray[np.int64]

_DIRECTIONS = 256
_GRAPHED = 64
_LINKS, _BREADTH = 16, 40
_NEIGHBOURS = 16
_SAMPLE = 100_000  # rows that the directions are fitted to
_AT_ONCE = 16_384
_ROUNDING = 2e-3  # of products of float16 parts


def near_pairs(
    vectors: Stream, rows: int, threshold: float, progress: Callable[[float], None] | None = None
) -> npt.NDArray[np.int64]:
    """Pairs of a row and one of its 16 nearest by the graph whose cosine may reach a threshold.

    Memory: some 800 bytes a row. The vectors are read twice.

    Parameters
    ----------
    vectors
        N unit vectors, or of length 0.
    rows
        N.
    threshold
        The least cosine.
    progress
        Called with the share that is done.

    Returns
    -------
    (P, 2) int64, the smaller row first, each pair once, sorted. Cosines are at most the product of the parts in d
    directions plus that of the lengths of the rests (Cauchy and Schwarz); pairs for which this is below the threshold
    are left out.
    """
    import faiss

    tell = progress or (lambda share: None)
    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:_SAMPLE])
    axes = axes_of(some_of(vectors(), chosen), min(_DIRECTIONS, _dimension(vectors)))
    tell(0.1)
    parts, rests = np.empty((rows, axes.shape[1]), np.float16), np.empty(rows, np.float32)
    width = min(_GRAPHED, axes.shape[1])
    graph: Any = faiss.IndexHNSWSQ(width, faiss.ScalarQuantizer.QT_8bit, _LINKS, faiss.METRIC_L2)
    graph.hnsw.efConstruction = _BREADTH
    done = 0
    for block in vectors():
        projected = block @ axes
        own = slice(done, done + len(block))
        parts[own] = projected
        rests[own] = np.sqrt(np.maximum((block**2).sum(axis=1) - (projected**2).sum(axis=1), 0))
        done += len(block)
    tell(0.2)
    apart(lambda: graph.train(parts[chosen, :width].astype(np.float32)), threads=1)
    for start in range(0, rows, _AT_ONCE):
        added = parts[start : start + _AT_ONCE, :width].astype(np.float32)
        apart(functools.partial(graph.add, added), threads=1)
        tell(0.2 + 0.6 * min(1.0, (start + _AT_ONCE) / rows))
    found = [np.empty((0, 2), np.int64)]
    k = min(_NEIGHBOURS + 1, rows)
    for start in range(0, rows, _AT_ONCE):
        asked = parts[start : start + _AT_ONCE].astype(np.float32)
        near = apart(functools.partial(graph.search, np.ascontiguousarray(asked[:, :width]), k))[1]
        for column in near.T:
            here = np.flatnonzero((column >= 0) & (column != np.arange(start, start + len(asked))))
            other = column[here]
            most = np.einsum("nd,nd->n", asked[here], parts[other].astype(np.float32))
            most += rests[start + here] * rests[other]
            likely = most >= threshold - _ROUNDING
            pair = np.stack([start + here[likely], other[likely]], axis=1)
            found.append(np.sort(pair, axis=1))
        tell(0.8 + 0.2 * min(1.0, (start + _AT_ONCE) / rows))
    return np.unique(np.concatenate(found), axis=0)


def _dimension(vectors: Stream) -> int:
    return int(next(iter(vectors())).shape[1])


def some_of(vectors: Iterable[Vectors], chosen: Rows) -> Iterator[Vectors]:
    """The chosen rows, ascending, of a stream; a block at a time."""
    done = 0
    for block in vectors:
        first, last = np.searchsorted(chosen, [done, done + len(block)])
        if last > first:
            yield block[chosen[first:last] - done]
        done += len(block)
