"""Figures of named images: by class, in the tree of the taxa, and of the probability of the truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

_AT_ONCE = 1_000_000
"""Classes times resamples that are counted at once: 24 MB."""


class Counts(NamedTuple):
    """What is known of each class: float64 (..., C) each.

    Attributes
    ----------
    right
        Images of the class that were given its name.
    true
        Images of the class.
    predicted
        Images that were given its name.
    """

    right: Floats
    true: Floats
    predicted: Floats

    def recall(self) -> Floats:
        """Right / true; NaN for a class without images."""
        return _ratio(self.right, self.true)

    def precision(self) -> Floats:
        """Right / predicted; NaN for a class that was never predicted."""
        return _ratio(self.right, self.predicted)

    def f1(self) -> Floats:
        """The harmonic mean of both: 2 right / (true + predicted); NaN for a class that does not occur."""
        return _ratio(2 * self.right, self.true + self.predicted)


def count(true: Codes, predicted: Codes, classes: int, weights: NDArray[np.floating] | None = None) -> Counts:
    """Count the images of each class.

    Parameters
    ----------
    true, predicted
        int64 (N,): codes 0 .. classes - 1; predicted is -1 where there is no answer.
    classes
        C
    weights
        (R, N), one row a resample, or (N,); default: every image once.

    Returns
    -------
    Counts of (R, C), or of (C,) for weights of one dimension.
    """
    if weights is None:
        weights = np.ones(len(true))
    right = true == predicted
    missed, taken = ~right, ~right & (predicted >= 0)
    hits, misses, takers = true[right], true[missed], predicted[taken]
    rows = np.atleast_2d(weights)
    found = np.empty((3, len(rows), classes))
    for i, row in enumerate(rows):
        found[0, i] = np.bincount(hits, row[right], classes)
        found[1, i] = np.bincount(misses, row[missed], classes)
        found[2, i] = np.bincount(takers, row[taken], classes)
    found[1:] += found[0]
    return Counts(*(found if weights.ndim == 2 else found[:, 0]))


def macro_f1(true: Codes, predicted: Codes, classes: int, weights: NDArray[np.floating]) -> Floats:
    """The mean of F1 over the classes that are true or predicted somewhere, in each resample.

    Parameters
    ----------
    true, predicted, classes
        As in `count`.
    weights
        (R, N)

    Returns
    -------
    float64 (R,)
    """
    occurring = len(np.union1d(true, predicted[predicted >= 0]))
    step = max(1, _AT_ONCE // classes)
    found = np.empty(len(weights))
    for start in range(0, len(weights), step):
        f1 = count(true, predicted, classes, weights[start : start + step]).f1()
        found[start : start + step] = np.nan_to_num(f1).sum(axis=1) / occurring
    return found


def heights(agree: Bools) -> Codes:
    """Height of the lowest common ancestor of the true and the predicted taxon.

    0 = they agree at the deepest rank of the table, 1 = at the rank above it and not below, ...; the number of ranks
    = they agree at none.

    Parameters
    ----------
    agree
        bool (N, L): whether both are known and equal at each rank, the deepest rank first.

    Returns
    -------
    int64 (N,)
    """
    found: Codes = np.where(agree.any(axis=1), agree.argmax(axis=1), agree.shape[1])
    return found


def log_losses(probability: NDArray[np.floating]) -> Floats:
    """-ln of the probability of the true class, in nats, as scikit-learn computes it from float32: never infinite."""
    smallest = float(np.finfo(np.float32).eps)
    return np.asarray(-np.log(np.clip(probability.astype(np.float64), smallest, 1 - smallest)))


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, above / below, np.nan)
