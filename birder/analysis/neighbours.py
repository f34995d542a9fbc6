"""The nearest rows of each row, by comparing all pairs; and principal directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import isqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

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
    blocks = (vectors[start : start + 8192] for start in range(0, len(vectors), 8192))
    return (vectors @ axes_of(blocks, size)).astype(np.float32, copy=False)


def axes_of(vectors: Iterable[Vectors], size: int) -> Vectors:
    """The `size` principal directions of vectors that come (B, D) at a time, float32 (D, size); see `principal`."""
    moments: npt.NDArray[np.float64] | None = None
    for part in vectors:
        products = (part.T @ part).astype(np.float64)
        moments = products if moments is None else moments + products
    assert moments is not None
    directions = np.linalg.eigh(moments)[1][:, ::-1][:, :size]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    axes: Vectors = (directions * np.where(largest < 0, -1, 1)).astype(np.float32)
    return axes


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
    """The k nearest other rows of each row, exactly: each pair is compared once, a square block of pairs at a time.

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
    everything = torch.from_numpy(vectors)
    names = torch.arange(rows) if apart is None else torch.from_numpy(apart)
    indices = torch.full((rows, k), -1)
    cosines = torch.full((rows, k), -torch.inf)
    side = max(1, isqrt(_CELLS // 2))
    blocks = [slice(start, min(start + side, rows)) for start in range(0, rows, side)]
    for number, block in enumerate(blocks):
        for other in blocks[number:]:
            similar = everything[block] @ everything[other].T
            similar.masked_fill_(names[block, None] == names[None, other], -torch.inf)
            _keep_nearest(indices[block], cosines[block], similar, other.start)
            if other is not block:
                _keep_nearest(indices[other], cosines[other], similar.T.contiguous(), block.start)
        if progress is not None:
            progress(1 - ((rows - block.stop) / rows) ** 2)
    indices[cosines.isneginf()] = -1
    return Neighbours(indices.numpy(), cosines.numpy())


def _keep_nearest(indices: torch.Tensor, cosines: torch.Tensor, similar: torch.Tensor, start: int) -> None:
    """Put the rows that are nearer than the k nearest so far in their places.

    Parameters
    ----------
    indices, cosines
        The nearest so far, (B, k), which are overwritten.
    similar
        (B, M) cosines with the rows from `start` on.
    """
    import torch

    k = indices.shape[1]
    values, places = similar.topk(min(k, similar.shape[1]), dim=1)
    values, order = torch.cat([cosines, values], dim=1).topk(k, dim=1)
    cosines.copy_(values)
    indices.copy_(torch.cat([indices, places + start], dim=1).gather(1, order))
