from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from birder.errors import ConfigError, UnknownNameError
from birder.naming import by_examples
from birder.naming.by_examples import (
    NearestNeighbours,
    SimpleShot,
    draw_examples,
    hold_out,
    name_by_examples,
    name_by_stream,
    vote,
)
from birder.naming.method import DEFAULT_METHOD, Method

Vectors = npt.NDArray[np.float32]


def make(seed: int = 0, n: int = 60, width: int = 12) -> tuple[Vectors, list[str]]:
    rng = np.random.default_rng(seed)
    labels = [f"class {i}" for i in rng.integers(0, 5, n)]
    return (3 + rng.standard_normal((n, width))).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_ordered_by_distance_to_the_mean_of_examples_in_cl2n(seed: int) -> None:
    examples, labels = make(seed)
    queries = make(seed + 100, n=20)[0]
    top = name_by_examples(examples, labels, method="simpleshot").classifier.predict(queries, 5)
    # BioCLIP's few-shot evaluation, written out with torch
    train, test = (torch.nn.functional.normalize(torch.from_numpy(x).double(), dim=1) for x in (examples, queries))
    centre = train.mean(0)
    train, test = (torch.nn.functional.normalize(x - centre, dim=1) for x in (train, test))
    classes = sorted(set(labels))
    means = torch.stack([train[[label == name for label in labels]].mean(0) for name in classes])
    distances = torch.cdist(test, means)
    np.testing.assert_array_equal(top.indices, distances.argsort(dim=1).numpy())
    np.testing.assert_allclose(top.scores, 1 - distances.sort(dim=1).values / 2, rtol=0, atol=1e-6)


@given(st.integers(0, 50), st.sampled_from(Method))
def test_lengths_of_embeddings_do_not_matter(seed: int, method: Method) -> None:
    examples, labels = make(seed)
    queries = make(seed + 100, n=20)[0]
    lengths = np.random.default_rng(seed).uniform(0.1, 10, (80, 1)).astype(np.float32)
    top = name_by_examples(examples, labels, method=method).classifier.predict(queries, 5)
    scaled = name_by_examples(examples * lengths[:60], labels, method=method).classifier
    np.testing.assert_allclose(scaled.predict(queries * lengths[60:], 5).scores, top.scores, atol=1e-5)


def test_examples_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    examples, labels = make()
    at_once = name_by_examples(examples, labels).classifier
    monkeypatch.setattr(by_examples, "_AT_ONCE", 7)
    assert isinstance(at_once, SimpleShot)
    in_blocks = name_by_examples(examples, labels).classifier
    assert isinstance(in_blocks, SimpleShot)
    np.testing.assert_allclose(in_blocks.centre, at_once.centre, rtol=1e-12)
    np.testing.assert_allclose(in_blocks.means, at_once.means, rtol=1e-9)


@given(st.integers(0, 50), st.sampled_from(Method), st.lists(st.integers(1, 59), max_size=5))
def test_examples_that_come_in_any_blocks_name_the_same(seed: int, method: Method, cuts: list[int]) -> None:
    examples, labels = make(seed)
    examples[30:] = examples[:30]  # equal ones vote in their order
    queries = make(seed + 100, n=20)[0]
    at_once = name_by_examples(examples, labels, method=method).classifier.predict(queries, 5)
    streamed = name_by_stream(lambda: np.split(examples, sorted(cuts)), labels, method=method).classifier
    found = streamed.predict(queries, 5)
    assert found.indices.tobytes() == at_once.indices.tobytes()
    assert found.scores.tobytes() == at_once.scores.tobytes()


@pytest.mark.slow
def test_examples_of_simpleshot_need_no_memory_and_those_of_neighbours_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [f"class {row % 7}" for row in range(100_000)]
    centres = np.random.default_rng(0).normal(size=(7, 64))

    def stream() -> Iterator[Vectors]:
        for first in range(0, 100_000, 1_000):
            rows = np.arange(first, first + 1_000)
            yield np.random.default_rng(first).normal(centres[rows % 7], 0.5).astype(np.float32)

    monkeypatch.setattr("birder.vectors._IN_MEMORY", 1_000_000)
    monkeypatch.setattr(by_examples, "_CELLS", 250_000)
    queries = next(stream())[:50]
    for method in Method:
        tracemalloc.start()
        try:
            names = name_by_stream(stream, labels, method=method)
            top = names.classifier.predict(queries, 1)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 16e6  # the examples are 25.6 MB
        assert [names.classifier.classes[code] for code in top.indices[:, 0]] == labels[:50]


