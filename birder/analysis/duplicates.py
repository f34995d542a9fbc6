"""Duplicates: images with the same content, and images that look nearly the same.

Similar means a cosine of the embeddings at or above a threshold. Up to 200,000 images, all pairs are compared exactly:
first by an upper bound of the cosine from few dimensions, then, where it reaches the threshold, by the embeddings. Of
more, each is compared with those that a graph of neighbours proposes, which may miss some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from birder.analysis.approximate import near_pairs, some_of
from birder.analysis.neighbours import Vectors, blocks_of, principal
from birder.collection.filter import Filter
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import ConfigError
from birder.vectors import room, unit

THRESHOLD = 0.97
"""The default cosine at which images count as similar; docs/explore.md explains the choice."""

SAME = "same content"
SIMILAR = "similar"

_DIRECTIONS = 64
_ROUNDING = 1e-5  # of float32 sums: what may reach the threshold is looked at
_PAIRS = 4_000_000  # pairs compared at once
_ALL_PAIRS = 200_000  # images of which all pairs are compared
_FIRSTS, _REST = 256, 65_536  # images that may begin groups, and others that are compared with them, at once
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


class Found(NamedTuple):
    """What was found.

    Attributes
    ----------
    groups
        Those of the same content first, then the similar ones; large groups first, and by uri. An image may be in one
        group of each kind.
    by_graph
        Whether a graph of neighbours proposed which images were compared, so that some pairs may be missing.
    """

    groups: list[Group]
    by_graph: bool


def find_duplicates(
    collection: Storage,
    *,
    threshold: float = THRESHOLD,
    where: str | Filter | None = None,
    progress: Callable[[float], None] | None = None,
) -> Found:
    """Find images that a collection has more than once.

    A group of the kind "similar" is made around its largest image: all others are at least as similar to it as the
    threshold. The largest image that is in no group yet takes all that are left and similar to it; among images of one
    size, the first by uri. Files with the same content stand in for each other: of them, the first by uri takes part in
    the groups of similar ones.

    Parameters
    ----------
    collection
        The collection. Of up to 200,000 images, the embeddings are held in memory as float32, 4 bytes a number; of
        more, some 2 kB an image.
    threshold
        The minimum cosine of similar images, in (0, 1].
    where
        A filter: only the rows that match it are compared.
    progress
        Called with the share of pairs compared so far.

    Raises
    ------
    ConfigError
        The threshold is outside (0, 1].
    FilterError
        The filter cannot be used.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"The threshold must be above 0 and at most 1, not {threshold}; the default is {THRESHOLD}.")
    rows = collection.snapshot()
    chosen = without_wrong_boxes(where, rows.columns)
    table = rows.to_table(["id", "uri", "sha256", "width", "height"], chosen)
    ids, uris = table["id"].to_pylist(), table["uri"].to_pylist()
    widths, heights = table["width"].to_pylist(), table["height"].to_pylist()
    contents = table["sha256"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    by_uri = np.array(sorted(range(len(uris)), key=uris.__getitem__), np.int64)
    different = np.sort(by_uri[np.unique(contents[by_uri], return_index=True)[1]])

    def stream() -> Iterator[Vectors]:
        for _, embeddings in rows.embedding_batches(("id",), chosen):
            yield unit(embeddings)

    def of_different() -> Iterable[Vectors]:
        return some_of(stream(), different)

    by_graph = len(different) > _ALL_PAIRS
    if by_graph:
        pairs = near_pairs(of_different, len(different), threshold, progress)
        involved = np.unique(pairs)
        vectors = _gathered(of_different(), involved, collection.model.embedding_size)
        numbers = _components_of_pairs(vectors, np.searchsorted(involved, pairs), threshold)
        involved = different[involved]
    else:
        vectors, involved = _gathered(of_different(), None, collection.model.embedding_size, len(different)), different
        numbers = similar_components(vectors, threshold, progress)

    def key(row: int) -> tuple[int, str]:
        return -(widths[row] or 0) * (heights[row] or 0), uris[row]

    def group(kind: str, rows: Sequence[int], cosines: Sequence[float]) -> Group:
        photos = zip(rows, cosines, strict=True)
        return Group(kind, tuple(Photo(ids[row], uris[row], widths[row], heights[row], like) for row, like in photos))

    same = [group(SAME, sorted(rows.tolist(), key=key), [1.0] * len(rows)) for rows in _grouped(contents)]
    similar = []
    for joined in _grouped(numbers):
        order = np.array(sorted(joined.tolist(), key=lambda place: key(int(involved[place]))), np.int64)
        for members, cosines in around_representatives(vectors[order], threshold):
            similar.append(group(SIMILAR, involved[order[members]].tolist(), cosines.tolist()))
    return Found([*sorted(same, key=_large_first), *sorted(similar, key=_large_first)], by_graph)


def around_representatives(
    vectors: Vectors, threshold: float
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Groups of unit vectors, each around its first: the others' cosines with it are at least a threshold.

    In the order of the vectors, each that is in no group yet is the first of one, and takes all later ones that are in
    no group and similar enough.

    Parameters
    ----------
    vectors
        (N, D) float32, each of length 1 (or 0).
    threshold
        The least cosine.

    Yields
    ------
    The members of a group of two or more, ascending, and their cosines with the first, whose own is 1.
    """
    of, likeness = np.full(len(vectors), -1, np.int64), np.ones(len(vectors), np.float32)
    left = np.arange(len(vectors))
    while len(left):
        block, rest = left[:_FIRSTS], left[_FIRSTS:]
        similar = vectors[block] @ vectors[block].T
        firsts = []
        for place, row in enumerate(block.tolist()):
            if of[row] >= 0:
                continue
            firsts.append(row)
            own = np.flatnonzero((similar[place] >= threshold) & (of[block] < 0))
            of[block[own]], likeness[block[own]] = row, similar[place, own]
            of[row], likeness[row] = row, 1.0
        known = vectors[firsts].T
        for start in range(0, len(rest), _REST):
            rows = rest[start : start + _REST]
            cosines = vectors[rows] @ known
            taken = (cosines >= threshold).any(axis=1)
            which = (cosines[taken] >= threshold).argmax(axis=1)
            of[rows[taken]] = np.array(firsts)[which]
            likeness[rows[taken]] = np.take_along_axis(cosines[taken], which[:, None], axis=1)[:, 0]
        left = rest[of[rest] < 0]
    for members in _grouped(of):
        yield members, np.clip(likeness[members], -1, 1)


def _gathered(stream: Iterable[Vectors], chosen: npt.NDArray[np.int64] | None, width: int, rows: int = 0) -> Vectors:
    """The chosen rows of a stream, or all; above 1 GB of chosen ones in a temporary file."""
    found = np.empty((rows, width), np.float32) if chosen is None else room(len(chosen), width)
    done = 0
    for part in stream if chosen is None else some_of(stream, chosen):
        found[done : done + len(part)] = part
        done += len(part)
    return found


def _components_of_pairs(vectors: Vectors, pairs: _Pairs, threshold: float) -> npt.NDArray[np.int64]:
    """Which vectors are joined by a chain of those of some pairs whose cosine is at least a threshold."""
    similar = np.zeros(len(pairs), bool)
    step = _PAIRS // max(vectors.shape[1], 1) + 1
    for start in range(0, len(pairs), step):
        some = pairs[start : start + step]
        similar[start : start + step] = (
            np.einsum("nd,nd->n", vectors[some[:, 0]], vectors[some[:, 1]]) >= threshold - _ROUNDING
        )
    return _components(len(vectors), pairs[similar])


def similar_components(
    vectors: Vectors, threshold: float, progress: Callable[[float], None] | None = None
) -> npt.NDArray[np.int64]:
    """Which unit vectors are joined by a chain of pairs whose cosine is at least a threshold.

    It keeps no pairs, and does not look at those that are joined already: thousands of images that look the same cost
    no more than others. Beside the vectors it takes some 700 MB at most.

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
