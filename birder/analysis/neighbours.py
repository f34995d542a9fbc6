"""The nearest rows of each row, by comparing all pairs; and principal directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
_CELLS = 32 * 1024 * 1024  # cosines at once: 128 MB
_MOST_ROWS = 2048


class Neighbours(NamedTuple):
    """The nearest other rows of each row, nearest first: indices (N, k) int64, cosines (N, k) float32."""

    indices: npt.NDArray[np.int64]
    cosines: Vectors


def principal(vectors: Vectors, size: int) -> Vectors:
    """Vectors projected on their `size` principal directions, not centred: the best approximation of inner products.

    Parameters
    ----------
    vectors
        (N, D) float32.
    size
        How many directions, at most D.

    Returns
    -------
    (N, size) float32; the direction with the most first. Of each, the sign is that of its largest part.
    """
    moments = np.zeros((vectors.shape[1],) * 2)
    for start in range(0, len(vectors), 8192):
        part = vectors[start : start + 8192]
        moments += part.T @ part
    directions = np.linalg.eigh(moments)[1][:, ::-1][:, :size]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    return (vectors @ (directions * np.where(largest < 0, -1, 1)).astype(np.float32)).astype(np.float32, copy=False)


def blocks_of(rows: int) -> Iterator[slice]:
    """Slices of the rows, so that the cosines of a slice with all rows take some 128 MB at most."""
    step = max(1, min(_MOST_ROWS, _CELLS // max(rows, 1)))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def nearest_rows(
    vectors: Vectors,
    k: int,
    *,
    apart: npt.NDArray[np.int64] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Neighbours:
    """The k nearest other rows of each row, exactly: all are compared with all, a block at a time.

    Parameters
    ----------
    vectors
        (N, D) float32 unit vectors.
    k
        How many, less than N.
    apart
        (N,) int64: rows with the same number are never neighbours. Without it only a row itself is left out.
    progress
        Called with the share that is done.

    Returns
    -------
    Indices and cosines; where a row has less than k others, the index is -1 and the cosine -inf.
    """
    import torch

    rows = len(vectors)
    members = _members(apart) if apart is not None else {}
    everything = torch.from_numpy(vectors)
    indices = np.empty((rows, k), np.int64)
    cosines = np.empty((rows, k), np.float32)
    for block in blocks_of(rows):
        similar = everything[block] @ everything.T
        similar[torch.arange(block.stop - block.start), torch.arange(block.start, block.stop)] = -torch.inf
        for row in range(block.start, block.stop) if members else ():
            if apart is not None and (same := members.get(int(apart[row]))) is not None:
                similar[row - block.start, same] = -torch.inf
        values, places = similar.topk(k, dim=1)
        indices[block], cosines[block] = places.numpy(), values.numpy()
        if progress is not None:
            progress(block.stop / rows)
    indices[np.isneginf(cosines)] = -1
    return Neighbours(indices, cosines)


def _members(groups: npt.NDArray[np.int64]) -> dict[int, Any]:
    """Rows of each group that has more than one, as torch indices."""
    import torch

    order = np.argsort(groups, kind="stable")
    names, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    return {
        int(name): torch.from_numpy(order[start : start + count])
        for name, start, count in zip(names, starts, counts, strict=True)
        if count > 1
    }
