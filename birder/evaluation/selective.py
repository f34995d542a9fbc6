"""What is gained by naming only the images that the model is sure of: risk and coverage.

El-Yaniv and Wiener, "On the foundations of noise-free selective classification", JMLR 2010.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PERCENTS = (90, 95, 99)
"""Precisions, in percent, at which coverage is told."""


class Point(NamedTuple):
    """One threshold.

    Attributes
    ----------
    coverage
        Share of all images whose confidence reaches the threshold.
    risk
        Share of those that is wrong.
    threshold
        The least confidence that is named.
    """

    coverage: float
    risk: float
    threshold: float


def last_of_equal(confidence: NDArray[np.floating]) -> NDArray[np.int64]:
    """Where a threshold can stand in falling confidences: the places of the last of equal ones."""
    return np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True)[: len(confidence)])


def risk_coverage(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], images: int, points: int = 200
) -> list[Point]:
    """The risk-coverage curve, the smallest coverage first.

    Parameters
    ----------
    confidence, right
        (A,): of the images that have an answer, sorted by falling confidence.
    images
        All images, with or without an answer.
    points
        The most points to give, spread evenly over those there are; the first and the last are always given.
    """
    ends = last_of_equal(confidence)
    if len(ends) > points:
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, points).round().astype(np.int64))]
    wrong = np.cumsum(~right)
    return [Point((i + 1) / images, int(wrong[i]) / (i + 1), float(confidence[i])) for i in ends.tolist()]


def coverages(
    confidence: NDArray[np.floating],
    right: NDArray[np.bool_],
    weights: NDArray[np.floating],
    total: NDArray[np.floating],
) -> NDArray[np.float64]:
    """The largest coverage at which the named images are right in 90, 95 and 99 %, for each resample.

    Parameters
    ----------
    confidence, right
        (A,): of the images that have an answer, sorted by falling confidence.
    weights
        (R, A): whole numbers.
    total
        (R,): the weight of all images, with or without an answer.

    Returns
    -------
    float64 (R, 3); 0 where no threshold reaches it.
    """
    ends = last_of_equal(confidence)
    found = np.zeros((len(weights), len(PERCENTS)))
    for i, row in enumerate(weights):
        named = np.cumsum(row, dtype=np.float64)
        correct = np.cumsum(row * right, dtype=np.float64)
        if len(ends) < len(row):
            named, correct = named[ends], correct[ends]
        correct *= 100  # whole numbers: compared exactly
        for j, percent in enumerate(PERCENTS):
            reached = correct >= percent * named
            last = len(reached) - 1 - int(reached[::-1].argmax())
            if reached[last]:
                found[i, j] = named[last] / total[i]
    return found
