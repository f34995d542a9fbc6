from __future__ import annotations

from pathlib import Path

import networkx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.analysis import duplicates
from birder.analysis.duplicates import SAME, SIMILAR, find_duplicates, similar_pairs
from birder.errors import ConfigError, FilterError
from birder.vectors import unit as unit_vectors
from tests.factory import collection_of_vectors


def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return unit_vectors(vectors).astype(np.float32)


def brute(vectors: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    return {(i, j) for i in range(len(vectors)) for j in range(i + 1, len(vectors)) if cosines[i, j] >= threshold}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 60),
    size=st.sampled_from([2, 16, 129, 300]),  # above 128 numbers the bound decides what is compared
    threshold=st.sampled_from([0.5, 0.9, 0.97, 0.999]),
)
def test_duplicate_pairs_are_those_of_brute_force(seed: int, rows: int, size: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    middles = random.normal(size=(4, size))
    spread = random.choice([0.01, 0.1, 0.3, 1.0], size=(rows, 1))
    vectors = unit(middles[random.integers(4, size=rows)] + spread * random.normal(size=(rows, size)))
    expected = brute(vectors, threshold)
    found = {(int(i), int(j)) for i, j in similar_pairs(vectors, threshold)}
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    # float32 may round a cosine over the threshold or below it, and nothing else may differ
    assert all(abs(cosines[i, j] - threshold) < 1e-6 for i, j in found ^ expected)


def test_duplicates_are_the_same_with_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from birder.analysis import neighbours as blocks

    random = np.random.default_rng(3)
    vectors = unit(np.repeat(random.normal(size=(50, 200)), 3, axis=0) + 0.05 * random.normal(size=(150, 200)))
    whole = similar_pairs(vectors, 0.97)
    monkeypatch.setattr(blocks, "_CELLS", 150 * 7)
    monkeypatch.setattr(duplicates, "_PAIRS", 1000)
    small = similar_pairs(vectors, 0.97)
    assert len(whole) == 150
    assert sorted(map(tuple, small)) == sorted(map(tuple, whole))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_groups_are_connected_components(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    random = np.random.default_rng(seed)
    vectors = unit(np.repeat(random.normal(size=(6, 8)), 5, axis=0) + 0.15 * random.normal(size=(30, 8)))
    collection = collection_of_vectors(tmp_path_factory.mktemp("c") / "c.birder", vectors)
    graph = networkx.Graph(sorted(brute(vectors, 0.97)))
    expected = {frozenset(f"file:///p/{i:05d}.jpg" for i in part) for part in networkx.connected_components(graph)}
    found = find_duplicates(collection, threshold=0.97)
    assert {frozenset(photo.uri for photo in group.photos) for group in found} == expected
    assert [len(group.photos) for group in found] == sorted((len(group.photos) for group in found), reverse=True)


def test_same_content_comes_first_and_counts_once(tmp_path: Path) -> None:
    vectors = unit(np.array([[1, 0, 0], [1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]))
    collection = collection_of_vectors(
        tmp_path / "c.birder",
        vectors,
        names=["b", "a", "c", "e", "d", "f"],
        sha256=["11", "11", "22", "33", "33", "44"],
        sizes=[40, 40, 90, 40, 40, 40],
    )
    groups = find_duplicates(collection)
    assert [(group.kind, [photo.uri[-1] for photo in group.photos]) for group in groups] == [
        (SAME, ["a", "b"]),
        (SAME, ["d", "e"]),
        (SIMILAR, ["c", "a"]),  # c is larger; b has the content of a
    ]
    first, second = groups[2].photos
    assert first.similarity == 1.0
    assert second.similarity == pytest.approx(1 / np.sqrt(1.01), abs=1e-6)
    assert (first.width, first.height) == (90, 30)


def test_a_filter_limits_duplicates_and_an_invalid_one_is_explained(tmp_path: Path) -> None:
    collection = collection_of_vectors(
        tmp_path / "c.birder", np.ones((3, 4)), sha256=["1", "2", "3"], columns={"label": ["owl", "owl", "fox"]}
    )
    assert [len(group.photos) for group in find_duplicates(collection)] == [3]
    assert [len(group.photos) for group in find_duplicates(collection, where="label = 'owl'")] == [2]
    assert find_duplicates(collection, where="label = 'fox'") == []
    assert find_duplicates(collection, where="label = 'wren'") == []
    with pytest.raises(FilterError, match="Invalid filter: unknown column"):
        find_duplicates(collection, where="lable = 'owl'")


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(tmp_path: Path, threshold: float) -> None:
    collection = collection_of_vectors(tmp_path / "c.birder", np.eye(3))
    with pytest.raises(ConfigError, match="threshold must be"):
        find_duplicates(collection, threshold=threshold)


def test_too_many_pairs_are_refused_before_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_MANY", 1000)
    with pytest.raises(ConfigError, match="higher threshold"):
        similar_pairs(unit(np.ones((100, 4))), 0.5)


def test_embeddings_of_length_0_are_like_nothing(tmp_path: Path) -> None:
    assert find_duplicates(collection_of_vectors(tmp_path / "c.birder", np.zeros((4, 3))), threshold=0.5) == []
