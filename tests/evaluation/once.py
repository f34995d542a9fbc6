"""Figures of a table as it is, from the functions that give them for each resample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birder.evaluation.calibration import equal_mass, expected_calibration_errors
from birder.evaluation.unknown_metrics import Ordered, separations

BINS = 15
Scores = NDArray[np.floating]


def expected_calibration_error(confidence: Scores, right: NDArray[np.bool_], bins: int = BINS) -> float:
    weights = np.ones((1, len(right)))
    return float(expected_calibration_errors(confidence, right, equal_mass(confidence, bins), weights)[0])


def auroc(known: Scores, unknown: Scores) -> float:
    ordered = Ordered(known, unknown)
    return float(separations(ordered, np.ones((1, len(ordered))))[0, 0])


def fpr_at_tpr(known: Scores, unknown: Scores, tpr: float = 0.95) -> float:
    ordered = Ordered(known, unknown)
    return float(separations(ordered, np.ones((1, len(ordered))), tpr)[0, 1])
