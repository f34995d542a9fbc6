"""Several traits at once from features, as BioCLIP 2 is judged on FishNet and AwA2 (Gu et al., arXiv 2505.23883).

A linear layer to 512, dropout of a half and a linear layer to the traits; Adam, whose learning rate is halved every 20
of 50 epochs; binary cross-entropy; batches of 256. The published script runs in mixed precision on a GPU: this one runs
in float32 on the processor, so that figures agree with it but not to the last digit.

N is the number of rows, D the dimension of the features, T the number of traits, M the number of rows that are judged,
S the number of runs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

RUNS = 3
"""How many runs; the run is the seed of its random numbers."""
EPOCHS = 50
FIRST_TRAITS = 2
"""The traits that the published F1 of AwA2 is a mean of: the first two columns."""
_HIDDEN, _BATCH, _HALVED_EVERY, _ABOVE = 512, 256, 20, 0.5

Bools = npt.NDArray[np.bool_]


def probe_traits(
    features: npt.NDArray[np.float32],
    traits: Bools,
    judged: Bools,
    *,
    learning_rate: float,
    progress: Callable[[float], None] | None = None,
) -> Bools:
    """Train on the rows that are not judged, and tell the traits of those that are.

    Parameters
    ----------
    features
        float32 (N, D), as the model gives them.
    traits
        bool (N, T).
    judged
        bool (N).
    learning_rate
        At the beginning.
    progress
        Called with the share that is done.

    Returns
    -------
    bool (S, M, T): whether a trait's logit is above 0.5, which is the published threshold.
    """
    import torch
    from torch import nn

    x = torch.from_numpy(features[~judged])
    y = torch.from_numpy(traits[~judged].astype(np.float32))
    ask = torch.from_numpy(features[judged])
    answers = np.empty((RUNS, len(ask), traits.shape[1]), bool)
    with torch.random.fork_rng(devices=[]):
        for run in range(RUNS):
            torch.manual_seed(run)
            net = nn.Sequential(nn.Linear(x.shape[1], _HIDDEN), nn.Dropout(0.5), nn.Linear(_HIDDEN, y.shape[1]))
            optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=_HALVED_EVERY, gamma=0.5)
            for epoch in range(EPOCHS):
                order = torch.randperm(len(x))
                for start in range(0, len(x), _BATCH):
                    batch = order[start : start + _BATCH]
                    loss = nn.functional.binary_cross_entropy_with_logits(net(x[batch]), y[batch])
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                schedule.step()
                if progress is not None:
                    progress((run * EPOCHS + epoch + 1) / (RUNS * EPOCHS))
            net.eval()
            with torch.inference_mode():
                answers[run] = (net(ask) > _ABOVE).numpy()
    return answers


def macro_f1_of_traits(true: Bools, answers: Bools, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The mean over traits of F1, and over runs.

    Parameters
    ----------
    true
        bool (M, T).
    answers
        bool (S, M, T).
    weights
        float32 (R, M): how often each image counts.

    Returns
    -------
    float64 (R,). A trait that is neither there nor told has an F1 of 0, as in scikit-learn.
    """
    having = weights @ true.astype(np.float32)
    total = np.zeros(len(weights))
    for told in answers:
        both = weights @ (true & told).astype(np.float32)
        either = having + weights @ told.astype(np.float32)
        total += (2 * both / np.maximum(either, 1)).mean(axis=1)
    return total / len(answers)
