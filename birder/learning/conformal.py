"""Quantiles for sets of classes that hold the true one in a given share of cases: split conformal prediction.

The scores are 1 - the probability of the true class (Sadinle, Lei and Wasserman, arXiv 1609.00451), their quantiles
with the correction for finite samples, both by MAPIE. They come from rows that their fit had not seen; the final fit,
which the sets are made by, saw some more rows, so that its sets are rather a little too large than too small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

LEVEL = 0.9
FEWEST_BY_CLASS = 20
"""Held-out rows of each class from which quantiles are its own."""


def by_class(codes: npt.NDArray[np.int64], classes: int) -> bool:
    """Whether every class has enough held-out rows, given as codes (N,), for a quantile of its own."""
    return bool(np.bincount(codes, minlength=classes).min() >= FEWEST_BY_CLASS)


def quantiles(
    true_probabilities: npt.NDArray[np.floating],
    codes: npt.NDArray[np.int64],
    classes: Sequence[str],
    *,
    own: bool,
    level: float = LEVEL,
) -> float | Mapping[str, float]:
    """The largest 1 - p of classes to be taken into a set.

    Parameters
    ----------
    true_probabilities
        (N,): of the true class of held-out rows.
    codes
        int64 (N,): their true classes.
    classes
        C names.
    own
        A quantile for each class, so that the share holds for each; else one for all.
    level
        The share of sets that shall hold the true class.

    Returns
    -------
    0 to 1: one number, or class -> number. 1, which takes in every class, where there are too few rows to say less.
    """
    scores = 1.0 - true_probabilities.astype(np.float64)
    if not own:
        return _quantile(scores, level)
    return {name: _quantile(scores[codes == code], level) for code, name in enumerate(classes)}


def _quantile(scores: npt.NDArray[np.float64], level: float) -> float:
    from mapie.conformity_scores import LACConformityScore  # type: ignore[import-untyped]

    if np.ceil((len(scores) + 1) * level) > len(scores):
        return 1.0
    found = LACConformityScore().get_conformity_score_quantiles(scores[:, None], np.array([1 - level]), cv="prefit")
    return float(np.ravel(found)[0])
