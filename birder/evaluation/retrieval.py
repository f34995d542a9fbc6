"""Retrieval: each row is a query, and the rows of other groups are ranked by their cosine with it.

Average precision is scikit-learn's `average_precision_score`, where rows with equal cosines share a threshold. Recall
at k, as metric learning has it (Musgrave et al., arXiv 2003.08505), is whether any of the k highest ranked rows is of
the query's class; among equal cosines, rows of other classes are ranked first.

N is the number of rows, D the embedding dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birder.analysis.neighbours import blocks_of
from birder.vectors import unit

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Retrieval:
    """How well rows are retrieved.

    Attributes
    ----------
    average_precision
        Of each query, float64 (N); NaN where no row of another group is of its class.
    first
        Rank of the first row of the query's class, int64 (N), from 1; 0 where there is none.
    """

    average_precision: npt.NDArray[np.float64]
    first: Codes

    @property
    def judged(self) -> npt.NDArray[np.bool_]:
        """Which queries have something to find, bool (N)."""
        judged: npt.NDArray[np.bool_] = self.first > 0
        return judged


def retrieve(
    embeddings: npt.NDArray[np.float32],
    labels: Codes,
    *,
    groups: Codes | None = None,
    progress: Callable[[float], None] | None = None,
) -> Retrieval:
    """Rank all rows of other groups for each row.

    Memory beyond the embeddings is that of a copy of them at length 1, and 300 MB. The time grows with N squared.

    Parameters
    ----------
    embeddings
        float32 (N, D), of any length.
    labels
        Class of each row, int64 (N).
    groups
        Group of each row, int64 (N); None: each row is one.
    progress
        Called with the share that is done.
    """
    vectors = unit(embeddings)
    groups = np.arange(len(labels)) if groups is None else groups
    of_class, of_group = _members(labels), _members(groups)
    precision, first = np.full(len(labels), np.nan), np.zeros(len(labels), np.int64)
    for block in blocks_of(len(labels)):
        similar = vectors[block] @ vectors.T
        for row, cosines in zip(range(block.start, block.stop), similar, strict=True):
            wanted = of_class[int(labels[row])]
            wanted = wanted[groups[wanted] != groups[row]]
            if len(wanted):
                found = np.sort(cosines[wanted])
                cosines[of_group[int(groups[row])]] = -np.inf
                cosines.sort()
                among_all = len(cosines) - np.searchsorted(cosines, found)
                among_found = len(found) - np.searchsorted(found, found)
                precision[row] = (among_found / among_all).mean()
                first[row] = among_all[-1] - among_found[-1] + 1
        if progress is not None:
            progress(block.stop / len(labels))
    return Retrieval(precision, first)


def _members(codes: Codes) -> dict[int, Codes]:
    """The rows of each code."""
    order = np.argsort(codes, kind="stable")
    names, starts = np.unique(codes[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))
