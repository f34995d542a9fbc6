"""Labels that look wrong, by confident learning (Northcutt, Jiang and Chuang, arXiv 1911.00068).

The scores are those of cleanlab (self-confidence with adjusted probabilities), with which the tests compare them.
cleanlab takes all probabilities of all rows at once, in several copies; here three numbers of each row are enough.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from birder.evaluation.held_out import Probabilities, blocks_of

MOST = 50
_LOWEST = 2e-6  # cleanlab's


class Doubtful(NamedTuple):
    """A row whose label looks wrong: its position, the class suggested, and the probability of its own label."""

    row: int
    suggested: int
    score: float


def doubtful_labels(
    probabilities: Probabilities | npt.NDArray[np.float32], codes: npt.NDArray[np.int64], *, most: int = MOST
) -> list[Doubtful]:
    """The rows whose labels are most likely wrong, the most suspicious first; nothing is changed.

    Rows are ordered by the probability of their label, adjusted by how sure fits are of that class on average (its
    threshold in confident learning), so that hard classes are not all doubted. Only rows for which another class is
    more probable are listed.

    Parameters
    ----------
    probabilities
        float32 (N, C), of rows by fits that have not seen them; read in blocks.
    codes
        int64 (N,): their labels.
    most
        At most so many; fewer, if fewer are suspicious.
    """
    present, own = np.unique(codes, return_inverse=True)
    if len(present) < 2:
        return []
    sure = np.empty(len(codes), np.float32)  # of their own label, among the classes that are there
    plain = np.empty(len(codes), np.float32)
    suggested = np.empty(len(codes), np.int64)
    for block in blocks_of(len(codes)):
        some = probabilities[block]
        among = some[:, present]
        among /= np.maximum(among.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        sure[block] = np.take_along_axis(among, own[block][:, None], axis=1)[:, 0]
        plain[block] = np.take_along_axis(some, codes[block][:, None], axis=1)[:, 0]
        suggested[block] = present[among.argmax(axis=1)]
    thresholds = np.maximum(np.bincount(own, sure) / np.bincount(own), _LOWEST)
    quality = (sure - thresholds[own] + thresholds.max()) / (1 - thresholds.sum() + len(present) * thresholds.max())
    rows = np.argsort(quality, kind="stable")
    rows = rows[suggested[rows] != codes[rows]][:most]
    return [Doubtful(int(row), int(suggested[row]), float(plain[row])) for row in rows]
