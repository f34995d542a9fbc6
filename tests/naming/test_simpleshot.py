from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from birder.errors import ConfigError
from birder.naming.examples import fit_simpleshot, hold_out


def make(seed: int = 0, n: int = 60, width: int = 12) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    labels = [f"class {i}" for i in rng.integers(0, 5, n)]
    return (3 + rng.standard_normal((n, width))).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_ordered_by_distance_to_the_mean_of_centred_unit_examples(seed: int) -> None:
    examples, labels = make(seed)
    queries = make(seed + 100, n=20)[0]
    top = fit_simpleshot(examples, labels).predict(queries, 5)
    # Wang et al., section 3, written out with torch
    train, test = torch.from_numpy(examples).double(), torch.from_numpy(queries).double()
    centre = train.mean(0)
    train, test = (torch.nn.functional.normalize(x - centre, dim=1) for x in (train, test))
    classes = sorted(set(labels))
    means = torch.stack([train[[label == name for label in labels]].mean(0) for name in classes])
    distances = torch.cdist(test, means)
    np.testing.assert_array_equal(top.indices, distances.argsort(dim=1).numpy())
    np.testing.assert_allclose(top.scores, 1 - distances.sort(dim=1).values / 2, rtol=0, atol=1e-6)


def test_separate_classes_are_found_and_scores_are_between_0_and_1() -> None:
    rng = np.random.default_rng(0)
    centres = 10 * rng.standard_normal((3, 16))
    labels = np.repeat(["fern", "moss", "oak"], 20)
    x = (np.repeat(centres, 20, axis=0) + rng.standard_normal((60, 16))).astype(np.float32)
    shot = fit_simpleshot(x[::2], list(labels[::2]))
    top = shot.predict(x[1::2], 9)
    assert [shot.classes[i] for i in top.indices[:, 0]] == list(labels[1::2])
    assert top.indices.shape == (30, 3)
    assert (top.scores >= 0).all()
    assert (top.scores <= 1).all()


def test_an_embedding_at_the_centre_is_no_error() -> None:
    x = np.array([[1, 0], [3, 0], [2, 0]], dtype=np.float32)  # the third is their mean
    top = fit_simpleshot(x, ["a", "b", "a"]).predict(x, 2)
    assert np.isfinite(top.scores).all()


@pytest.mark.parametrize(
    ("examples", "labels", "message"),
    [
        (np.zeros((0, 4), np.float32), [], "0 classes"),
        (np.zeros((2, 4), np.float32), ["a", "a"], "1 class:"),
        (np.zeros((2, 4), np.float32), ["a"], "do not fit"),
        (np.full((2, 4), np.inf, np.float32), ["a", "b"], "no finite numbers"),
    ],
)
def test_bad_examples_are_refused(examples: np.ndarray, labels: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit_simpleshot(examples, labels)


def test_embeddings_of_another_width_are_refused() -> None:
    shot = fit_simpleshot(*make())
    with pytest.raises(ConfigError, match="two models"):
        shot.predict(np.zeros((1, 13), np.float32), 1)
    with pytest.raises(ConfigError, match="k must be"):
        shot.predict(np.zeros((1, 12), np.float32), 0)


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 3))
def test_what_is_held_out_is_the_same_share_of_each_class_and_leaves_one(
    labels: list[str], share: float, seed: int
) -> None:
    out = hold_out(labels, share, seed)
    np.testing.assert_array_equal(out, hold_out(labels, share, seed))
    for name in set(labels):
        members = [left for label, left in zip(labels, out, strict=True) if label == name]
        assert sum(members) == min(round(share * len(members)), len(members) - 1)


def test_another_seed_holds_out_others() -> None:
    labels = ["a"] * 50
    assert (hold_out(labels, 0.5, 0) != hold_out(labels, 0.5, 1)).any()


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        hold_out(["a", "b"], share)
