"""Calibration: bins of equal mass, and errors of simulations whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from birder.evaluation.calibration import (
    equal_mass,
    expected_calibration_errors,
    reliability,
)
from tests.evaluation.once import expected_calibration_error

CONFIDENCES = arrays(np.float32, st.integers(1, 80), elements=st.sampled_from(np.linspace(0, 1, 33).tolist()))


def test_bins_have_the_same_number_of_images() -> None:
    random = np.random.default_rng(0)
    for n in (15, 16, 1000, 1007):
        sizes = np.bincount(equal_mass(random.random(n)))
        assert len(sizes) == 15 and sizes.max() - sizes.min() <= 1


@settings(deadline=None)
@given(CONFIDENCES, st.randoms())
def test_equal_confidences_share_a_bin_and_order_does_not_matter(confidence: np.ndarray, random: object) -> None:
    codes = equal_mass(confidence)
    order = np.random.default_rng(len(confidence)).permutation(len(confidence))
    assert equal_mass(confidence[order]).tolist() == codes[order].tolist()
    assert set(codes) == set(range(codes.max() + 1)) and codes.max() < 15
    by_value = np.argsort(confidence, kind="stable")
    assert (np.diff(codes[by_value])[np.diff(confidence[by_value]) == 0] == 0).all()
    assert (np.diff(codes[by_value]) >= 0).all()


def test_error_is_the_mean_distance_of_the_points_from_the_diagonal() -> None:
    random = np.random.default_rng(1)
    confidence, right = random.random(400), random.random(400) < 0.4
    points = reliability(confidence, right)
    assert sum(point.n for point in points) == 400
    by_hand = sum(point.n * abs(point.accuracy - point.confidence) for point in points) / 400
    assert expected_calibration_error(confidence, right) == pytest.approx(by_hand)


def test_a_calibrated_simulation_has_almost_no_error() -> None:
    random = np.random.default_rng(2)
    confidence = random.uniform(0.2, 1, 200_000)
    right = random.random(200_000) < confidence
    assert expected_calibration_error(confidence, right) < 0.005


@pytest.mark.parametrize("too_sure", [0.1, 0.25])
def test_a_simulation_that_is_too_sure_has_just_that_error(too_sure: float) -> None:
    random = np.random.default_rng(3)
    confidence = random.uniform(0.5, 1, 200_000)
    right = random.random(200_000) < confidence - too_sure
    assert expected_calibration_error(confidence, right) == pytest.approx(too_sure, abs=0.005)


@settings(deadline=None)
@given(CONFIDENCES, st.integers(0, 2**32 - 1))
def test_weights_are_rows_that_occur_more_than_once(confidence: np.ndarray, seed: int) -> None:
    random = np.random.default_rng(seed)
    right, codes = random.random(len(confidence)) < 0.5, equal_mass(confidence)
    weights = random.integers(1, 4, (2, len(confidence)))
    found = expected_calibration_errors(confidence, right, codes, weights.astype(np.float32))
    for value, row in zip(found, weights, strict=True):
        repeated = confidence.repeat(row), right.repeat(row), codes.repeat(row), np.ones((1, row.sum()))
        assert value == pytest.approx(expected_calibration_errors(*repeated)[0])
