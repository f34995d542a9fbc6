"""The accumulation curve against averages over every order of the samples, and exact fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import comb

import numpy as np

from birder.analysis.accumulation import POINTS, accumulate


def test_it_is_the_mean_over_all_choices_of_samples() -> None:
    there = np.random.default_rng(0).random((7, 9)) < 0.25  # species by sample, one of them empty
    there[:, 4] = False
    there[0, 0] = True
    there = there[there.any(1)]
    found = accumulate(there.sum(1), there.shape[1])
    for size, expected in zip(found.samples.tolist(), found.expected.tolist(), strict=True):
        choices = [there[:, list(each)].any(1).sum() for each in itertools.combinations(range(9), size)]
        assert abs(np.mean(choices) - expected) < 1e-9
    assert found.expected[-1] == len(there)


def test_its_error_and_richness_are_those_of_colwell_and_chao() -> None:
    incidences, total = [1, 1, 1, 2, 2, 5, 8], 12
    found = accumulate(np.array(incidences), total)
    richness = 7 + Fraction(11, 12) * Fraction(9, 4)
    assert abs(found.richness - float(richness)) < 1e-12
    for size, error in zip(found.samples.tolist(), found.error.tolist(), strict=True):
        seen = [1 - Fraction(comb(total - each, size), comb(total, size)) for each in incidences]
        assert abs(error**2 - float(sum(each**2 for each in seen) - sum(seen) ** 2 / richness)) < 1e-9
    assert accumulate(np.array([1, 1, 4]), 10).richness == 3 + 0.9


def test_a_long_survey_has_few_points_and_ends_with_all_species() -> None:
    found = accumulate(np.arange(1, 300), 1_000_000)
    assert len(found.samples) == POINTS and found.samples[-1] == 1_000_000
    assert abs(found.expected[-1] - 299) < 1e-6 and (np.diff(found.expected) >= 0).all()
