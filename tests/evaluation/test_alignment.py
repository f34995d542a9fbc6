"""Common neighbours of two embeddings, against the authors' own code and by what must hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.errors import ConfigError
from birder.evaluation.alignment import shared_neighbours

PUBLISHED = {1: 0.25, 5: 0.4233333468437195, 10: 0.5616666078567505}
"""`mutual_knn` of minyoungg/platonic-rep on GitHub (metrics.py, 07ef02ab) of `made()` at unit length."""


def made(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(405)
    first = random.normal(size=(count, 16)).astype(np.float32)
    second = (first @ random.normal(size=(16, 24)) + 2 * random.normal(size=(count, 24))).astype(np.float32)
    return first, second


@pytest.mark.parametrize("k", PUBLISHED)
def test_the_mean_is_the_published_metric(k: int) -> None:
    assert shared_neighbours(*made(), k).mean() == pytest.approx(PUBLISHED[k], abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 40), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_it_is_what_sets_of_neighbours_have_in_common(count: int, k: int, seed: int) -> None:
    k = min(k, count - 1)
    random = np.random.default_rng(seed)
    both = [random.normal(size=(count, size)).astype(np.float32) for size in (5, 8)]
    found = shared_neighbours(both[0], both[1], k)
    near = []
    for vectors in both:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = unit.astype(np.float64) @ unit.T.astype(np.float64)
        np.fill_diagonal(cosines, -np.inf)
        near.append([set(row) for row in np.argsort(-cosines, axis=1)[:, :k].tolist()])
    assert found.tolist() == pytest.approx([len(a & b) / k for a, b in zip(*near, strict=True)])
    assert found.tolist() == shared_neighbours(both[1], both[0], k).tolist()
    turned = np.linalg.qr(random.normal(size=(5, 5)))[0].astype(np.float32)
    assert shared_neighbours(both[0], 3 * both[0] @ turned, k).mean() > 0.99  # rounding may swap two that are as near


def test_copies_are_not_neighbours() -> None:
    first, second = made(12)
    first[6:], second[6:] = first[:6], second[:6]
    contents = np.tile(np.arange(6), 2)
    assert shared_neighbours(first, second, 1).tolist() == [1.0] * 12  # each other's copies
    apart = shared_neighbours(first, second, 10, apart=contents)
    assert apart.tolist() == [1.0] * 12  # all ten others
    alone = shared_neighbours(first, second, 3, apart=np.zeros(12, np.int64))
    assert np.isnan(alone).all()


@pytest.mark.parametrize(("rows", "k"), [(5, 1), (6, 0), (6, 6)])
def test_other_rows_and_impossible_neighbours_are_refused(rows: int, k: int) -> None:
    with pytest.raises(ConfigError):
        shared_neighbours(np.eye(6, dtype=np.float32), np.eye(6, dtype=np.float32)[:rows], k)
