"""Conformal sets hold the true class as often as they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from birder.evaluation.linear_fit import choose
from birder.inference.classifier import prediction_sets, softmax
from birder.learning.conformal import by_class, quantiles

pytest.importorskip("mapie")
VECTORS = Path(__file__).parents[1] / "data" / "bioclip2-tol200m-1030.parquet"


@pytest.mark.slow
def test_sets_of_real_vectors_cover_what_they_promise() -> None:
    table = pq.read_table(VECTORS)
    column = next(name for name in table.column_names if name in ("emb", "embedding", "embeddings"))
    vectors = np.stack(table[column].to_numpy()).astype(np.float32)[:, ::3]
    names = np.array([value or "" for value in table["order"].to_pylist()])
    known, counts = np.unique(names[names != ""], return_counts=True)
    classes = known[counts >= 5].tolist()
    rows = np.isin(names, classes)
    x, y = np.ascontiguousarray(vectors[rows]), np.searchsorted(classes, names[rows]).astype(np.int64)
    random = np.random.default_rng(0)
    probabilities = softmax(choose(x, y, random.integers(0, 5, len(y))).out_of_fold_logits)
    true = np.take_along_axis(probabilities, y[:, None], axis=1)[:, 0]
    coverages = []
    for _ in range(200):
        order = random.permutation(len(y))
        held_out, new = order[: len(y) // 2], order[len(y) // 2 :]
        limit = quantiles(true[held_out], y[held_out], classes, own=False)
        sets = prediction_sets(probabilities[new], classes, limit)
        coverages.append(np.mean([classes[code] in members for code, members in zip(y[new], sets, strict=True)]))
    assert 0.88 < np.mean(coverages) < 0.92


def test_each_class_is_covered_where_each_has_its_own_quantile() -> None:
    random = np.random.default_rng(3)
    y = np.repeat([0, 1], [400, 4000])
    right = np.where(y == 0, random.uniform(0, 0.6, len(y)), random.uniform(0.5, 1, len(y))).astype(np.float32)
    probabilities = np.where(y[:, None] == [0, 1], right[:, None], 1 - right[:, None]).astype(np.float32)
    order = random.permutation(len(y))
    held_out, new = order[::2], order[1::2]
    assert by_class(y[held_out], 2)
    for own in (True, False):
        limits = quantiles(right[held_out], y[held_out], ["a", "b"], own=own)
        sets = prediction_sets(probabilities[new], ["a", "b"], limits)
        rare = [members for code, members in zip(y[new], sets, strict=True) if code == 0]
        covered = float(np.mean(["a" in members for members in rare]))
        assert (abs(covered - 0.9) < 0.06) == own


def test_too_few_rows_take_in_every_class() -> None:
    assert quantiles(np.full(8, 0.99), np.zeros(8, np.int64), ["a"], own=False) == 1.0
    assert quantiles(np.full(9, 0.99), np.zeros(9, np.int64), ["a"], own=False) == pytest.approx(0.01)
    assert not by_class(np.repeat([0, 1], [20, 19]), 2)
