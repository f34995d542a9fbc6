"""Figures against scikit-learn's, on random and odd data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from birder.evaluation.evaluate import evaluate_predictions
from birder.evaluation.metrics import count, heights, log_losses
from birder.evaluation.predictions import from_columns, predictions_table

NONE = "(no answer)"
NAMES = st.sampled_from(["adder", "bat", "crow", "deer", "eel"])
ROWS = st.lists(st.tuples(NAMES, st.one_of(st.none(), NAMES, st.just("fox"))), min_size=1, max_size=40)


def judged(true: list[str], predicted: list[str | None]) -> dict[str, Any]:
    ids = [f"{i:04}" for i in range(len(true))]
    return evaluate_predictions(from_columns(ids, ids, None, true, predicted), resamples=20)


def estimate(found: dict[str, Any], name: str) -> float:
    return float(found["metrics"][name]["estimate"])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_names_alone_are_judged_as_scikit_learn_does(rows: list[tuple[str, str | None]]) -> None:
    true, predicted = [one for one, _ in rows], [other for _, other in rows]
    found = judged(true, predicted)
    theirs = [name or NONE for name in predicted]
    names = sorted({*true, *predicted} - {None})  # type: ignore[type-var]
    assert estimate(found, "top1") == pytest.approx(reference.accuracy_score(true, theirs))
    recall = reference.recall_score(true, theirs, labels=sorted(set(true)), average="macro", zero_division=0)
    assert estimate(found, "mean_recall") == pytest.approx(recall)
    f1 = reference.f1_score(true, theirs, labels=names, average="macro", zero_division=0)
    assert estimate(found, "macro_f1") == pytest.approx(f1)
    assert estimate(found, "coverage") == pytest.approx(np.mean([name is not None for name in predicted]))
    precisions, recalls, f1s, sizes = reference.precision_recall_fscore_support(
        true, theirs, labels=names, zero_division=np.nan
    )
    assert [each["name"] for each in found["classes"]] == names
    for each, precision, recall, f1, size in zip(found["classes"], precisions, recalls, f1s, sizes, strict=True):
        assert each["n"] == size
        for key, value in (("precision", precision), ("recall", recall), ("f1", f1)):
            if np.isnan(value):
                assert key not in each and key not in each["intervals"]
            else:
                low, high = each["intervals"][key]
                assert each[key] == pytest.approx(value) and low <= each[key] <= high
    cells = [*names, NONE]
    matrix = reference.confusion_matrix(true, theirs, labels=cells)
    sparse = {(t, p or NONE): n for t, p, n in found["confusion"]}
    assert sum(sparse.values()) == len(rows)
    assert all(sparse.get((t, p), 0) == matrix[i, j] for i, t in enumerate(cells) for j, p in enumerate(cells))


def test_a_full_answer_gives_balanced_accuracy_and_the_plain_macro_f1() -> None:
    random = np.random.default_rng(3)
    names = np.array(["adder", "bat", "crow"])
    true, predicted = names[random.integers(0, 3, 200)].tolist(), names[random.integers(0, 3, 200)].tolist()
    found = judged(true, predicted)
    assert estimate(found, "mean_recall") == pytest.approx(reference.balanced_accuracy_score(true, predicted))
    assert estimate(found, "macro_f1") == pytest.approx(reference.f1_score(true, predicted, average="macro"))


@pytest.mark.parametrize(("images", "classes", "seed"), [(300, 12, 0), (40, 30, 1), (200, 6, 2), (1, 7, 3)])
def test_probabilities_are_judged_as_scikit_learn_does(images: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    names = [f"class {i:02}" for i in range(classes)]
    codes = random.integers(0, classes, images)
    probabilities = random.dirichlet(np.full(classes, 0.3), images).astype(np.float32)
    ids = [f"{i}" for i in range(images)]
    table = predictions_table(ids, ids, None, None, [names[i] for i in codes], probabilities, names)
    found = evaluate_predictions(table, resamples=20)
    every = np.arange(classes)
    for k in (1, 3, 5):
        score = reference.top_k_accuracy_score(codes, probabilities, k=k, labels=every)
        assert estimate(found, f"top{k}") == pytest.approx(score)
    normal = probabilities.astype(np.float64)
    normal /= normal.sum(axis=1, keepdims=True)
    loss = reference.log_loss(codes, normal.astype(np.float32), labels=every)  # clipped as its type asks
    assert estimate(found, "log_loss") == pytest.approx(loss, rel=1e-5)
    brier = reference.brier_score_loss(codes, normal, labels=every)
    assert estimate(found, "brier") == pytest.approx(brier, abs=1e-6)


def test_a_probability_of_zero_costs_what_scikit_learn_says() -> None:
    told = np.array([[1, 0], [0, 1], [0.5, 0.5]], np.float32)
    losses = log_losses(np.array([0, 1, 0.5], np.float32))
    assert losses.mean() == pytest.approx(reference.log_loss([1, 1, 1], told, labels=[0, 1]), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(0, 2**32 - 1))
def test_weights_are_rows_that_occur_more_than_once(rows: list[tuple[str, str | None]], seed: int) -> None:
    names = sorted({name for row in rows for name in row} - {None})  # type: ignore[type-var]
    true = np.array([names.index(one) for one, _ in rows])
    predicted = np.array([-1 if other is None else names.index(other) for _, other in rows])
    weights = np.random.default_rng(seed).integers(0, 4, (2, len(rows)))
    weighted = count(true, predicted, len(names), weights.astype(np.float32))
    for i, row in enumerate(weights):
        repeated = count(true.repeat(row), predicted.repeat(row), len(names))
        for ours, theirs in zip(weighted, repeated, strict=True):
            assert ours[i].tolist() == theirs.tolist()


def test_height_counts_the_ranks_to_climb() -> None:
    agree = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0], [0, 1, 0]], bool)  # species, genus, family
    assert heights(agree).tolist() == [0, 1, 2, 3, 1]


def test_ranks_are_judged_after_both_names_were_rolled_up() -> None:
    taxa = {
        "carrion crow": {"family": "Corvidae", "genus": "Corvus", "species": "Corvus corone"},
        "rook": {"family": "Corvidae", "genus": "Corvus", "species": "Corvus frugilegus"},
        "magpie": {"family": "Corvidae", "genus": "Pica", "species": "Pica pica"},
        "barn owl": {"family": "Tytonidae", "genus": "Tyto", "species": "Tyto alba"},
        "some bird": {},
    }
    true = ["rook", "rook", "rook", "rook", "magpie", "some bird"]
    predicted = ["rook", "carrion crow", "magpie", "barn owl", None, "rook"]
    ids = list("abcdef")
    found = evaluate_predictions(from_columns(ids, ids, None, true, predicted, taxa=taxa), resamples=20)
    accuracy = [(each["rank"], each["accuracy"]["estimate"], each["accuracy"]["n"]) for each in found["ranks"]]
    assert accuracy == [("family", 0.6, 5), ("genus", 0.4, 5), ("species", 0.2, 5)]
    assert found["metrics"]["lca_height"]["estimate"] == pytest.approx((0 + 1 + 2 + 3 + 3) / 5)
    assert found["metrics"]["lca_height"]["n"] == 5


def test_only_some_columns_of_ranks() -> None:
    table = from_columns(["a"], ["a"], None, ["rook"], ["rook"])
    with_ranks = table.append_column("true_genus", pa.array(["Corvus"]))
    assert "ranks" not in evaluate_predictions(with_ranks)
