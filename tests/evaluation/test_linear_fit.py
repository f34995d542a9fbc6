"""Logistic regression against scikit-learn's, on the real BioCLIP 2 vectors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.preprocessing import StandardScaler

from birder.evaluation import linear_fit
from birder.evaluation.linear_fit import (
    STRENGTHS,
    choose,
    fit,
    fold_in,
    log_loss,
    standardisation,
    temperature,
)
from birder.vectors import put_rows, room, take_rows

VECTORS = Path(__file__).parents[1] / "data" / "bioclip2-tol200m-1030.parquet"
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def orders() -> tuple[Floats, Codes]:
    """Vectors (N, 192) of the twelve most frequent orders, and the order of each."""
    table = pq.read_table(VECTORS)
    column = next(name for name in table.column_names if name in ("emb", "embedding", "embeddings"))
    vectors = np.stack(table[column].to_numpy()).astype(np.float32)[:, ::4]
    names = np.array([value or "" for value in table["order"].to_pylist()])
    known, counts = np.unique(names[names != ""], return_counts=True)
    frequent = np.sort(known[np.argsort(-counts, kind="stable")[:12]])
    rows = np.isin(names, frequent)
    return np.ascontiguousarray(vectors[rows]), np.searchsorted(frequent, names[rows]).astype(np.int64)


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_coefficients_are_scikit_learns(orders: tuple[Floats, Codes], strength: float) -> None:
    x, y = orders
    scaler = StandardScaler().fit(x.astype(np.float64))
    theirs = LogisticRegression(C=strength, tol=1e-9, max_iter=10_000).fit(scaler.transform(x.astype(np.float64)), y)
    ours = fit(x, y, strength)
    mean, scale = standardisation(x)
    np.testing.assert_allclose(mean, scaler.mean_, rtol=1e-9)
    np.testing.assert_allclose(scale, scaler.scale_, rtol=1e-6)
    difference = np.linalg.norm(ours.weight * scale - theirs.coef_) / np.linalg.norm(theirs.coef_)
    assert difference < 1e-4
    np.testing.assert_allclose(
        log_loss(ours.logits(x), y),
        sklearn_log_loss(y, theirs.predict_proba(scaler.transform(x.astype(np.float64)))),
        rtol=1e-4,
    )


def test_single_precision_is_close_enough_for_large_tables(
    orders: tuple[Floats, Codes], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = orders
    exact = fit(x, y, 0.1)
    monkeypatch.setattr(linear_fit, "_CELLS_IN_DOUBLE", 0)
    single = fit(x, y, 0.1)
    _, scale = standardisation(x)
    difference = np.linalg.norm((single.weight - exact.weight) * scale) / np.linalg.norm(exact.weight * scale)
    assert 0 < difference < 5e-4


def test_the_start_does_not_change_the_result(orders: tuple[Floats, Codes]) -> None:
    x, y = orders
    first = fit(x, y, 0.1)
    again = fit(x, y, 0.1, start=fit(x, y, 1.0))
    _, scale = standardisation(x)
    assert np.linalg.norm((again.weight - first.weight) * scale) < 1e-4 * np.linalg.norm(first.weight * scale)


@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.integers(2, 6),
    dimension=st.integers(1, 9),
    divisor=st.floats(0.05, 20.0),
)
@settings(max_examples=30, deadline=None)
def test_folding_is_exact(seed: int, classes: int, dimension: int, divisor: float) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(3, 2, size=(7, dimension))
    mean, scale = random.normal(3, 2, dimension), random.uniform(0.1, 5, dimension)
    weight, bias = random.normal(size=(classes, dimension)), random.normal(size=classes)
    folded = fold_in(weight, bias, mean, scale, divisor)
    plain = (((x - mean) / scale) @ weight.T + bias) / divisor
    np.testing.assert_allclose(x @ folded.weight.T + folded.bias, plain, rtol=1e-9, atol=1e-9 / divisor)


def test_a_component_that_never_changes_gets_no_weight() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 3)).astype(np.float32)
    x[:, 1] = 7.25
    layer = fit(x, (x[:, 0] > 0).astype(np.int64), 1.0)
    np.testing.assert_allclose(layer.weight[:, 1], 0, atol=1e-9)


def test_temperature_undoes_what_logits_were_multiplied_by() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, size=(40_000, 5)).astype(np.float32)
    y = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    assert temperature(logits * np.float32(3), y) == pytest.approx(3.0, rel=0.05)
    assert temperature(logits * np.float32(0.25), y) == pytest.approx(0.25, rel=0.05)


@pytest.mark.slow
def test_rows_are_judged_by_fits_that_have_not_seen_them(orders: tuple[Floats, Codes]) -> None:
    x, y = orders
    folds = np.random.default_rng(0).integers(0, 3, len(y))
    folds[:20] = -1
    chosen = choose(x, y, folds)
    assert not chosen.out_of_fold_logits[:20].any()
    learned = np.flatnonzero(folds != 1)
    without = fit(x[learned], y[learned], chosen.strength, classes=12)
    judged = folds == 1
    seen = fit(x, y, chosen.strength).logits(x[judged])
    difference = np.abs(chosen.out_of_fold_logits[judged] - without.logits(x[judged])).max()
    assert difference < 0.1 * np.abs(seen - without.logits(x[judged])).max()
    right = chosen.out_of_fold_logits[20:].argmax(axis=1) == y[20:]
    assert 0.5 < right[folds[20:] >= 0].mean() < 1


@pytest.mark.slow
def test_the_strength_with_the_lowest_loss_is_chosen(orders: tuple[Floats, Codes]) -> None:
    x, y = orders
    folds = np.random.default_rng(0).integers(0, 3, len(y))
    chosen = choose(x, y, folds)
    assert list(chosen.losses) == sorted(chosen.losses)
    assert len(STRENGTHS) >= 9 and STRENGTHS[0] == 1e-4 and STRENGTHS[-1] == 100

    def loss(strength: float) -> float:
        logits = np.empty((len(y), 12), np.float32)
        for fold in range(3):
            layer = fit(x[folds != fold], y[folds != fold], strength, classes=12, exact=False)
            logits[folds == fold] = layer.logits(x[folds == fold])
        return log_loss(logits, y, temperature(logits, y))

    every = {strength: loss(strength) for strength in STRENGTHS}  # those that were not tried, too
    assert chosen.strength == min(every, key=lambda each: every[each])


@pytest.mark.parametrize("best", [1e-4, 1e-2, 0.316228, 100.0])
def test_the_search_finds_a_strength_at_either_end(best: float, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    def fitted(self: object, strength: float, **_: object) -> linear_fit.Layer:
        tried.append(strength)
        return linear_fit.Layer(np.full((2, 3), strength), np.zeros(2))

    monkeypatch.setattr(linear_fit._Problem, "fit", fitted)
    monkeypatch.setattr(linear_fit, "temperature", lambda *_: 1.0)
    monkeypatch.setattr(linear_fit, "log_loss", lambda logits, *_: 1 + abs(math.log10(abs(float(logits[0, 0])) / best)))
    x = np.full((40, 3), 1 / 3, np.float32)
    chosen = choose(x, np.tile([0, 1], 20), np.arange(40) // 4 % 2)
    assert chosen.strength == pytest.approx(best)
    assert len(chosen.losses) <= len(STRENGTHS) // 2 + 2
    assert len(tried) == 2 * len(chosen.losses) + 2  # and once more each, for the held-out rows


def test_the_losses_of_strengths_are_those_of_scikit_learn(orders: tuple[Floats, Codes]) -> None:
    x, y = orders
    folds = np.random.default_rng(0).integers(0, 3, len(y))
    chosen = choose(x, y, folds)
    for strength in list(chosen.losses)[:3]:
        logits = np.empty((len(y), 12), np.float32)
        for fold in range(3):
            scaler = StandardScaler().fit(x[folds != fold])
            model = LogisticRegression(C=strength, max_iter=2000).fit(
                scaler.transform(x[folds != fold]), y[folds != fold]
            )
            logits[folds == fold] = model.decision_function(scaler.transform(x[folds == fold]))
        scaled = logits / temperature(logits, y)
        probabilities = np.exp(scaled - scaled.max(axis=1, keepdims=True)).astype(np.float64)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        assert chosen.losses[strength] == pytest.approx(sklearn_log_loss(y, probabilities), rel=0.01)


def test_groups_that_are_kept_apart_are_not_learned_from() -> None:
    random = np.random.default_rng(2)
    x = random.normal(size=(300, 4)).astype(np.float32)
    y = np.repeat([0, 1], 150)  # nothing can be learned
    folds = np.tile([0, 1, -1], 100)
    x[2::3] = x[0::3]  # rows that are never judged repeat those of fold 0, label and all
    apart = np.tile([0, 1, 0], 100)
    kept = choose(x, y, folds, apart=apart)
    rows = np.flatnonzero(apart != 0)
    without = fit(x[rows], y[rows], kept.strength, classes=2)
    np.testing.assert_allclose(kept.out_of_fold_logits[0::3], without.logits(x[0::3]), atol=0.05)


@pytest.mark.slow
def test_large_tables_choose_on_a_part_of_each_class_and_fold(
    orders: tuple[Floats, Codes], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = orders
    folds = np.arange(len(y)) % 3
    monkeypatch.setattr(linear_fit, "_CELLS_TO_CHOOSE", len(x) * x.shape[1] * 12 // 3)
    chosen, again = choose(x, y, folds, seed=4), choose(x, y, folds, seed=4)
    assert len(x) // 3 <= chosen.rows < len(x) // 2
    assert chosen.out_of_fold_logits.any(axis=1).all()
    assert chosen.out_of_fold_logits.tobytes() == again.out_of_fold_logits.tobytes()


@pytest.mark.parametrize("scale", [1e-3, 0.3, 1.0, 4.0, 200.0])
def test_the_temperature_is_where_scipy_finds_the_lowest_loss(scale: float) -> None:
    random = np.random.default_rng(3)
    y = random.integers(0, 9, 6_000)
    logits = random.normal(size=(6_000, 9)).astype(np.float32)
    logits[np.arange(len(y)), y] += 1.5
    logits *= np.float32(scale)
    some = np.flatnonzero(np.arange(len(y)) % 3)
    found = minimize_scalar(
        lambda log: log_loss(logits[some], y[some], math.exp(log)), bounds=(-3, 3), method="bounded"
    )
    for start in (1.0, 15.0):
        assert math.log(temperature(logits, y, some, start=start)) == pytest.approx(found.x, abs=1e-3)
    assert log_loss(logits, y, 2.0, some) == pytest.approx(log_loss(logits[some], y[some], 2.0), rel=1e-6)


def test_scattered_rows_of_a_file_are_taken_and_put_as_in_memory() -> None:
    random = np.random.default_rng(0)
    kept = random.standard_normal((1_000, 7), dtype=np.float32)
    mapped = room(*kept.shape, most=0)
    mapped[:] = kept
    rows = random.integers(0, len(kept), 300)
    for array in (kept, mapped):
        assert take_rows(array, rows).tobytes() == kept[rows].tobytes()
        assert take_rows(array, rows[:0]).shape == (0, 7)
    places = random.permutation(len(kept))[:300]
    values = random.standard_normal((300, 7), dtype=np.float32)
    put_rows(mapped, places, values)
    put_rows(kept, places, values)
    assert mapped.tobytes() == kept.tobytes()
