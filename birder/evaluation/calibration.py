"""Whether probabilities mean what they say: bins of equal mass, and the expected calibration error.

Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015; with bins of
equal mass as in Nixon et al., "Measuring calibration in deep learning", CVPR workshops 2019.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15


class Bin(NamedTuple):
    """Images of similar confidence.

    Attributes
    ----------
    confidence
        Their mean probability of the predicted class.
    accuracy
        The share of them that is right.
    n
        How many they are.
    """

    confidence: float
    accuracy: float
    n: int


def equal_mass(confidence: NDArray[np.floating], bins: int = BINS) -> NDArray[np.int64]:
    """Bin of each image, 0 for the lowest confidence: as many images in each bin as can be.

    Equal confidences are never put into different bins, so that the order of the rows does not matter; there are
    fewer bins where many are equal, or where there are fewer images than bins.

    Parameters
    ----------
    confidence
        (N,): the probability of the predicted class.
    bins
        The most bins to make.

    Returns
    -------
    int64 (N,): 0 .. number of bins - 1, none empty.
    """
    n = len(confidence)
    _, place, size = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - (size + 1) / 2  # of each value among the sorted images
    return np.unique((middle * bins / max(n, 1)).astype(np.int64), return_inverse=True)[1][place]


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """The points of a reliability diagram, the lowest confidence first."""
    codes = equal_mass(confidence, bins)
    n = np.bincount(codes)
    mean = np.bincount(codes, confidence.astype(np.float64)) / n
    accuracy = np.bincount(codes, right) / n
    points = zip(mean.tolist(), accuracy.tolist(), n.tolist(), strict=True)
    return [Bin(*point) for point in points]


def expected_calibration_errors(
    confidence: NDArray[np.floating],
    right: NDArray[np.bool_],
    codes: NDArray[np.int64],
    weights: NDArray[np.floating],
) -> NDArray[np.float64]:
    """The mean over images of |accuracy - confidence| of their bin, for each resample.

    Parameters
    ----------
    confidence, right
        (N,)
    codes
        int64 (N,): bins, of `equal_mass`.
    weights
        (R, N)

    Returns
    -------
    float64 (R,)
    """
    gap: NDArray[np.float64] = right - confidence.astype(np.float64)
    order = np.argsort(codes, kind="stable")
    gap, starts = gap[order], np.flatnonzero(np.diff(codes[order], prepend=-1))
    found = np.empty(len(weights))
    for i, row in enumerate(weights):
        apart = np.add.reduceat(gap * row[order], starts)
        found[i] = np.abs(apart).sum() / row.sum(dtype=np.float64)
    return found
