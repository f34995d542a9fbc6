"""One answer for a sequence: against scipy's log softmax and the scores of rows, and beside each row's own answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import log_softmax, logsumexp, softmax

import birder
from birder.errors import CollectionError, ConfigError, UnknownNameError
from birder.inference.classifier import Classifier
from birder.naming.by_classifier import ClassifierNames
from birder.naming.by_examples import name_by_examples
from birder.naming.by_sequence import SequencePool, pool
from birder.naming.by_texts import TextNames
from birder.naming.label_sets import Groups, Labels
from birder.vectors import unit
from tests.factory import collection_of_vectors

RANDOM = np.random.default_rng(5)
SIZES = [1, 3, 2, 5]


def sequences(dimension: int) -> list[Any]:
    return [RANDOM.normal(size=(size, dimension)).astype(np.float32) for size in SIZES]


def classifier() -> ClassifierNames:
    weight, bias = RANDOM.normal(size=(4, 6)).astype("f4"), RANDOM.normal(size=4).astype("f4")
    return ClassifierNames(Classifier(("a", "b", "c", "d"), weight, bias), "x", "00", "x")


def texts(grouped: bool) -> TextNames:
    matrix = np.ascontiguousarray(unit(RANDOM.normal(size=(7, 6)).astype("f4")).T)
    groups = Groups(pa.table({"label": ["x", "y", "z"]}), np.array([0, 1, 2, 0, 1, 2, 0])) if grouped else None
    return TextNames(Labels(pa.table({"label": [f"l{n}" for n in range(7)]}), matrix), groups, 20.0)


def test_a_classifiers_log_probabilities_are_averaged() -> None:
    names, some = classifier(), sequences(6)
    top = pool(names, some, 9)
    assert top.indices.shape == (4, 4)
    for row, vectors in enumerate(some):
        logits = vectors @ names.classifier.weight.T + names.classifier.bias
        wanted = softmax(log_softmax(logits.astype(np.float64), axis=1).mean(axis=0))
        assert top.indices[row].tolist() == np.argsort(-wanted).tolist()
        np.testing.assert_allclose(top.scores[row], np.sort(wanted)[::-1], rtol=1e-4)


@pytest.mark.parametrize("grouped", [False, True])
def test_log_probabilities_of_texts_are_averaged(grouped: bool) -> None:
    names, some = texts(grouped), sequences(6)
    top = pool(names, some, 2)
    for row, vectors in enumerate(some):
        logs = log_softmax(20.0 * unit(vectors).astype(np.float64) @ names.labels.matrix, axis=1)
        if names.groups is not None:
            logs = np.stack([logsumexp(logs[:, names.groups.codes == g], axis=1) for g in range(3)], axis=1)
        wanted = softmax(logs.mean(axis=0))
        assert top.indices[row].tolist() == np.argsort(-wanted)[:2].tolist()
        np.testing.assert_allclose(top.scores[row], np.sort(wanted)[::-1][:2], rtol=1e-3)


@pytest.mark.parametrize("names", [classifier(), texts(False), texts(True)])
def test_a_sequence_of_one_row_has_the_answer_of_the_row(names: Any) -> None:
    vectors = RANDOM.normal(size=(5, 6)).astype("f4")
    alone = SequencePool(names, {str(n): str(n) for n in range(5)}, 3, 0.0)
    found = list(alone.add([str(n) for n in range(5)], vectors))
    for one, row in zip(found, names.predict(vectors, 3), strict=True):
        assert [each["label"] for each in one.names] == [each["label"] for each in row]
        np.testing.assert_allclose(
            [each["score"] for each in one.names], [each["score"] for each in row], rtol=1e-3, atol=1e-6
        )


@pytest.mark.parametrize("method", ["simpleshot", "knn"])
def test_scores_of_examples_are_averaged(method: str) -> None:
    names = name_by_examples(RANDOM.normal(size=(12, 6)).astype("f4"), ["a", "b", "c"] * 4, method=method)
    some = sequences(6)
    top = pool(names, some, 3)
    for row, vectors in enumerate(some):
        single = names.classifier.predict(vectors, 3)
        wanted = np.zeros(3)
        for indices, scores in zip(single.indices, single.scores, strict=True):
            wanted[indices] += scores / len(vectors)
        np.testing.assert_allclose(top.scores[row], np.sort(wanted)[::-1], rtol=1e-4, atol=1e-6)


def test_rows_of_a_sequence_may_come_in_any_batch() -> None:
    names = classifier()
    of = {"a": "s", "b": "t", "c": "s", "gone": "t"}
    vectors = RANDOM.normal(size=(3, 6)).astype("f4")
    waiting = SequencePool(names, of, 1, 0.0)
    assert list(waiting.add(["c", "b"], vectors[:2])) == []
    (whole,) = waiting.add(["a"], vectors[2:])
    assert (whole.sequence, whole.uri, whole.rows) == ("s", "a", 2)
    assert whole.names[0]["label"] == classes_of(names, vectors[[0, 2]])
    (rest,) = waiting.rest()
    assert (rest.sequence, rest.rows) == ("t", 1)
    (new,) = waiting.add(["added meanwhile"], vectors[:1])
    assert new.sequence == "added meanwhile"
    with pytest.raises(ConfigError, match="at least 1"):
        pool(names, [vectors], 0)


def classes_of(names: ClassifierNames, vectors: Any) -> str:
    return names.classifier.classes[int(pool(names, [vectors], 1).indices[0, 0])]


@pytest.fixture
def collection(tmp_path: Path) -> birder.Collection:
    """Ten images of two classes, of which the first six are labelled; the others are in two sequences."""
    vectors = np.array([[1, 0, 0.1 * n] if n % 2 else [0, 1, 0.1 * n] for n in range(6)])
    others = np.array([[1, 0.2, 0], [0.45, 0.55, 0], [1, 0, 0.1], [0, 1, 0]])
    columns: dict[str, Any] = {
        "label": ["owl", "fox"] * 3 + [None] * 4,
        "sequence": [f"old {n}" for n in range(6)] + ["visit", "visit", "visit", "other"],
    }
    collection_of_vectors(tmp_path / "c.birder", np.concatenate([vectors, others]), columns=columns)
    return birder.open_collection(tmp_path / "c.birder")


def test_predictions_of_sequences_are_saved_beside_those_of_rows(collection: birder.Collection) -> None:
    found = collection.predict(column="label", by="sequence", k=1, save=True)
    assert [(row["sequence"], row["rows"], row["label"]) for row in found] == [("visit", 3, "fox"), ("other", 1, "owl")]
    assert found.images == 2 and "predicted_sequence_label" in found.saved
    columns = ["label", "predicted_label", "predicted_sequence_label", "predicted_sequence_score", "predicted_by"]
    rows = collection.to_arrow(columns).to_pylist()
    assert [row["predicted_sequence_label"] for row in rows] == [None] * 6 + ["fox", "fox", "fox", "owl"]
    assert [row["predicted_label"] for row in rows[6:]] == ["fox", "owl", "fox", "owl"], "each row keeps its own"
    assert [row["label"] for row in rows] == ["owl", "fox"] * 3 + [None] * 4, "labels stay"
    assert [row["predicted_sequence_score"] for row in rows[6:9]] == [pytest.approx(found[0]["score"])] * 3
    collection.predict(column="label", k=1, save=True)
    assert collection.count("predicted_sequence_label IS NOT NULL") == 0, "they belonged to the former run"


def test_a_row_without_a_name_still_has_that_of_its_sequence(collection: birder.Collection) -> None:
    scores = [row["score"] for row in collection.predict(column="label", k=1, where="sequence = 'visit'")]
    pooled = collection.predict(column="label", by="sequence", k=1, where="sequence = 'visit'")[0]["score"]
    assert min(scores) < pooled
    least = (min(scores) + pooled) / 2
    collection.predict(column="label", by="sequence", k=1, min_score=least, save=True)
    rows = collection.to_arrow(["predicted_label", "predicted_sequence_label"], "sequence = 'visit'").to_pylist()
    assert None in {row["predicted_label"] for row in rows}
    assert {row["predicted_sequence_label"] for row in rows} == {"fox"}


def test_by_sequence_needs_sequences_and_a_collections_rows(collection: birder.Collection, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave out images"):
        collection.predict("x.jpg", column="label", by="sequence")
    with pytest.raises(UnknownNameError, match="Known: sequence"):
        collection.predict(column="label", by="deployment")
    columns = {"label": ["owl", "fox", None]}
    collection_of_vectors(tmp_path / "d.birder", np.eye(3), columns=columns)
    with pytest.raises(CollectionError, match="birder sequences"):
        birder.open_collection(tmp_path / "d.birder").predict(column="label", by="sequence")
