"""Leave-one-out classification by nearest neighbours, exactly: every row is named by all others.

The vote is that of Wu et al. (arXiv 1805.01978): the k rows with the highest cosine, weighted by exp(cosine / 0.07).
Rows of a row's own group have no vote, so that an image is not named by the others of its burst.

N is the number of rows, D the embedding dimension, C the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from birder.analysis.neighbours import Neighbours, nearest_rows
from birder.naming.by_examples import vote
from birder.vectors import unit

_VOTES = 2**24  # shares of votes at once: 128 MB

Codes = npt.NDArray[np.int64]


def leave_one_out(
    embeddings: npt.NDArray[np.float32],
    k: int,
    *,
    groups: Codes | None = None,
    progress: Callable[[float], None] | None = None,
) -> Neighbours:
    """The k nearest rows of other groups, by their cosines.

    Memory beyond the embeddings is that of a copy of them at length 1, 200 MB, and 12 N k bytes.

    Parameters
    ----------
    embeddings
        float32 (N, D), of any length.
    k
        How many, less than N.
    groups
        Group of each row, int64 (N); None: each row is one.
    progress
        Called with the share that is done.

    Returns
    -------
    As `birder.analysis.neighbours.nearest_rows`.
    """
    return nearest_rows(unit(embeddings), k, apart=groups, progress=progress)


def named_by_neighbours(neighbours: Neighbours, labels: Codes, k: int) -> Codes:
    """The class with the largest share of the votes of the k nearest; of several, the one with the lowest code.

    Parameters
    ----------
    neighbours
        From `leave_one_out`, with k or more.
    labels
        Class of each row, int64 (N), from 0.
    k
        How many vote.

    Returns
    -------
    int64 (N); -1 for a row without any row of another group.
    """
    classes = int(labels.max()) + 1
    named = np.full(len(labels), -1, np.int64)
    judged = np.flatnonzero(neighbours.indices[:, 0] >= 0)
    at_once = max(1, _VOTES // classes)
    for start in range(0, len(judged), at_once):
        rows = judged[start : start + at_once]
        codes = labels[neighbours.indices[rows, :k]]
        named[rows] = vote(codes, neighbours.cosines[rows, :k], classes).argmax(axis=1)
    return named
