from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.errors import ConfigError
from birder.naming import zero_shot
from birder.naming.label_sets import Groups, Labels, label_names
from birder.naming.predictions import Top, rows_of
from birder.naming.zero_shot import top_groups, top_labels


def make(images: int, labels: int, width: int = 16, seed: int = 0) -> tuple[np.ndarray, Labels]:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((width, labels)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=0)
    names = label_names([f"label {i}" for i in range(labels)])
    return 7 * rng.standard_normal((images, width)).astype(np.float32), Labels(names, matrix)


def all_probabilities(features: np.ndarray, labels: Labels, scale: float) -> np.ndarray:
    """The definition, at once and in float64."""
    x = torch.nn.functional.normalize(torch.from_numpy(features).double(), dim=1)
    return torch.softmax(scale * x @ torch.from_numpy(labels.matrix).double(), dim=1).numpy()


def as_groups(codes: np.ndarray, count: int) -> Groups:
    return Groups(pa.table({"label": [f"group {i}" for i in range(count)]}), codes)


@settings(deadline=None, max_examples=60)
@given(
    images=st.integers(0, 9),
    labels=st.integers(1, 60),
    slice_size=st.integers(1, 25),
    block=st.integers(1, 4),
    k=st.integers(1, 8),
    scale=st.sampled_from([0.5, 14.3, 100.0, 1000.0]),
    seed=st.integers(0, 5),
)
def test_the_best_labels_are_those_of_the_softmax_at_once(
    images: int, labels: int, slice_size: int, block: int, k: int, scale: float, seed: int
) -> None:
    features, table = make(images, labels, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zero_shot, "_LABELS_AT_ONCE", slice_size)
        patch.setattr(zero_shot, "_IMAGES_AT_ONCE", block)
        top = top_labels(features, table, scale, k)
    expected = all_probabilities(features, table, scale)
    assert top.indices.shape == top.scores.shape == (images, min(k, labels))
    if scale <= 100:  # beyond, the last ones are all zero and in no order
        np.testing.assert_array_equal(top.indices, np.argsort(-expected, axis=1, kind="stable")[:, :k])
    assert all(len(set(row)) == len(row) for row in top.indices.tolist())
    np.testing.assert_allclose(top.scores, -np.sort(-expected, axis=1)[:, :k], rtol=2e-3 * scale / 100, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    images=st.integers(0, 9),
    labels=st.integers(1, 60),
    count=st.integers(1, 12),
    slice_size=st.integers(1, 25),
    k=st.integers(1, 8),
    scale=st.sampled_from([0.5, 14.3, 100.0, 1000.0]),
    seed=st.integers(0, 5),
)
def test_a_group_has_the_sum_of_its_labels(
    images: int, labels: int, count: int, slice_size: int, k: int, scale: float, seed: int
) -> None:
    features, table = make(images, labels, seed=seed)
    codes = np.random.default_rng(seed).integers(0, count, labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zero_shot, "_LABELS_AT_ONCE", slice_size)
        patch.setattr(zero_shot, "_SUMS_AT_ONCE", 3 * count)
        top = top_groups(features, table, as_groups(codes, count), scale, k)
    each = all_probabilities(features, table, scale)
    expected = np.stack([each[:, codes == group].sum(1) for group in range(count)], axis=1)
    assert top.indices.shape == (images, min(k, count))
    np.testing.assert_allclose(
        np.take_along_axis(expected, top.indices, axis=1), top.scores, rtol=2e-3 * scale / 100, atol=1e-6
    )
    np.testing.assert_allclose(top.scores, -np.sort(-expected, axis=1)[:, :k], rtol=2e-3 * scale / 100, atol=1e-6)


def test_a_late_label_with_a_far_higher_score_takes_all_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot, "_LABELS_AT_ONCE", 4)
    features = np.array([[1.0, 0.0]], dtype=np.float32)
    matrix = np.array([[-1.0] * 9 + [1.0], [0.0] * 10], dtype=np.float32)
    table = Labels(label_names([str(i) for i in range(10)]), matrix)
    for scale in (100.0, 1000.0):  # exp(2000) is beyond every float
        top = top_groups(features, table, as_groups(np.repeat([0, 1], 5), 2), scale, 2)
        assert top.indices.tolist() == [[1, 0]]
        assert top.scores.tolist() == [[1.0, 0.0]]
        assert top_labels(features, table, scale, 1).indices.tolist() == [[9]]


