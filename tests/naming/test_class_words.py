"""Words for classes: what WordNet and taxa make of them, how texts are read, and what they find and name."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import birder
from birder.errors import ConfigError, UnknownNameError
from birder.inference.classifier import Classifier
from birder.naming.by_words import name_by_words
from birder.naming.class_words import ClassWords, load_class_words, words_of
from birder.registry import DEFAULT_WEIGHTS
from birder.weights.resolve import resolve
from tests.factory import collection_by_model


@pytest.fixture(scope="module")
def imagenet() -> ClassWords:
    found = load_class_words(resolve(DEFAULT_WEIGHTS))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def birds(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> birder.Collection:
    """Three birds, two cats and two flowers."""
    files = ["birds/hen.jpg", "birds/pink-flamingo.jpg", "birds/penguin.jpg", "mammals/cats/tiger-sumatran.jpg"]
    files += ["mammals/cats/lion.jpg", "insects/mantis.jpg", "amphibians/frog.jpg"]
    return birder.open_collection(collection_by_model(tmp_path_factory.mktemp("c"), [photos / each for each in files]))


def test_a_word_stands_for_all_classes_below_its_synsets(imagenet: ClassWords) -> None:
    data = resources.files("birder.data")
    names = csv.DictReader(data.joinpath("imagenet-1k-wordnet-names.csv").read_text("utf-8").splitlines())
    synsets = {row["synset"]: row["names"].split("; ") for row in names}
    lines = csv.DictReader(data.joinpath("imagenet-1k-wordnet.csv").read_text("utf-8").splitlines())
    above = [{row["synset"], *row["hypernyms"].split()} for row in lines]
    for word in ("bird", "crane", "feline", "domestic cat", "entity", "Bubo bubo"):
        of_word = {synset for synset, known in synsets.items() if word in known}
        expected = {place for place, some in enumerate(above) if some & of_word}
        assert (imagenet.places(word) or set()) == expected, word
    assert len(imagenet.places("crane") or ()) == 2  # the bird and the machine
    assert len(imagenet.places("entity") or ()) == 1000
    assert imagenet.classifier.classes[min(imagenet.places("tench") or ())] == "tench, Tinca tinca"


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted"),
    [
        ("owl", ["owl"], []),
        ("a photo of an Owl", ["a photo of an owl"], []),
        ("birds -owls", ["birds"], ["owls"]),
        ("hawk, eagle; owl + fox", ["hawk", "eagle", "owl", "fox"], []),
        ("cat or dog", ["cat", "dog"], []),
        ("black and gold garden spider", ["black and gold garden spider"], []),
        ("black-and-tan coonhound", ["black-and-tan coonhound"], []),
        ("-wolves", [], ["wolves"]),
        ("butterflies", ["butterflies"], []),
        ("great_grey_owl", ["great grey owl"], []),
    ],
)
def test_texts_are_read(imagenet: ClassWords, text: str, wanted: list[str], unwanted: list[str]) -> None:
    asked = imagenet.parse(text)
    assert (list(asked.wanted), list(asked.unwanted)) == (wanted, unwanted)
    reverse = imagenet.parse(text, unwanted=True)
    assert (list(reverse.unwanted), list(reverse.wanted)) == (wanted, unwanted)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("zebra finch", "called 'zebra finch'; nearest: finch."),
        ("zebr", "called 'zebr'; nearest: zebra"),
        ("owl, zebra finch", "called 'zebra finch'; nearest: finch."),
        ("dog food", "called 'dog food'; nearest: food."),
        ("qqqqqqq", "called 'qqqqqqq'."),
    ],
)
def test_an_unknown_word_is_told_with_the_nearest(imagenet: ClassWords, text: str, told: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        imagenet.parse(text)
    assert f"No class of {DEFAULT_WEIGHTS} is {told}" in str(caught.value)


def test_what_is_typed_is_completed(imagenet: ClassWords) -> None:
    assert imagenet.complete("ow")[0] == ("owl", 1)
    assert ("great grey owl", 1) in imagenet.complete("owl")
    assert imagenet.complete("bird -ow", limit=1) == [("bird -owl", 1)]
    assert imagenet.complete("Fox, felin", limit=1) == [("Fox, feline", 13)]
    assert imagenet.complete("") == imagenet.complete("fox, ") == []


@given(st.text(max_size=30))
def test_no_text_breaks_the_reading(text: str) -> None:
    classifier = Classifier(("owl", "fox"), np.zeros((2, 1), np.float32), np.zeros(2, np.float32))
    words = ClassWords("m", "", "", classifier, words_of(classifier.classes, {}))
    words.complete(text)
    try:
        asked = words.parse(text)
    except (ConfigError, UnknownNameError):
        return
    assert asked.wanted or asked.unwanted


def test_taxa_of_an_adapted_classifier_are_words() -> None:
    taxa = {"Bubo bubo": {"family": "Strigidae", "genus": "Bubo"}, "Strix aluco": {"family": "Strigidae"}}
    words = words_of(("Bubo bubo", "Strix aluco", "vulpes_vulpes"), taxa)
    assert words["strigidae"] == {0, 1}
    assert words["bubo"] == words["bubo bubo"] == {0}
    assert words["vulpes vulpes"] == {2}


def test_words_find_images_and_the_answer_says_how(birds: birder.Collection) -> None:
    found = birds.search(texts="bird", k=7)
    assert [row["label"] for row in found][:3] == ["birds"] * 3
    expected = _probabilities(birds)[:, sorted(_places("bird"))].sum(axis=1)
    np.testing.assert_allclose([row["similarity"] for row in found], np.sort(expected)[::-1], atol=1e-5)
    assert found.notes == (
        f"Found by the class names of {DEFAULT_WEIGHTS} (bird: 59 classes), not by a text encoder; similarity is their "
        "summed probability.",
    )
    assert birds.search(texts="animal", unlike="bird", where="label <> 'insects'", k=2).to_list()[0]["label"] in (
        "cats",
        "amphibians",
    )


def test_labels_name_images_by_words(birds: birder.Collection, photos: Path) -> None:
    named = birds.predict(labels=["bird", "feline", "insect"], k=1)
    best = {Path(row["path"]).name: row["label"] for row in named}
    assert best["hen.jpg"] == best["penguin.jpg"] == "bird"
    assert best["tiger-sumatran.jpg"] == "feline"
    assert best["mantis.jpg"] == "insect"
    assert "not by a text encoder" in named.notes[-1]
    with pytest.raises(UnknownNameError, match="nearest: finch"):
        birds.predict(labels="bird,zebra finch")
    file = birder.predict(photos / "birds" / "hen.jpg", labels="bird,feline", model=DEFAULT_WEIGHTS, k=2)
    stored = {row["label"]: row["score"] for row in birds.predict(labels="bird,feline", k=2) if "hen" in row["path"]}
    assert {row["label"]: row["score"] for row in file} == pytest.approx(stored, abs=0.02)


def test_pooled_scores_are_logarithms(imagenet: ClassWords) -> None:
    names = name_by_words(imagenet, "bird,fox")
    vectors = np.random.default_rng(0).normal(size=(3, 1280)).astype(np.float32)
    scores = {row["label"]: row["score"] for row in names.predict(vectors, 2)[0]}
    np.testing.assert_allclose(np.exp(names.all_scores(vectors)[0]), [scores["bird"], scores["fox"]], rtol=1e-5)


def _places(word: str) -> frozenset[int]:
    words = load_class_words(resolve(DEFAULT_WEIGHTS))
    assert words is not None
    return words.places(word) or frozenset()


def _probabilities(collection: birder.Collection) -> np.ndarray:
    words = load_class_words(resolve(DEFAULT_WEIGHTS))
    assert words is not None
    return words.classifier.predict_proba(
        np.array(collection.to_arrow(["embedding"])["embedding"].to_pylist(), np.float32)
    )
