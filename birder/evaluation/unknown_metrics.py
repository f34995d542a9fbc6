"""How well a score tells images of unknown classes from images of known ones.

Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples", ICLR 2017; the false
positive rate at 95 % true positives as in Liang, Li and Srikant (ODIN), ICLR 2018.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
"""The higher, the less known."""


class Ordered:
    """Images of K known and U unknown classes: first the known, then the unknown, each in rising order of their scores.

    Attributes
    ----------
    rows
        int64 (N,): which image stands at each place, counted in the known ones, then the unknown ones.
    below, up_to
        int64 (U,): how many known images have a score below that of each unknown image, and how many at most its.
    passing
        int64 (K,): how many unknown images have at most the score of each known image.
    """

    def __init__(self, known: Scores, unknown: Scores) -> None:
        known, unknown = known.astype(np.float64), unknown.astype(np.float64)
        orders = np.argsort(known, kind="stable"), np.argsort(unknown, kind="stable")
        self.rows = np.concatenate([orders[0], len(known) + orders[1]])
        known, unknown = known[orders[0]], unknown[orders[1]]
        self.below = np.searchsorted(known, unknown, "left")
        self.up_to = np.searchsorted(known, unknown, "right")
        self.passing = np.searchsorted(unknown, known, "right")

    def __len__(self) -> int:
        return len(self.below) + len(self.passing)


def separations(ordered: Ordered, weights: NDArray[np.floating], tpr: float = 0.95) -> NDArray[np.float64]:
    """The AUROC, and the false positive rate at a rate of true positives, for each resample.

    The AUROC is the chance that an image of an unknown class has the higher score; equal scores count half. The false
    positive rate is the share of the unknown images taken for known ones, at the threshold that accepts enough known.

    Parameters
    ----------
    ordered
        N images.
    weights
        (R, N): whole numbers, in the order of the images in `ordered`.
    tpr
        At least this share of the known images is accepted: their score is at most the threshold.

    Returns
    -------
    float64 (R, 2); NaN where a resample has images of one kind alone.
    """
    found = np.full((len(weights), 2), np.nan)
    accepted = np.zeros(len(ordered.passing) + 1)  # weight of the known images before each place
    for i, row in enumerate(weights):
        np.cumsum(row[: len(ordered.passing)], dtype=np.float64, out=accepted[1:])
        unknown = row[len(ordered.passing) :].astype(np.float64)
        all_known, all_unknown = accepted[-1], unknown.sum()
        if all_known and all_unknown:
            needed = math.ceil(tpr * all_known - 1e-9)  # 0.95 x 20 is 19, whatever the floating point says
            threshold = int(np.searchsorted(accepted, needed)) - 1
            half = (unknown * accepted[ordered.below]).sum() + (unknown * accepted[ordered.up_to]).sum()
            found[i, 0] = half / 2 / (all_known * all_unknown)
            found[i, 1] = unknown[: ordered.passing[threshold]].sum() / all_unknown
    return found