def test_many_small_probabilities_beside_a_large_one_are_not_lost() -> None:
    # One label holds almost all; 400,000 of its own group hold 1 % together, each below float32's resolution at 1.
    n = 400_001
    gap = np.log(99 * (n - 1)) / 100  # cosine by which the first is better, at scale 100
    matrix = np.full((2, n), 0.0, dtype=np.float32)
    matrix[0] = np.float32(0.5)
    matrix[0, 0] = np.float32(0.5 + gap)
    table = Labels(pa.table({"label": pa.array(np.arange(n).astype(str))}), matrix)
    features = np.array([[1.0, 0.0]], dtype=np.float32)
    codes = np.zeros(n, dtype=np.int64)
    codes[1::2] = 1  # half of the small ones
    top = top_groups(features, table, as_groups(codes, 2), 100.0, 2)
    np.testing.assert_allclose(top.scores, [[0.995, 0.005]], rtol=0, atol=2e-6)


def test_length_of_the_features_does_not_matter() -> None:
    features, table = make(5, 40)
    a, b = top_labels(features, table, 100.0, 5), top_labels(np.float32(1e-3) * features, table, 100.0, 5)
    np.testing.assert_array_equal(a.indices, b.indices)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


PEAK = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from birder.naming.label_sets import Groups, Labels
from birder.naming.zero_shot import top_groups, top_labels

def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))

matrix = np.load(sys.argv[1], mmap_mode="c")
names = pa.table({"label": pa.array(np.arange(matrix.shape[1]).astype(str))})
groups = Groups(names.slice(0, 500), np.arange(matrix.shape[1]) % 500)
features = np.random.default_rng(1).standard_normal((2000, matrix.shape[0]), dtype=np.float32)
few = Labels(names.slice(0, 500), np.array(matrix[:, :500]))
top_groups(features, few, Groups(few.names, np.arange(500)), 100.0, 3)  # torch loads libraries on its first use
before = memory("VmHWM")
top_groups(features, Labels(names, matrix), groups, 100.0, 3)
top_labels(features, Labels(names, matrix), 100.0, 3)
print((memory("VmHWM") - before) / matrix.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_below_two_and_a_half_matrices(tmp_path: Path) -> None:
    path = tmp_path / "matrix.npy"
    np.save(path, np.random.default_rng(0).standard_normal((128, 200_000), dtype=np.float32))
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # All probabilities of 2,000 images at once would be almost sixteen times the matrix.
    peak = float(done.stdout)
    assert peak < 2.5, peak


def test_rows_leave_out_names_below_the_minimum_score() -> None:
    names = pa.table({"family": ["Corvidae", "Strigidae"], "genus": ["Pica", "Strix"]})
    top = Top(np.array([[1, 0], [0, 1]]), np.array([[0.75, 0.25], [0.9, 0.1]], dtype=np.float32))
    assert rows_of(top, names, 0.2) == [
        [
            {"family": "Strigidae", "genus": "Strix", "score": 0.75},
            {"family": "Corvidae", "genus": "Pica", "score": 0.25},
        ],
        [{"family": "Corvidae", "genus": "Pica", "score": pytest.approx(0.9)}],
    ]


@pytest.mark.parametrize(
    ("features", "k", "message"),
    [
        (np.zeros((2, 8), np.float32), 1, "different models"),
        (np.full((2, 16), np.nan, np.float32), 1, "embed those images again"),
        (np.zeros((2, 16), np.float32), 0, "k must be at least 1"),
    ],
)
def test_embeddings_that_cannot_be_scored_are_reported(features: np.ndarray, k: int, message: str) -> None:
    _, table = make(1, 4)
    with pytest.raises(ConfigError, match=message):
        top_labels(features, table, 100.0, k)
    with pytest.raises(ConfigError, match=message):
        top_groups(features, table, as_groups(np.zeros(4, np.int64), 1), 100.0, k)
