"""Densities on the circle of the day against scipy, and what must hold of them whatever the times."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from scipy.optimize import brentq

from birder.analysis.circular import STEP, activity_curve, count_minutes, densities, kernel_concentration, overlap

RANDOM = np.random.default_rng(3)
MORNING = RANDOM.normal(400, 60, 120).astype(int) % 1440
NIGHT = RANDOM.normal(1380, 120, 60).astype(int) % 1440
MINUTE = 60_000_000


def counted(minutes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return count_minutes(minutes.astype(np.int64) * MINUTE)


def test_the_density_is_the_sum_of_scipys_von_mises_densities() -> None:
    curve = activity_curve(counted(NIGHT))
    grid = 2 * np.pi * np.arange(0, 1440, STEP) / 1440
    times = 2 * np.pi * NIGHT / 1440
    theirs = stats.vonmises.pdf(grid[:, None], curve.concentration, loc=times).mean(1) * 2 * np.pi / 24
    np.testing.assert_allclose(curve.density, theirs, rtol=1e-9, atol=1e-12)
    assert curve.n == 60
    assert (curve.low <= curve.high).all() and (curve.low < curve.density).mean() > 0.9


def test_the_concentration_is_taylors_for_the_largest_estimate_of_three_moments() -> None:
    times = 2 * np.pi * MORNING / 1440
    kappas = []
    for moment in (1, 2, 3):
        length = abs(np.exp(1j * moment * times).mean())
        kappas.append(brentq(lambda k, p=moment, r=length: special.iv(p, k) / special.iv(0, k) - r, 1e-4, 345))
    kappa = max(kappas)
    taylor = 3 * 120 * kappa**2 * special.iv(2, 2 * kappa) / (4 * np.sqrt(np.pi) * special.iv(0, kappa) ** 2)
    np.testing.assert_allclose(kernel_concentration(counted(MORNING)[None]), taylor**0.4, rtol=1e-6)


@given(st.lists(st.integers(0, 1439), min_size=1, max_size=60), st.integers(0, 1439))
@settings(max_examples=40, deadline=None)
def test_it_is_1_over_the_day_and_turns_with_its_times(minutes: list[int], turn: int) -> None:
    counts = counted(np.array(minutes))[None]
    concentration = kernel_concentration(counts)
    density = densities(counts, concentration)
    assert abs(density[0, ::STEP].sum() * STEP / 60 - 1) < 1e-6
    turned = np.roll(counts, turn, axis=1)
    np.testing.assert_allclose(kernel_concentration(turned), concentration, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(densities(turned, concentration), np.roll(density, turn, axis=1), atol=1e-9)


def test_times_all_over_the_day_are_flat_and_seconds_go_to_the_next_minute() -> None:
    flat = activity_curve(np.full(1440, 2))
    np.testing.assert_allclose(flat.density, 1 / 24, rtol=1e-6)
    assert count_minutes(np.array([86_399_000_000, 31_000_000, -29_000_000]))[:2].tolist() == [2, 1]


@pytest.mark.slow
def test_an_overlap_is_1_with_oneself_and_0_with_the_other_half_of_the_day() -> None:
    mine, theirs = counted(MORNING), counted((MORNING + 720) % 1440)
    same = overlap(mine, mine, ("a", "b"))
    assert same.kind == "Dhat4" and same.estimate == 1
    apart = overlap(mine, theirs)
    assert apart.estimate < 1e-6
    some, again = (overlap(mine, counted(NIGHT), ("a", "b"), seed=4) for _ in range(2))
    assert some.kind == "Dhat1" and some == again and 0 <= some.low <= some.estimate <= some.high <= 1