@pytest.mark.parametrize("copies", [1, 40])  # more equal examples than vote
def test_neighbours_are_those_of_a_comparison_in_double_precision(copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, labels = make(3, n=1200, width=40)
    examples = np.repeat(examples[: 1200 // copies], copies, axis=0)
    queries = make(4, n=50, width=40)[0]
    monkeypatch.setattr(by_examples, "_CELLS", 4096 * 100)
    monkeypatch.setattr(by_examples, "_AT_ONCE", 100)
    classifier = name_by_examples(examples, labels, method="knn").classifier
    assert isinstance(classifier, NearestNeighbours)
    cosines = (queries / np.linalg.norm(queries.astype(float), axis=1, keepdims=True)) @ classifier.units.T.astype(
        float
    )
    nearest = np.argsort(-cosines.round(12), axis=1, kind="stable")[:, :24]
    shares = vote(classifier.codes[nearest], np.take_along_axis(cosines, nearest, axis=1), 5)
    top = classifier.predict(queries, 5)
    np.testing.assert_allclose(top.scores, -np.sort(-shares, axis=1), rtol=0, atol=1e-6)
    clear = np.diff(np.sort(shares, axis=1)[:, -2:], axis=1)[:, 0] > 1e-6
    np.testing.assert_array_equal(top.indices[clear, 0], shares.argmax(axis=1)[clear])


@pytest.mark.parametrize("method", Method)
def test_separate_classes_are_found_and_scores_are_between_0_and_1(method: Method) -> None:
    rng = np.random.default_rng(0)
    centres = 10 * rng.standard_normal((3, 16))
    labels = np.repeat(["fern", "moss", "oak"], 20)
    x = (np.repeat(centres, 20, axis=0) + rng.standard_normal((60, 16))).astype(np.float32)
    classifier = name_by_examples(x[::2], list(labels[::2]), method=method).classifier
    top = classifier.predict(x[1::2], 9)
    assert [classifier.classes[i] for i in top.indices[:, 0]] == list(labels[1::2])
    assert top.indices.shape == (30, 3)
    assert (top.scores >= 0).all()
    assert (top.scores <= 1).all()


def test_an_embedding_at_the_centre_gets_a_finite_score() -> None:
    x = np.array([[1, 0], [-3, 0], [0, 0]], dtype=np.float32)  # scaled to length 1, the third is their mean
    top = name_by_examples(x, ["a", "b", "a"]).classifier.predict(x, 2)
    assert np.isfinite(top.scores).all()


@pytest.mark.parametrize(
    ("examples", "labels", "message"),
    [
        (np.zeros((0, 4), np.float32), [], "0 classes"),
        (np.zeros((2, 4), np.float32), ["a", "a"], "1 class:"),
        (np.zeros((2, 4), np.float32), ["a"], "do not match"),
        (np.full((2, 4), np.inf, np.float32), ["a", "b"], "not finite"),
    ],
)
def test_bad_examples_are_refused(examples: Vectors, labels: list[str], message: str) -> None:
    for method in Method:
        with pytest.raises(ConfigError, match=message):
            name_by_examples(examples, labels, method=method)


@pytest.mark.parametrize("method", Method)
def test_embeddings_of_another_dimension_are_refused(method: Method) -> None:
    names = name_by_examples(*make(), method=method)
    with pytest.raises(ConfigError, match="different models"):
        names.predict(np.zeros((1, 13), np.float32), 1)
    with pytest.raises(ConfigError, match="k must be"):
        names.predict(np.zeros((1, 12), np.float32), 0)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="method 'svm'.*knn, simpleshot"):
        name_by_examples(*make(), method="svm")


def test_the_default_is_simpleshot_and_is_named() -> None:
    names = name_by_examples(*make())
    assert names.method == DEFAULT_METHOD == "simpleshot"
    assert names.description == "SimpleShot on 60 examples of 5 classes"


@pytest.mark.parametrize("seed", range(3))
def test_nearest_neighbours_vote_with_the_exponential_of_their_cosine(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, labels = make(seed)
    queries = make(seed + 100, n=20)[0]
    monkeypatch.setattr(by_examples, "_AT_ONCE", 7)
    names = name_by_examples(examples, labels, method="knn")
    # Wu et al., section 3.4, written out for each query
    units = examples / np.linalg.norm(examples, axis=1, keepdims=True)
    for query, found in zip(queries, names.predict(queries, 5), strict=True):
        cosines = units @ (query / np.linalg.norm(query))
        votes: dict[str, float] = {}
        for i in np.argsort(-cosines)[:24]:
            votes[labels[i]] = votes.get(labels[i], 0.0) + float(np.exp(cosines[i] / 0.07))
        total = sum(votes.values())
        assert [each["label"] for each in found] == sorted(votes, key=lambda name: -votes[name])
        assert [each["score"] for each in found] == pytest.approx(
            sorted((vote / total for vote in votes.values()), reverse=True), abs=1e-5
        )


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.integers(1, 40), st.integers(0, 3))  # codes of examples
def test_examples_are_sampled_evenly_from_the_classes(codes: list[int], most: int, seed: int) -> None:
    order = np.random.default_rng(seed).random(len(codes))
    chosen = draw_examples(np.array(codes), most, order)
    assert len(chosen) == min(most, len(codes)) == len(set(chosen.tolist()))
    counts = {code: sum(codes[i] == code for i in chosen) for code in set(codes)}
    smallest = min(counts.values())
    for code, count in counts.items():  # a class has more only where another has given all that it has
        assert count <= smallest + 1 or all(
            other == codes.count(each) for each, other in counts.items() if other < count - 1
        )
        members = sorted((order[i], i) for i in range(len(codes)) if codes[i] == code)
        assert {i for i in chosen.tolist() if codes[i] == code} == {i for _, i in members[:count]}


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 3))
def test_held_out_images_are_the_same_share_of_each_class_and_leave_one(
    labels: list[str], share: float, seed: int
) -> None:
    out = hold_out(labels, share, seed)
    np.testing.assert_array_equal(out, hold_out(labels, share, seed))
    for name in set(labels):
        members = [left for label, left in zip(labels, out, strict=True) if label == name]
        assert sum(members) == min(round(share * len(members)), len(members) - 1)


def test_another_seed_holds_out_other_images() -> None:
    labels = ["a"] * 50
    assert (hold_out(labels, 0.5, 0) != hold_out(labels, 0.5, 1)).any()


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_an_invalid_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        hold_out(["a", "b"], share)
