"""Simulated truths: how often do 95 % intervals hold them?

The rows of each replication are right with known probabilities; the truth is the mean of these, over rows or classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from birder.evaluation.intervals import Bootstrap

Codes = npt.NDArray[np.int64]
CLASSES = 30
CORRELATION = 0.3
"""Of right and wrong within groups."""


def classes_of(shape: str) -> Codes:
    """The class of each row: 12 rows in each class, or 120 in the first down to 1 in the last."""
    place = np.arange(CLASSES) / (CLASSES - 1)
    counts = np.full(CLASSES, 12) if shape == "balanced" else np.maximum(1, np.round(120 * np.exp(-5 * place)))
    return np.repeat(np.arange(CLASSES), counts.astype(np.int64))


def groups_of(kind: str, classes: Codes, random: np.random.Generator) -> Codes | None:
    """No groups; bursts of one to eight rows of a class; or 25 stations with rows of many classes."""
    if kind == "rows":
        return None
    if kind == "stations":
        return random.integers(0, 25, len(classes))
    starts = np.r_[True, (np.diff(classes) != 0) | (random.random(len(classes) - 1) < 0.25)]
    return np.cumsum(starts) - 1


def coverage(shape: str, kind: str, accuracy: npt.NDArray[np.float64], figure: str, replications: int = 2000) -> float:
    """The share of replications whose interval holds the truth."""
    from scipy.special import ndtr, ndtri

    random = np.random.default_rng(11)
    classes = classes_of(shape)
    groups = groups_of(kind, classes, random)
    probability = accuracy[classes]
    truth = float(probability.mean() if figure == "micro" else accuracy.mean())
    bootstraps = [Bootstrap(groups, classes, seed=seed) for seed in range(4)]
    held = 0
    for replication in range(replications):
        if groups is None:
            chance = probability
        else:  # each group has its own ease, as strong in all its rows
            ease = random.normal(size=int(groups.max()) + 1)[groups]
            chance = ndtr((ndtri(probability) + np.sqrt(CORRELATION) * ease) / np.sqrt(1 - CORRELATION))
        right = random.random(len(classes)) < chance
        bootstrap = bootstraps[replication % len(bootstraps)]
        estimate = bootstrap.mean(right) if figure == "micro" else bootstrap.macro(right)
        assert estimate.low is not None and estimate.high is not None
        held += estimate.low <= truth <= estimate.high
    return held / replications


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["micro", "macro"])
@pytest.mark.parametrize("kind", ["rows", "bursts", "stations"])
@pytest.mark.parametrize("shape", ["balanced", "long-tailed"])
def test_intervals_hold_the_truth_as_often_as_they_say(shape: str, kind: str, figure: str) -> None:
    held = coverage(shape, kind, np.full(CLASSES, 0.8), figure)
    assert 0.93 <= held <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rows", "bursts"])
@pytest.mark.parametrize(
    "accuracy",
    [
        pytest.param(np.linspace(0.95, 0.55, CLASSES), id="rare classes are harder"),
        pytest.param(np.full(CLASSES, 0.93), id="rarely wrong"),
    ],
)
def test_means_over_classes_of_a_difficult_long_tail_nearly_do(kind: str, accuracy: npt.NDArray[np.float64]) -> None:
    held = coverage("long-tailed", kind, accuracy, "macro")
    assert 0.92 <= held <= 0.98
