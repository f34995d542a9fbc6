"""Clusters of a map and their names: the values of text columns that are much more frequent there than elsewhere.

Clusters are the peaks of the points' density on a grid; each point belongs to the nearest peak. A value's score is its
share of a cluster times the logarithm of that share over its share of all points (a term of the Kullback-Leibler
divergence), so that a value wins that is both frequent there and rare elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.server.encoded import codes_of, encoded

_GRID = (24, 64)  # cells of a side: the square root of the number of points, between these
_REACH = 2  # cells around a peak without another
_MOST = 60  # clusters
_FEWEST = 5  # points of a cluster that gets a name, and of a value that gives it
_COVERED = 0.02  # of a cluster's points have the value: a few labels among many images are enough
_SHARE = 0.25  # of a cluster's points with any value in the column have this one
_LIFT = 1.5  # times as frequent in the cluster as on the whole map
_SAME = 0.5  # of the points with either of two values have both: the second value says nothing new
_FOLDER = r"^[^#]*/(?P<folder>[^/#]+)/[^/#]+(?:#|$)"  # of a uri, percent-encoded
_BLOCK = 20_000  # points compared with the peaks at once


class Cluster(NamedTuple):
    """A cluster: the point at its peak, its most telling values ("" where none is), and how many points it has."""

    point: int
    name: str
    size: int


class _Value(NamedTuple):
    score: float
    column: int
    code: int
    text: str


def clusters_of(xy: npt.NDArray[np.float32], columns: Mapping[str, pa.Array]) -> list[Cluster]:
    """Find the clusters of a map, and name them.

    Parameters
    ----------
    xy
        (N, 2) float32, the points; finite.
    columns
        Text columns by name, each with N values; only those whose texts repeat (dictionaries) give names. Of values
        that tell the same, that of the first column is taken.

    Returns
    -------
    The clusters, the largest first; at most 60. Each point belongs to the cluster whose `point` is nearest.
    """
    if not len(xy):
        return []
    anchors = _peaks(xy)
    nearest = np.concatenate([_nearest(xy[i : i + _BLOCK], xy[anchors]) for i in range(0, len(xy), _BLOCK)])
    order = np.argsort(nearest, kind="stable")
    bounds = np.cumsum(np.bincount(nearest, minlength=len(anchors)))[:-1]
    members = np.split(order, bounds)
    codes = [codes_of(each) for each in columns.values() if pa.types.is_dictionary(each.type)]
    texts = [each.dictionary for each in columns.values() if pa.types.is_dictionary(each.type)]
    everywhere = [np.bincount(each[each >= 0], minlength=len(text)) for each, text in zip(codes, texts, strict=True)]
    found = []
    for anchor, inside in zip(anchors.tolist(), members, strict=True):
        here = [each[inside] for each in codes]
        telling = [
            value
            for number, (some, text, total) in enumerate(zip(here, texts, everywhere, strict=True))
            for value in _telling(number, some, text, total, len(xy))
        ]
        found.append(Cluster(anchor, ", ".join(_chosen(telling, here)), len(inside)))
    return sorted(found, key=lambda each: (-each.size, each.point))


def folders_of(uris: pa.Array) -> pa.Array:
    """The names of the folders right above files, as a dictionary if they repeat; null where there is none."""
    found = encoded(pc.struct_field(pc.extract_regex(uris, _FOLDER), "folder"))
    if not pa.types.is_dictionary(found.type):
        return found
    names = [unquote(name, errors="replace") for name in found.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(found.indices, pa.array(names, pa.string()))


def _peaks(xy: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """A point of each of the densest cells none of which is near a denser one."""
    side = min(max(math.isqrt(len(xy)), _GRID[0]), _GRID[1])
    low = xy.min(axis=0)
    size = float((xy.max(axis=0) - low).max()) or 1.0
    cells = np.minimum((xy - low) * np.float32(side / size), side - 1).astype(np.int64)
    cell_of = cells[:, 0] * side + cells[:, 1]
    density = np.bincount(cell_of, minlength=side**2).reshape(side, side)
    smooth = density.astype(np.int64)
    for _ in range(2):
        padded = np.pad(smooth, 1)
        smooth = np.sum([padded[i : i + side, j : j + side] for i in range(3) for j in range(3)], axis=0)
    smooth[density == 0] = 0
    chosen = list[tuple[int, int]]()
    for cell in np.argsort(-smooth, axis=None, kind="stable").tolist():
        x, y = divmod(cell, side)
        if smooth[x, y] == 0 or len(chosen) == _MOST:
            break
        around = smooth[max(0, x - _REACH) : x + _REACH + 1, max(0, y - _REACH) : y + _REACH + 1]
        apart = all(max(abs(x - i), abs(y - j)) > _REACH for i, j in chosen)
        if smooth[x, y] == around.max() and apart:
            chosen.append((x, y))
    points = []
    for x, y in chosen:
        inside = np.flatnonzero(cell_of == x * side + y)
        from_the_left = np.lexsort((xy[inside, 1], xy[inside, 0]))
        points.append(inside[from_the_left[len(inside) // 2]])
    return np.array(points, np.int64)


def _nearest(xy: npt.NDArray[np.float32], peaks: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    distances = (xy[:, None, 0] - peaks[:, 0]) ** 2 + (xy[:, None, 1] - peaks[:, 1]) ** 2
    found: npt.NDArray[np.int64] = distances.argmin(axis=1)
    return found


def _telling(
    column: int, codes: npt.NDArray[np.int32], texts: pa.Array, everywhere: npt.NDArray[np.int64], points: int
) -> Iterator[_Value]:
    """The values of a column that tell a cluster from the others; `everywhere` counts each value on the whole map."""
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    filled, size = int(counts.sum()), len(codes)
    enough = max(_FEWEST, _COVERED * size, _SHARE * filled)
    for code in np.flatnonzero(counts >= enough).tolist():
        count, total = int(counts[code]), int(everywhere[code])
        text = str(texts[code].as_py()).strip()
        if text and count * points >= _LIFT * size * total:
            yield _Value(count / size * math.log(count * points / (size * total)), column, code, text)


def _chosen(telling: list[_Value], codes: list[npt.NDArray[np.int32]]) -> list[str]:
    """The most telling value of a cluster, and the next that is about other points and other words."""
    ordered = sorted(telling, key=lambda each: (-each.score, each.column, each.text))
    if not ordered:
        return []
    first = ordered[0]
    ours = codes[first.column] == first.code
    for other in ordered[1:]:
        words, more = first.text.casefold(), other.text.casefold()
        if words in more or more in words:
            continue
        theirs = codes[other.column] == other.code
        if (ours & theirs).sum() < _SAME * (ours | theirs).sum():
            return [first.text, other.text]
    return [first.text]
