"""Risk and coverage, against a plain search over all thresholds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from birder.evaluation.selective import PERCENTS, coverages, risk_coverage

ANSWERS = st.lists(st.tuples(st.sampled_from(np.linspace(0, 1, 21).tolist()), st.booleans()), min_size=1, max_size=60)


def sorted_answers(answers: list[tuple[float, bool]]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    ordered = sorted(answers, reverse=True)
    return np.array([c for c, _ in ordered]), np.array([r for _, r in ordered])


def plain(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], images: int, percent: int) -> float:
    named = [right[confidence >= threshold] for threshold in set(confidence)]
    return max((len(each) / images for each in named if each.mean() * 100 >= percent - 1e-9), default=0.0)


@settings(max_examples=80, deadline=None)
@given(ANSWERS, st.integers(0, 5))
@example([(0.9, True)] * 19 + [(0.9, False)], 0)  # 95 % exactly
def test_coverage_is_the_most_that_can_be_named(answers: list[tuple[float, bool]], unanswered: int) -> None:
    confidence, right = sorted_answers(answers)
    images = len(answers) + unanswered
    found = coverages(confidence, right, np.ones((1, len(right)), np.float32), np.array([images]))
    assert found[0] == pytest.approx([plain(confidence, right, images, percent) for percent in PERCENTS])


@settings(max_examples=40, deadline=None)
@given(ANSWERS, st.integers(0, 2**32 - 1))
def test_weights_are_rows_that_occur_more_than_once(answers: list[tuple[float, bool]], seed: int) -> None:
    confidence, right = sorted_answers(answers)
    row = np.random.default_rng(seed).integers(1, 4, len(right))
    weighted = coverages(confidence, right, row[None].astype(np.float32), np.array([row.sum()]))
    again = np.ones((1, row.sum()), np.float32)
    assert weighted.tolist() == coverages(confidence.repeat(row), right.repeat(row), again, again.sum(axis=1)).tolist()


def test_the_curve_says_what_each_threshold_costs() -> None:
    confidence, right = np.array([0.9, 0.8, 0.8, 0.4]), np.array([True, True, False, False])
    assert risk_coverage(confidence, right, 5) == [
        (0.2, 0.0, 0.9),
        (0.6, pytest.approx(1 / 3), 0.8),  # equal confidences cannot be told apart
        (0.8, 0.5, 0.4),
    ]


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    random = np.random.default_rng(0)
    confidence = np.sort(random.random(5000))[::-1]
    curve = risk_coverage(confidence, random.random(5000) < confidence, 5000)
    assert len(curve) == 200
    assert curve[0].coverage == 1 / 5000 and curve[-1].coverage == 1
    steps = np.diff([point.coverage for point in curve])
    assert steps.min() > 0 and steps.max() < 2 / 199
