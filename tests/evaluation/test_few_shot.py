"""Against accuracies of the published code of BioCLIP and BioCLIP 2, run unchanged on real embeddings of BioCLIP 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birder.errors import ConfigError, UnknownNameError
from birder.evaluation.few_shot import LEAST, Variant, draw_folds, few_shot

DATA = Path(__file__).parents[1] / "data"
RANKS = ("class", "order", "family")
PUBLISHED = {"v1": "bioclip-v1", "v2": "bioclip-v2"}


@pytest.fixture(scope="module")
def real() -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.int64]]]:
    """Embeddings, and for each rank the codes of taxa; -1 is no taxon."""
    table = pq.read_table(DATA / "bioclip2-tol200m-1030.parquet", columns=["emb", *RANKS])
    embeddings = np.stack(table["emb"].to_numpy()).astype(np.float32)
    codes = {}
    for rank in RANKS:
        taxa = table[rank].to_pylist()
        position = {taxon: code for code, taxon in enumerate(sorted({taxon for taxon in taxa if taxon}))}
        codes[rank] = np.array([position.get(taxon, -1) for taxon in taxa], np.int64)
    return embeddings, codes


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("rank", RANKS)
def test_folds_have_the_published_accuracies(
    real: tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.int64]]], rank: str, version: str
) -> None:
    published = json.loads((DATA / "bioclip-simpleshot.json").read_text())[rank]
    embeddings, codes = real[0], real[1][rank]
    known = codes >= 0
    variant: Variant = "bioclip-v1" if version == "v1" else "bioclip-v2"
    results = few_shot(embeddings[known], codes[known], variant=variant)
    assert [result.shots for result in results] == [1, 5]
    for result in results:
        expected = published[f"{version} {result.shots}-shot"]
        assert result.accuracies == pytest.approx(expected[:5], rel=0, abs=1e-6)
        assert np.mean(result.accuracies) == pytest.approx(expected[6], rel=0, abs=1e-6)
        assert result.right.sum() / result.named.sum() == pytest.approx(np.mean(result.accuracies))
    assert (results[0].named + results[1].named > 0).sum() == published["rows"]


def codes_of(sizes: list[int], seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.sampled_from(["bioclip-v1", "bioclip-v2", None]),
    st.integers(0, 9),
)
def test_every_fold_has_k_examples_of_each_class_that_is_large_enough_and_names_the_rest(
    sizes: list[int], variant: Variant | None, seed: int
) -> None:
    codes = codes_of([*sizes, 10, 12], seed)
    enough = np.isin(codes, np.flatnonzero(np.bincount(codes) >= LEAST))
    for fold in draw_folds(codes, variant=variant, groups=None):
        assert set(np.bincount(codes[fold.examples]).tolist()) <= {0, fold.shots}
        both = np.concatenate([fold.examples, fold.named])
        assert sorted(both.tolist()) == np.flatnonzero(enough).tolist()


def test_groups_that_have_an_example_are_not_named() -> None:
    codes = codes_of([40, 40, 40], 0)
    groups = np.random.default_rng(1).integers(0, 40, 120)
    apart = list(draw_folds(codes, variant=None, groups=groups))
    for fold in apart:
        assert not set(groups[fold.named]) & set(groups[fold.examples])
    for fold, published in zip(apart, draw_folds(codes, variant="bioclip-v2", groups=groups), strict=True):
        np.testing.assert_array_equal(fold.examples, published.examples)
        assert set(groups[published.named]) & set(groups[fold.examples])  # which as published are named


def test_a_burst_looks_better_where_groups_are_not_kept_apart() -> None:
    random = np.random.default_rng(0)
    bursts = np.repeat(np.arange(60), 10)
    classes = bursts % 6
    x = random.standard_normal((60, 32))[bursts] + 0.1 * random.standard_normal((600, 32))
    x += 0.5 * random.standard_normal((6, 32))[classes]
    embeddings = x.astype(np.float32)
    apart = few_shot(embeddings, classes, groups=bursts)
    mixed = few_shot(embeddings, classes)
    for one, other in zip(apart, mixed, strict=True):
        assert np.mean(one.accuracies) + 0.03 < np.mean(other.accuracies)


def test_what_cannot_be_evaluated_is_refused() -> None:
    x = np.ones((30, 2), np.float32)
    with pytest.raises(ConfigError, match="two classes with at least 10 images; there are 1"):
        few_shot(x, codes_of([21, 9], 0))
    with pytest.raises(ConfigError, match="at least 16 images"):
        few_shot(x, codes_of([15, 15], 0), shots=[15])
    with pytest.raises(ConfigError, match="no row is left"):
        few_shot(x, codes_of([15, 15], 0), groups=np.zeros(30, np.int64))
    with pytest.raises(UnknownNameError, match="bioclip-v1"):
        few_shot(x, codes_of([15, 15], 0), variant="bioclip-v3")  # type: ignore[arg-type]  # as a user may write it
