"""Duplicates: images with the same content, and images that look nearly the same.

Similar means a cosine of the embeddings at or above a threshold. All pairs are compared exactly: first by an upper
bound of the cosine from few dimensions, then, where it reaches the threshold, by the embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birder.analysis.neighbours import Vectors, blocks_of, principal
from birder.collection.filter import Filter
from birder.collection.storage import Storage
from birder.collection.vectors import unit_vectors
from birder.errors import ConfigError

THRESHOLD = 0.97
"""The default cosine at which images count as similar; docs/explore.md explains the choice."""

SAME = "same content"
SIMILAR = "similar"

_DIRECTIONS = 64
_ROUNDING = 1e-5  # of float32 sums: what may reach the threshold is looked at
_PAIRS = 4_000_000  # pairs compared at once
_MANY = 200_000_000  # pairs that fit nowhere
_Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Photo:
    """An image of a group: its row's `id`, `uri` and size in pixels, and its cosine to the group's first."""

    id: str
    uri: str
    width: int | None
    height: int | None
    similarity: float


@dataclass(frozen=True)
class Group:
    """Images that belong together, the largest first; `kind` is "same content" or "similar"."""

    kind: str
    photos: tuple[Photo, ...]


def find_duplicates(
    collection: Storage,
    *,
    threshold: float = THRESHOLD,
    where: str | Filter | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Group]:
    """Find images that a collection has more than once.

    Two images are in one group of the kind "similar" if a chain of pairs at or above the threshold joins them; so
    the first and the last of a series may be less alike than that. Files with the same content stand in for each
    other: of them, the first by uri takes part in the groups of similar ones.

    Parameters
    ----------
    collection
        The collection. The embeddings are held in memory as float32, 4 bytes a number.
    threshold
        The minimum cosine of similar images, in (0, 1].
    where
        A filter: only the rows that match it are compared.
    progress
        Called with the share of pairs compared so far.

    Returns
    -------
    The groups: those of the same content first, then the similar ones; large groups first, and by uri. An image
    may be in one group of each kind.

    Raises
    ------
    ConfigError
        The threshold is outside (0, 1], or so low that there are too many pairs to list.
    FilterError
        The filter cannot be used.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"The threshold must be above 0 and at most 1, not {threshold}; the default is {THRESHOLD}.")
    table, vectors = unit_vectors(collection, ["id", "uri", "sha256", "width", "height"], where=where)
    ids, uris = table["id"].to_pylist(), table["uri"].to_pylist()
    contents = table["sha256"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    by_uri = np.array(sorted(range(len(uris)), key=uris.__getitem__), np.int64)
    different = np.sort(by_uri[np.unique(contents[by_uri], return_index=True)[1]])
    once = vectors if len(different) == len(vectors) else vectors[different]
    pairs = different[similar_pairs(once, threshold, progress)]
    widths, heights = table["width"].to_pylist(), table["height"].to_pylist()

    def group(kind: str, rows: npt.NDArray[np.int64]) -> Group:
        by_size = sorted(rows.tolist(), key=lambda row: (-(widths[row] or 0) * (heights[row] or 0), uris[row]))
        cosines = np.clip(vectors[by_size] @ vectors[by_size[0]], -1, 1).tolist()
        cosines[0] = 1.0
        return Group(
            kind,
            tuple(
                Photo(ids[row], uris[row], widths[row], heights[row], 1.0 if kind == SAME else cosine)
                for row, cosine in zip(by_size, cosines, strict=True)
            ),
        )

    same = [group(SAME, rows) for rows in _grouped(contents)]
    similar = [group(SIMILAR, rows) for rows in _grouped(_components(len(vectors), pairs))]
    return [*sorted(same, key=_large_first), *sorted(similar, key=_large_first)]


def similar_pairs(vectors: Vectors, threshold: float, progress: Callable[[float], None] | None = None) -> _Pairs:
    """All pairs of unit vectors whose cosine is at least a threshold.

    Parameters
    ----------
    vectors
        (N, D) float32, each of length 1 (or 0).
    threshold
        The least cosine.
    progress
        Called with the share of pairs compared so far.

    Returns
    -------
    (P, 2) int64: indices of both, the smaller first.

    Raises
    ------
    ConfigError
        There are more than 200,000,000.
    """
    found, count = [np.empty((0, 2), np.int64)], 0
    for left, right, compared in _candidates(_most(vectors), threshold - _ROUNDING):
        for start in range(0, len(left), _PAIRS // max(vectors.shape[1], 1) + 1):
            some = slice(start, start + _PAIRS // max(vectors.shape[1], 1) + 1)
            cosines = np.einsum("nd,nd->n", vectors[left[some]], vectors[right[some]])
            pairs = np.stack([left[some], right[some]], axis=1)[cosines >= threshold]
            found.append(pairs)
            count += len(pairs)
        if count > _MANY:
            raise ConfigError(
                f"More than {_MANY:,} pairs have a cosine of {threshold} or more, too many to list. Use a "
                f"higher threshold."
            )
        if progress is not None:
            progress(compared)
    return np.concatenate(found)


def similar_components(
    vectors: Vectors, threshold: float, progress: Callable[[float], None] | None = None
) -> npt.NDArray[np.int64]:
    """Which unit vectors are joined by a chain of pairs whose cosine is at least a threshold.

    Unlike `similar_pairs`, it keeps no pairs, and does not look at those that are joined already: thousands of images
    that look the same cost no more than others. Beside the vectors it takes some 700 MB at most.

    Parameters
    ----------
    vectors
        (N, D) float32, each of length 1 (or 0).
    threshold
        The least cosine.
    progress
        Called with the share of pairs compared so far.

    Returns
    -------
    (N,) int64: a number for each vector, the same for those that are joined.
    """
    numbers = np.arange(len(vectors))
    step = _PAIRS // max(vectors.shape[1], 1) + 1
    for left, right, compared in _candidates(_most(vectors), threshold - _ROUNDING):
        for start in range(0, len(left), step):
            one, other = left[start : start + step], right[start : start + step]
            apart = numbers[one] != numbers[other]
            one, other = one[apart], other[apart]
            similar = np.einsum("nd,nd->n", vectors[one], vectors[other]) >= threshold
            if similar.any():
                pairs = np.stack([numbers[one[similar]], numbers[other[similar]]], axis=1)
                numbers = _components(len(vectors), pairs)[numbers]
        if progress is not None:
            progress(compared)
    return numbers


def _most(vectors: Vectors) -> Vectors:
    """Shorter vectors, (N, 65) float32, whose products are not less than the cosines of these."""
    # A vector is a part in the principal directions and a rest. The cosine of two is the product of their parts plus
    # that of their rests, and the latter is at most the product of the rests' lengths (Cauchy and Schwarz).
    if vectors.shape[1] <= 2 * _DIRECTIONS:
        return vectors
    parts = principal(vectors, _DIRECTIONS)
    rests = np.sqrt(np.maximum(_squares(vectors) - _squares(parts), 0))
    return np.concatenate([parts, rests[:, None]], axis=1)


def _candidates(
    most: Vectors, threshold: float
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], float]]:
    """Pairs whose product is at least a threshold, a block of rows at a time; and the share of pairs done with it."""
    for block in blocks_of(len(most)):
        products = most[block] @ most[block.start :].T
        left, right = np.nonzero(products >= threshold)
        later = right > left  # each pair once, and none with itself
        compared = 1 - ((len(most) - block.stop) / len(most)) ** 2
        yield left[later] + block.start, right[later] + block.start, compared


def _squares(vectors: Vectors) -> Vectors:
    squares: Vectors = np.einsum("nd,nd->n", vectors, vectors)
    return squares


def _components(rows: int, pairs: _Pairs) -> npt.NDArray[np.int64]:
    """A group number for each row, the same for rows joined by a chain of pairs."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(rows, rows))
    numbers: npt.NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def _grouped(numbers: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Rows with the same number, where there are several."""
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    return (rows for rows in np.split(order, cuts) if len(rows) > 1)


def _large_first(group: Group) -> tuple[int, str]:
    return -len(group.photos), min(photo.uri for photo in group.photos)
