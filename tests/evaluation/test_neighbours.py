"""Against scikit-learn's nearest neighbours, fitted anew without the rows of each group."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.neighbors import KNeighborsClassifier

from birder.analysis import neighbours as blocks
from birder.evaluation.neighbours import leave_one_out, named_by_neighbours


def made(seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Embeddings, labels, and groups of which some have several classes."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, 180)
    x = random.standard_normal((5, 12))[labels] + random.standard_normal((180, 12))
    return (x * random.uniform(1, 9, (180, 1))).astype(np.float32), labels, random.integers(0, 60, 180)


def votes(distances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights as Wu et al. have them, of cosine distances."""
    weights: npt.NDArray[np.float64] = np.exp((1 - distances) / 0.07)
    return weights


@pytest.mark.parametrize("k", [1, 24])
@pytest.mark.parametrize("grouped", [False, True])
def test_rows_are_named_as_scikit_learn_names_them_without_their_group(
    k: int, grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_CELLS", 2 * 50**2)  # four blocks a side
    x, labels, groups = made(k)
    groups = groups if grouped else np.arange(len(x))
    found = leave_one_out(x, 24, groups=groups if grouped else None)
    expected = np.empty(len(x), np.int64)
    for group in np.unique(groups):
        out = groups == group
        theirs = KNeighborsClassifier(k, weights=votes, metric="cosine", algorithm="brute")
        expected[out] = theirs.fit(x[~out], labels[~out]).predict(x[out])
    np.testing.assert_array_equal(named_by_neighbours(found, labels, k), expected)


def test_a_row_without_a_row_of_another_group_has_no_name() -> None:
    x, labels, _ = made(0)
    found = leave_one_out(x[:3], 2, groups=np.array([0, 0, 0]))
    assert named_by_neighbours(found, labels[:3], 2).tolist() == [-1, -1, -1]
    found = leave_one_out(x[:3], 2, groups=np.array([0, 0, 1]))
    assert named_by_neighbours(found, np.array([4, 5, 6]), 2).tolist()[:2] == [6, 6]


def test_a_burst_does_not_vote_for_itself() -> None:
    random = np.random.default_rng(0)
    bursts = np.repeat(np.arange(40), 5)
    labels = random.integers(0, 4, 40)[bursts]  # a burst has a label, which its looks do not tell
    x = (random.standard_normal((40, 16))[bursts] + 0.01 * random.standard_normal((200, 16))).astype(np.float32)
    mixed = named_by_neighbours(leave_one_out(x, 1), labels, 1)
    apart = named_by_neighbours(leave_one_out(x, 1, groups=bursts), labels, 1)
    assert (mixed == labels).all()
    assert (apart == labels).mean() < 0.6
