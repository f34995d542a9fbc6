"""Labels that look wrong, by confident learning (Northcutt, Jiang and Chuang, arXiv 1911.00068), as cleanlab has it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MOST = 50


class Doubtful(NamedTuple):
    """A row whose label looks wrong: its position, the class suggested, and the probability of its own label."""

    row: int
    suggested: int
    score: float


def doubtful_labels(
    probabilities: npt.NDArray[np.float32], codes: npt.NDArray[np.int64], *, most: int = MOST
) -> list[Doubtful]:
    """The rows whose labels are most likely wrong, the most suspicious first; nothing is changed.

    Rows are ordered by the probability of their label, adjusted by how sure fits are of that class on average (its
    threshold in confident learning), so that hard classes are not all doubted. Only rows for which another class is
    more probable are listed.

    Parameters
    ----------
    probabilities
        float32 (N, C), of rows by fits that have not seen them.
    codes
        int64 (N,): their labels.
    most
        At most so many; fewer, if fewer are suspicious.
    """
    from cleanlab.rank import get_label_quality_scores  # type: ignore[import-untyped]

    present, own = np.unique(codes, return_inverse=True)
    if len(present) < 2:
        return []
    among = probabilities[:, present]
    among /= np.maximum(among.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    quality = get_label_quality_scores(own, among, method="self_confidence", adjust_pred_probs=True)
    suggested = present[among.argmax(axis=1)]
    rows = [int(row) for row in np.argsort(quality, kind="stable") if suggested[row] != codes[row]]
    return [Doubtful(row, int(suggested[row]), float(probabilities[row, codes[row]])) for row in rows[:most]]
