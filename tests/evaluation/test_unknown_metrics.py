"""AUROC against scikit-learn's, and the false positive rate against a plain search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from birder.evaluation.unknown_metrics import Ordered, separations
from tests.evaluation.once import auroc, fpr_at_tpr

SCORES = st.lists(st.sampled_from(np.linspace(0, 1, 13).tolist()), min_size=1, max_size=50)


@settings(max_examples=80, deadline=None)
@given(SCORES, SCORES)
def test_area_is_that_of_scikit_learn(known: list[float], unknown: list[float]) -> None:
    area = roc_auc_score([0] * len(known) + [1] * len(unknown), known + unknown)
    assert auroc(np.array(known), np.array(unknown)) == pytest.approx(area)


@settings(max_examples=80, deadline=None)
@given(SCORES, SCORES, st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_rate_is_that_of_the_lowest_threshold_that_accepts_enough(
    known: list[float], unknown: list[float], tpr: float
) -> None:
    enough = [t for t in sorted(known) if np.mean(np.array(known) <= t) >= tpr - 1e-9]
    assert fpr_at_tpr(np.array(known), np.array(unknown), tpr) == np.mean(np.array(unknown) <= enough[0])


def test_of_twenty_known_images_one_may_be_lost() -> None:
    known = np.array([*[0.1] * 19, 0.9])
    assert fpr_at_tpr(known, np.array([0.05, 0.5, 0.95])) == pytest.approx(1 / 3)


@settings(max_examples=40, deadline=None)
@given(SCORES, SCORES, st.integers(0, 2**32 - 1))
def test_weights_are_rows_that_occur_more_than_once(known: list[float], unknown: list[float], seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = [random.integers(0, 4, len(scores)) for scores in (known, unknown)]
    found = separations(Ordered(np.array(known), np.array(unknown)), np.concatenate(weights)[None].astype(np.float32))
    one, other = (np.sort(scores).repeat(row) for scores, row in zip((known, unknown), weights, strict=True))
    if len(one) and len(other):
        assert found[0] == pytest.approx([auroc(one, other), fpr_at_tpr(one, other)])
    else:
        assert np.isnan(found).all()
