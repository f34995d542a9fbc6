"""How alike two models' embeddings see the same images: by the neighbours that both give an image.

The mutual nearest-neighbour metric of Huh et al., "The Platonic Representation Hypothesis" (2024, arXiv 2405.07987).

N is the number of images, D the embedding dimension of either model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from birder.analysis.neighbours import nearest_rows
from birder.errors import ConfigError
from birder.vectors import unit

Floats = npt.NDArray[np.float64]


def shared_neighbours(
    first: npt.NDArray[np.float32],
    second: npt.NDArray[np.float32],
    k: int = 10,
    *,
    apart: npt.NDArray[np.int64] | None = None,
) -> Floats:
    """Of each image, the share of its k nearest by one model that are among its k nearest by the other.

    All pairs are compared, in blocks; beyond the embeddings it takes a copy of them and 24 N k bytes. The mean is 1 for
    embeddings that differ by a rotation or a scale, and k / (N - 1) for neighbours drawn at random.

    Parameters
    ----------
    first, second
        float32 (N, D) each, of any length and each with a D of its own; row i is the same image in both.
    k
        How many neighbours, less than N.
    apart
        (N,) int64: images with the same number are never neighbours, such as copies of one file. None: as published, an
        image is left out of its own neighbours alone.

    Returns
    -------
    (N,), from 0 to 1; nan for an image that has no neighbour. Where it has fewer than k, the share is of those.

    Raises
    ------
    ConfigError
        The rows are not the same, or k is not between 1 and N - 1.
    """
    if len(first) != len(second):
        raise ConfigError(f"Two models are compared on the same images, not on {len(first)} and {len(second)}.")
    if not 1 <= k < len(first):
        raise ConfigError(
            f"Among {len(first):,} images, an image has from 1 to {len(first) - 1:,} neighbours, not {k}."
        )
    one, other = (np.sort(nearest_rows(unit(each), k, apart=apart).indices, axis=1) for each in (first, second))
    shared = np.zeros(len(one), np.int64)
    for column in one.T:  # k times (N, k) comparisons, never (N, k, k) at once
        shared += ((column[:, None] == other) & (column[:, None] >= 0)).any(axis=1)
    there = (one >= 0).sum(axis=1)
    found: Floats = np.full(len(one), np.nan)
    np.divide(shared, there, out=found, where=there > 0)
    return found
