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


def auroc(known: Scores, unknown: Scores) -> float:
    """The chance that an image of an unknown class has the higher score; equal scores count half.

    Parameters
    ----------
    known
        (K,): scores of images of known classes, at least one.
    unknown
        (U,): those of unknown ones, at least one.
    """
    ordered = Ordered(known, unknown)
    return float(separations(ordered, np.ones((1, len(ordered.unknown))))[0, 0])


def fpr_at_tpr(known: Scores, unknown: Scores, tpr: float = 0.95) -> float:
    """The share of the unknown images taken for known ones, at the threshold that accepts this share of the known ones.

    Parameters
    ----------
    known, unknown
        As in `auroc`.
    tpr
        At least this share of the known images is accepted: their score is at most the threshold.
    """
    ordered = Ordered(known, unknown)
    return float(separations(ordered, np.ones((1, len(ordered.unknown))), tpr)[0, 1])


class Ordered:
    """The images of known and unknown classes in rising order of their scores.

    Attributes
    ----------
    unknown
        bool (N,): which images are of unknown classes.
    starts
        int64 (V,): where each distinct score begins.
    """

    def __init__(self, known: Scores, unknown: Scores) -> None:
        scores = np.concatenate([known, unknown]).astype(np.float64)
        order = np.argsort(scores, kind="stable")
        self.unknown = order >= len(known)
        ordered = scores[order]
        self.starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))


def separations(ordered: Ordered, weights: NDArray[np.floating], tpr: float = 0.95) -> NDArray[np.float64]:
    """`auroc` and `fpr_at_tpr` for each resample.

    Parameters
    ----------
    ordered
        N images.
    weights
        (R, N): whole numbers, in the order of the images in `ordered`; some of both kinds are above 0.
    tpr
        As in `fpr_at_tpr`.

    Returns
    -------
    float64 (R, 2)
    """
    found = np.empty((len(weights), 2))
    for i, row in enumerate(weights.astype(np.float64, copy=False)):
        known, unknown = np.where(ordered.unknown, 0.0, row), np.where(ordered.unknown, row, 0.0)
        if len(ordered.starts) < len(row):
            known, unknown = (np.add.reduceat(part, ordered.starts) for part in (known, unknown))
        accepted = np.cumsum(known)
        all_known, all_unknown = accepted[-1], unknown.sum()
        needed = math.ceil(tpr * all_known - 1e-9)  # 0.95 x 20 is 19, whatever the floating point says
        threshold = int(np.searchsorted(accepted, needed))
        found[i, 0] = unknown @ (accepted - known / 2) / (all_known * all_unknown)
        found[i, 1] = unknown[: threshold + 1].sum() / all_unknown
    return found
