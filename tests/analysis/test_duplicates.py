from __future__ import annotations

from pathlib import Path

import networkx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.analysis import duplicates
from birder.analysis.duplicates import SAME, SIMILAR, Group, around_representatives, find_duplicates, similar_components
from birder.errors import ConfigError, FilterError
from birder.vectors import unit as unit_vectors
from tests.factory import collection_of_vectors


def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return unit_vectors(vectors).astype(np.float32)


def joined(rows: int, pairs: set[tuple[int, int]]) -> list[set[int]]:
    graph = networkx.Graph(sorted(pairs))
    graph.add_nodes_from(range(rows))
    return list(networkx.connected_components(graph))


def greedy(cosines: np.ndarray, order: list[int], threshold: float) -> set[frozenset[int]]:
    """Groups around representatives, written out."""
    left, groups = list(order), set()
    while left:
        group = [left[0], *(row for row in left[1:] if cosines[left[0], row] >= threshold)]
        left = [row for row in left if row not in group]
        if len(group) > 1:
            groups.add(frozenset(group))
    return groups


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
def test_rows_joined_by_pairs_are_those_of_brute_force(seed: int, rows: int, size: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    middles = random.normal(size=(4, size))
    spread = random.choice([0.01, 0.1, 0.3, 1.0], size=(rows, 1))
    vectors = unit(middles[random.integers(4, size=rows)] + spread * random.normal(size=(rows, size)))
    # float32 may round a cosine over the threshold or below it, and nothing else may differ
    few, many = (joined(rows, brute(vectors, threshold + rounding)) for rounding in (1e-6, -1e-6))
    numbers = similar_components(vectors, threshold)
    found = {frozenset(np.flatnonzero(numbers == number).tolist()) for number in np.unique(numbers)}
    assert all(any(part <= group for group in found) for part in few)
    assert all(any(group <= part for part in many) for group in found)


def test_duplicates_are_the_same_with_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from birder.analysis import neighbours as blocks

    random = np.random.default_rng(3)
    vectors = unit(np.repeat(random.normal(size=(50, 200)), 3, axis=0) + 0.05 * random.normal(size=(150, 200)))
    whole = similar_components(vectors, 0.97)
    monkeypatch.setattr(blocks, "_CELLS", 150 * 7)
    monkeypatch.setattr(duplicates, "_PAIRS", 1000)
    small = similar_components(vectors, 0.97)
    assert len(np.unique(whole)) == 50
    assert len(set(zip(small.tolist(), whole.tolist(), strict=True))) == 50


def uris(groups: list[Group]) -> set[frozenset[str]]:
    return {frozenset(photo.uri for photo in group.photos) for group in groups}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_groups_are_made_around_their_first(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    random = np.random.default_rng(seed)
    vectors = unit(np.repeat(random.normal(size=(6, 8)), 5, axis=0) + 0.15 * random.normal(size=(30, 8)))
    sizes = random.integers(1, 4, 30).tolist()
    collection = collection_of_vectors(tmp_path_factory.mktemp("c") / "c.birder", vectors, sizes=sizes)
    order = sorted(range(30), key=lambda row: (-sizes[row], row))
    expected = greedy(vectors.astype(float) @ vectors.T.astype(float), order, 0.97)
    found = find_duplicates(collection, threshold=0.97)
    assert not found.by_graph
    assert uris(found.groups) == {frozenset(f"file:///p/{i:05d}.jpg" for i in part) for part in expected}
    assert [len(group.photos) for group in found.groups] == sorted(
        (len(group.photos) for group in found.groups), reverse=True
    )
    assert all(photo.similarity >= 0.97 for group in found.groups for photo in group.photos)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), threshold=st.sampled_from([0.3, 0.6, 0.9]))
def test_a_chain_of_similar_images_is_cut_into_groups(seed: int, threshold: float) -> None:
    steps = np.random.default_rng(seed).normal(size=(700, 6)).cumsum(axis=0)  # more than begin groups at once
    vectors = unit(steps)
    found = {frozenset(members.tolist()) for members, _ in around_representatives(vectors, threshold)}
    assert found == greedy(vectors @ vectors.T, list(range(700)), threshold)


def test_a_graph_finds_the_duplicates_of_a_comparison_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    kinds = random.normal(size=(40, 300)) * 2 + random.normal(size=300)
    vectors = kinds[random.integers(40, size=1500)] + random.normal(size=(1500, 300))  # alike, and not duplicates
    vectors[700:1000] = vectors[:300] + 0.1 * random.normal(size=(300, 300))
    vectors[1000:1040] = vectors[0]  # more than the graph proposes for one
    sha256 = [f"{max(row, 2) if row < 1490 else 7:064x}" for row in range(1500)]
    collection = collection_of_vectors(tmp_path / "c.birder", unit(vectors), sha256=sha256)
    whole = find_duplicates(collection)
    monkeypatch.setattr(duplicates, "_ALL_PAIRS", 1000)
    by_graph, again = find_duplicates(collection), find_duplicates(collection)
    assert (whole.by_graph, by_graph.by_graph) == (False, True)
    assert len(whole.groups) >= 300
    assert by_graph.groups == again.groups
    assert len(uris(whole.groups) & uris(by_graph.groups)) >= 0.99 * len(whole.groups)
    assert [group.kind for group in by_graph.groups].count(SAME) == 2
    assert all(photo.similarity >= 0.97 - 1e-6 for group in by_graph.groups for photo in group.photos)
    assert find_duplicates(collection, where="uri < 'file:///p/00600.jpg'").by_graph is False


def test_same_content_comes_first_and_counts_once(tmp_path: Path) -> None:
    vectors = unit(np.array([[1, 0, 0], [1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]))
    collection = collection_of_vectors(
        tmp_path / "c.birder",
        vectors,
        names=["b", "a", "c", "e", "d", "f"],
        sha256=["11", "11", "22", "33", "33", "44"],
        sizes=[40, 40, 90, 40, 40, 40],
    )
    groups = find_duplicates(collection).groups
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
    assert [len(group.photos) for group in find_duplicates(collection).groups] == [3]
    assert [len(group.photos) for group in find_duplicates(collection, where="label = 'owl'").groups] == [2]
    assert find_duplicates(collection, where="label = 'fox'").groups == []
    assert find_duplicates(collection, where="label = 'wren'").groups == []
    with pytest.raises(FilterError, match="Invalid filter: unknown column"):
        find_duplicates(collection, where="lable = 'owl'")


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(tmp_path: Path, threshold: float) -> None:
    collection = collection_of_vectors(tmp_path / "c.birder", np.eye(3))
    with pytest.raises(ConfigError, match="threshold must be"):
        find_duplicates(collection, threshold=threshold)


def test_embeddings_of_length_0_are_like_nothing(tmp_path: Path) -> None:
    collection = collection_of_vectors(tmp_path / "c.birder", np.zeros((4, 3)))
    assert find_duplicates(collection, threshold=0.5).groups == []
