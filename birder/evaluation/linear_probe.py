"""Linear probe: a logistic regression on frozen embeddings, judged on folds that it was not fitted on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from birder.evaluation.linear_fit import choose


def linear_probe(
    embeddings: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], folds: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], float]:
    """Out-of-fold logits, at the strength that `choose` takes by the log loss over all folds.

    Parameters
    ----------
    embeddings
        float32 (N, D).
    labels
        Class of each row, int64 (N), from 0.
    folds
        Fold of each row, int64 (N); rows with -1 are learned from in all folds and not judged.

    Returns
    -------
    Logits, float32 (N, C), and the strength.
    """
    chosen = choose(embeddings, labels, folds)
    return chosen.out_of_fold_logits, chosen.strength
