"""Against scikit-learn's average precision, query by query, and against ranks counted one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from birder.analysis import neighbours as blocks
from birder.evaluation.retrieval import retrieve
from birder.vectors import unit


def made(seed: int, rows: int = 120) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 6, rows)
    x = random.standard_normal((6, 8))[labels] + random.standard_normal((rows, 8))
    return (x * random.uniform(1, 9, (rows, 1))).astype(np.float32), labels, random.integers(0, rows // 3, rows)


@pytest.mark.parametrize("grouped", [False, True])
def test_average_precision_and_ranks(grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_CELLS", 120 * 7)
    x, labels, groups = made(0)
    labels[0] = 6  # alone in its class
    found = retrieve(x, labels, groups=groups if grouped else None)
    groups = groups if grouped else np.arange(len(x))
    cosines = unit(x) @ unit(x).T
    for row in range(len(x)):
        assert found.judged[row] == ((labels == labels[row]) & (groups != groups[row])).any()
    assert not found.judged[0]
    assert np.isnan(found.average_precision[0])
    for row in np.flatnonzero(found.judged).tolist():
        others = groups != groups[row]
        relevant = labels[others] == labels[row]
        expected = average_precision_score(relevant, cosines[row, others])
        assert found.average_precision[row] == pytest.approx(expected, abs=1e-6)
        assert found.first[row] == 1 + int(np.flatnonzero(relevant[np.argsort(-cosines[row, others])])[0])


@pytest.mark.slow
@settings(max_examples=25)
@given(st.integers(0, 200))
def test_equal_images_of_other_classes_are_not_in_a_querys_favour(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = np.eye(3, dtype=np.float32)[random.integers(0, 3, 30)]  # cosines are 0 or 1
    labels = random.integers(0, 4, 30)
    found = retrieve(x, labels)
    for row in np.flatnonzero(found.judged):
        others = np.arange(30) != row
        cosines, relevant = (x @ x[row])[others], labels[others] == labels[row]
        assert found.average_precision[row] == pytest.approx(average_precision_score(relevant, cosines))
        best = cosines[relevant].max()
        assert found.first[row] == 1 + ((cosines >= best) & ~relevant).sum()
