"""A classifier on embeddings: scikit-learn's conventions, and what it says beside a name."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax as scipy_softmax
from sklearn.neighbors import NearestNeighbors

from birder.errors import ConfigError, WrongModelError
from birder.inference.classifier import (
    Classifier,
    Deepest,
    as_examples,
    directions,
    mean_distances,
    prediction_sets,
    roll_up,
    softmax,
    threshold_for,
)

Floats = npt.NDArray[np.float32]
CLASSES = ("barn owl", "red fox", "tawny owl")
TAXA = {
    "barn owl": {"order": "Strigiformes", "name": "barn owl"},
    "tawny owl": {"order": "Strigiformes", "name": "tawny owl"},
    "red fox": {"order": "Carnivora", "name": "red fox"},
}


@pytest.fixture
def x() -> Floats:
    return np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def classifier(x: Floats, **adaptation: Any) -> Classifier:
    random = np.random.default_rng(1)
    weight, bias = random.normal(size=(3, 6)).astype(np.float32), random.normal(size=3).astype(np.float32)
    return Classifier(CLASSES, weight, bias, adaptation, as_examples(x))


def log_classifier(**adaptation: Any) -> Classifier:
    """A classifier whose embeddings are the logarithms of its probabilities."""
    return Classifier(CLASSES, np.eye(3, dtype=np.float32), np.zeros(3, np.float32), adaptation)


def measured(precision: float, n: int = 100) -> dict[str, dict[str, float]]:
    return {"0.95": {"precision": precision, "n": n}}


def test_answers_follow_from_the_logits(x: Floats) -> None:
    made = classifier(x)
    logits = x.astype(np.float64) @ made.weight.T + made.bias
    np.testing.assert_allclose(made.decision_function(x), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.predict_proba(x), scipy_softmax(logits, axis=1), rtol=1e-4, atol=1e-6)
    assert made.predict(x).tolist() == [CLASSES[i] for i in logits.argmax(axis=1)]
    indices, scores = made.top(x, 5)
    assert indices.shape == scores.shape == (40, 3)
    np.testing.assert_array_equal(indices, np.argsort(-logits, axis=1))
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    assert made.predict(x[:0]).shape == (0,)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1e4))
@settings(max_examples=30, deadline=None)
def test_softmax_is_scipys_however_large_the_logits(seed: int, scale: float) -> None:
    logits = (np.random.default_rng(seed).normal(size=(5, 7)) * scale).astype(np.float32)
    np.testing.assert_allclose(softmax(logits), scipy_softmax(logits, axis=1), rtol=1e-4, atol=1e-6)


def test_embeddings_of_another_model_are_refused(x: Floats) -> None:
    with pytest.raises(WrongModelError, match="6-dimensional"):
        classifier(x).predict(x[:, :5])
    with pytest.raises(WrongModelError):
        classifier(x).predict(x[0])
    made = classifier(x)
    x[3, 2] = np.nan
    with pytest.raises(ConfigError, match="not finite"):
        made.predict_proba(x)


def test_unknown_is_what_lies_far_from_the_examples(x: Floats) -> None:
    made = classifier(x, unknown={"k": 3, "threshold": 0.2})
    other = np.random.default_rng(5).normal(size=(30, 6)).astype(np.float32)
    nearest = NearestNeighbors(n_neighbors=3, metric="cosine").fit(x).kneighbors(other)[0]
    np.testing.assert_allclose(made.unknown_score(other), nearest.mean(axis=1), atol=0.02)
    np.testing.assert_array_equal(made.is_unknown(other), made.unknown_score(other) > 0.2)
    assert 0 < made.is_unknown(other).sum() < 30


def test_examples_keep_their_direction_in_a_byte_a_number() -> None:
    real = np.random.default_rng(0).normal(size=(50, 1280)).astype(np.float32) * 1e3
    cosines = (directions(as_examples(real)) * real).sum(axis=1) / np.linalg.norm(real, axis=1)
    assert cosines.min() > 0.999
    assert not as_examples(np.zeros((1, 4), np.float32)).any()


def test_fewer_examples_than_neighbours_are_all_used() -> None:
    examples = directions(as_examples(np.eye(2, dtype=np.float32)))
    np.testing.assert_allclose(mean_distances(np.array([[3, 0]], np.float32), examples, 5), [0.5], atol=1e-6)


def test_a_classifier_without_what_it_needs_says_so(x: Floats) -> None:
    bare = Classifier(CLASSES, np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    assert bare.metrics == {}
    y = np.zeros((1, 3), np.float32)
    for ask in (bare.unknown_score, bare.is_unknown, bare.sets, bare.deepest):
        with pytest.raises(ConfigError, match="birder adapt"):
            ask(y)
    with pytest.raises(ConfigError):
        bare.top(y, 0)


def test_sets_hold_the_classes_that_are_probable_enough() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.34, 0.33, 0.33]], np.float32)
    made = log_classifier(conformal={"level": 0.9, "quantiles": 0.75})
    assert made.sets(np.log(p)) == [("barn owl",), ("tawny owl", "red fox"), CLASSES]
    by_class = {"barn owl": 0.2, "red fox": 0.9, "tawny owl": 0.2}
    assert prediction_sets(p, CLASSES, by_class) == [("red fox",), ("red fox",), ("red fox",)]
    assert prediction_sets(p, CLASSES, 1.0) == [CLASSES, ("tawny owl", "red fox", "barn owl"), CLASSES]
    assert prediction_sets(p, CLASSES, 0.1) == [(), (), ()]


def test_probabilities_roll_up_to_taxa() -> None:
    p = np.array([[0.5, 0.2, 0.3]], np.float32)
    names, summed = roll_up(p, CLASSES, TAXA, "order")
    assert names == ["Carnivora", "Strigiformes"]
    np.testing.assert_allclose(summed, [[0.2, 0.8]], rtol=1e-6)
    names, summed = roll_up(p, CLASSES, {"red fox": {"order": "Carnivora"}}, "order")
    assert names == ["Carnivora"] and summed.shape == (1, 1)


def test_the_deepest_rank_needs_the_probability_and_the_measured_precision() -> None:
    p = np.array([[0.97, 0.01, 0.02], [0.5, 0.02, 0.48], [0.4, 0.4, 0.2]], np.float32)

    def answers(order: dict[str, Any], name: dict[str, Any]) -> list[Deepest | None]:
        ranks = {"names": ["order", "name"], "taxa": TAXA, "thresholds": {"order": order, "name": name}}
        return log_classifier(ranks=ranks).deepest(np.log(p), 0.95)

    both = answers(measured(0.99), measured(0.96))
    assert [answer and (answer.rank, answer.name) for answer in both] == [
        ("name", "barn owl"),
        ("order", "Strigiformes"),
        None,
    ]
    assert [answer.probability for answer in both if answer] == pytest.approx([0.97, 0.98])
    coarse = answers(measured(0.99), measured(0.94))
    assert [answer and answer.rank for answer in coarse] == ["order", "order", None]
    assert answers(measured(0.99, n=19), measured(0.94)) == [None] * 3
    assert answers({}, {}) == [None] * 3


@given(st.floats(0.5, 0.999))
def test_a_floor_is_judged_at_the_next_threshold_that_was_measured(floor: float) -> None:
    threshold = threshold_for(floor)
    assert floor <= threshold < floor + 0.01 + 1e-9
    assert threshold_for(threshold) == threshold


@pytest.mark.parametrize("floor", [0.4, 1.0, float("nan")])
def test_a_floor_that_was_not_measured_is_refused(floor: float) -> None:
    with pytest.raises(ConfigError, match="between"):
        threshold_for(floor)
