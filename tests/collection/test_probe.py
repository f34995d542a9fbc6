"""How broadly a graph must be searched is measured on vectors whose nearest are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from birder.collection.probe import BREADTH, COMPARED, ENOUGH, Probe
from birder.vectors import unit

Single = npt.NDArray[np.float32]
ROWS, SIZE = 12_000, 48


@pytest.fixture(scope="module")
def hard() -> tuple[Single, Any]:
    """Vectors alike in no direction, and a graph with few links, which gets lost among them."""
    vectors = unit(np.random.default_rng(0).normal(size=(ROWS, SIZE)).astype(np.float32))
    graph = faiss.IndexHNSWFlat(SIZE, 8)
    graph.add(vectors)
    return vectors, graph


def probed(vectors: Single, blocks: int = 5) -> Probe:
    probe = Probe.of(vectors[::7], np.arange(0, len(vectors), 7))
    step = -(-len(vectors) // blocks)
    for start in range(0, len(vectors), step):
        probe = probe.seen(start, vectors[start : start + step])
    return probe


def test_the_nearest_are_those_of_all_blocks(hard: tuple[Single, Any]) -> None:
    vectors, _ = hard
    probe = probed(vectors)
    right = np.argsort(-(probe.asked @ vectors.T), axis=1)[:, :11]
    assert (np.sort(probe.nearest.places, axis=1) == np.sort(right, axis=1)).all()
    assert (vectors[probe.own] == probe.asked).all()


def test_what_is_found_is_a_share_of_the_nearest_without_the_vector_itself(hard: tuple[Single, Any]) -> None:
    probe = probed(hard[0])
    assert probe.share(probe.nearest.places) == 1
    assert probe.share(probe.own[:, None]) == 0
    ranked = np.take_along_axis(probe.nearest.places, np.argsort(-probe.nearest.scores, axis=1), axis=1)
    assert probe.share(ranked[:, :6]) == pytest.approx(0.5)


def test_a_hard_graph_is_searched_as_broadly_as_it_takes(hard: tuple[Single, Any]) -> None:
    vectors, graph = hard
    probe = probed(vectors)
    times = probe.breadth(graph, probe.asked)

    def found(times: float) -> float:
        parameters = faiss.SearchParametersHNSW(efSearch=int(times * BREADTH))
        return probe.share(graph.search(probe.asked, int(times * COMPARED), params=parameters)[1])

    assert found(1.0) < ENOUGH <= found(times)
    assert times > 1


def test_an_easy_graph_is_searched_narrowly() -> None:
    random = np.random.default_rng(0)
    vectors = unit(random.normal(size=(ROWS, 4)).astype(np.float32))
    graph = faiss.IndexHNSWFlat(4, 16)
    graph.add(vectors)
    probe = probed(vectors)
    assert probe.breadth(graph, probe.asked) == 1


def test_a_probe_survives_its_file(hard: tuple[Single, Any], tmp_path: Path) -> None:
    probe = probed(hard[0])
    np.savez(tmp_path / "axes.npz", **probe.arrays())
    again = Probe.read(tmp_path / "axes.npz")
    for name, array in probe.arrays().items():
        assert (again.arrays()[name] == array).all()
    more = unit(np.random.default_rng(1).normal(size=(500, SIZE)).astype(np.float32))
    expected = np.sort(probe.seen(ROWS, more).nearest.scores)
    assert (np.sort(again.seen(ROWS, more).nearest.scores) == expected).all()
