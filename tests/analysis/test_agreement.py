from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.neighbors import NearestNeighbors

from birder.analysis import neighbours as blocks
from birder.analysis.agreement import neighbour_agreement
from birder.analysis.neighbours import nearest_rows, principal
from birder.errors import ConfigError, UnknownNameError
from birder.taxonomy import RANKS
from tests.factory import collection_of_vectors

REAL = Path(__file__).parents[1] / "data" / "bioclip2-tol200m-1030.parquet"


def test_nearest_rows_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_CELLS", 300 * 3)
    vectors = np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    shares: list[float] = []
    found = nearest_rows(vectors, 5, progress=shares.append)
    distances, indices = NearestNeighbors(n_neighbors=6, metric="cosine", algorithm="brute").fit(vectors).kneighbors()
    assert np.array_equal(found.indices, indices[:, :5])
    assert np.allclose(found.cosines, 1 - distances[:, :5], atol=1e-6)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 10


def test_rows_of_the_same_group_do_not_count_as_neighbours() -> None:
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    found = nearest_rows(vectors, 2, apart=np.array([7, 7, 8, 9]))
    assert found.indices.tolist()[0] == [2, 3]
    assert sorted(found.indices.tolist()[2]) == [0, 1]
    alone = nearest_rows(vectors[:2], 1, apart=np.array([7, 7]))
    assert alone.indices.tolist() == [[-1], [-1]]


def test_principal_directions_are_those_of_the_singular_values() -> None:
    vectors = np.random.default_rng(1).normal(size=(100, 12)).astype(np.float32)
    left, values, _ = np.linalg.svd(vectors, full_matrices=False)
    assert np.allclose(np.abs(principal(vectors, 3)), np.abs(left[:, :3] * values[:3]), atol=1e-3)


@pytest.mark.skipif(not REAL.exists(), reason="the 1,030 embeddings are not in tests/data")
def test_agreement_of_the_real_embeddings_is_that_of_scikit_learn(tmp_path: Path) -> None:
    table = pq.read_table(REAL)
    vectors = np.stack(table["emb"].to_numpy()).astype(np.float32)
    taxa = {rank: [value or None for value in table[rank].to_pylist()] for rank in RANKS}
    collection = collection_of_vectors(tmp_path / "c.birder", vectors, columns=taxa)
    found = neighbour_agreement(collection)
    assert [each.rank for each in found] == list(RANKS)
    for each in found:
        names = np.array(taxa[each.rank], object)
        known = np.array([name is not None for name in names])
        names, those = names[known], vectors[known]
        fit = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(those)
        nearest = fit.kneighbors(return_distance=False)[:, 0]  # without a query a row is not its own neighbour
        counts = {name: int((names == name).sum()) for name in set(names)}
        assert (each.n, each.taxa) == (len(names), len(counts))
        assert each.agreement == pytest.approx(np.mean(names[nearest] == names), abs=1e-9)
        assert each.chance == pytest.approx(np.mean([(counts[n] - 1) / (len(names) - 1) for n in names]))
        assert each.possible == pytest.approx(np.mean([counts[n] > 1 for n in names]))
    agreements = [each.agreement for each in found]
    assert agreements == sorted(agreements, reverse=True)  # type: ignore[type-var]


def test_the_same_content_does_not_agree_with_itself(tmp_path: Path) -> None:
    vectors = np.array([[1, 0], [1, 0], [0.9, 0.5], [0, 1], [0.1, 1]])
    labels = ["owl", "owl", "fox", "fox", "fox"]
    collection = collection_of_vectors(
        tmp_path / "c.birder", vectors, sha256=["1", "1", "2", "3", "4"], columns={"label": labels}
    )
    (found,) = neighbour_agreement(collection, ["label"])
    # both owls have the fox beside them; it has an owl; the last two have each other
    assert found.agreement == pytest.approx(2 / 5)
    assert found.possible == pytest.approx(3 / 5)
    assert found.chance == pytest.approx((0 + 0 + 2 / 4 + 2 / 4 + 2 / 4) / 5)


def test_sparse_ranks_are_counted_and_wrong_arguments_refused(tmp_path: Path) -> None:
    collection = collection_of_vectors(tmp_path / "c.birder", np.eye(3), columns={"genus": ["Strix", None, None]})
    found = {each.rank: each for each in neighbour_agreement(collection)}
    assert (found["genus"].n, found["genus"].agreement) == (1, None)
    assert (found["family"].n, found["family"].taxa) == (0, 0)
    with pytest.raises(UnknownNameError, match="genus"):
        neighbour_agreement(collection, ["genu"])
    with pytest.raises(ConfigError, match="At least one"):
        neighbour_agreement(collection, k=0)
