"""When in the day a species is active: a density of times on the circle of 24 hours, and how far two of them overlap.

The density is a sum of von Mises kernels whose concentration is chosen as in Taylor (2008), Automatic bandwidth
selection for circular density estimation, Computational Statistics & Data Analysis 52: 3493-3500, for the largest of
three estimates of how concentrated the times are: so Ridout and Linkie (2009), Estimating overlap of daily activity
patterns from camera trap data, Journal of Agricultural, Biological, and Environmental Statistics 14: 322-337, and after
them the R packages overlap and activity. The overlap is Ridout and Linkie's as well.

Times are minutes of the day; R is the number of samples that are looked at together.
"""

from __future__ import annotations

import zlib
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

MINUTES = 24 * 60
STEP = 5
"""Minutes from one point of a curve to the next."""
REPLICATES = 1000
"""Samples of the bootstrap."""

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_HOURS = 24 / (2 * np.pi)  # in a radian
_MOMENTS = (1, 2, 3)
_CONCENTRATIONS = (1e-4, 345.0)  # that times can have, as in the package overlap
_NARROWEST = (MINUTES / (2 * np.pi * STEP)) ** 2  # a kernel's standard deviation is at least one step
_BLOCK = 250  # samples of the bootstrap at once, each of some 50 kB
_MANY = 75  # times from which the overlap is Dhat4
_Z = 1.959964  # two-sided 95 %


class Curve(NamedTuple):
    """When in the day a species is active.

    Attributes
    ----------
    n
        The number of times.
    concentration
        Of the kernels.
    density
        (288,) float64, per hour, at 0:00, 0:05, ...: 1 over the day.
    low, high
        (288,) float64: the bootstrap's 2.5 and 97.5 percentiles at each point.
    """

    n: int
    concentration: float
    density: Floats
    low: Floats
    high: Floats


class Overlap(NamedTuple):
    """How much of two densities is common to both, from 0 to 1.

    Attributes
    ----------
    kind
        Which of Ridout and Linkie's estimators: "Dhat1" where a species has fewer than 75 times, else "Dhat4".
    estimate, low, high
        With a normal 95 % interval from the bootstrap's standard error.
    """

    kind: Literal["Dhat1", "Dhat4"]
    estimate: float
    low: float
    high: float


def count_minutes(microseconds: Counts) -> Counts:
    """How many times are at each minute of the day: (1440,) int64, from (N,) microseconds, each to the next minute."""
    minutes = (microseconds + 30_000_000) // 60_000_000 % MINUTES
    return np.bincount(minutes, minlength=MINUTES)


def kernel_concentration(counts: Counts) -> Floats:
    """The concentration of the kernels for samples of times; the larger, the less the times are smoothed.

    Parameters
    ----------
    counts
        (R, 1440) int64: how many times are at each minute.

    Returns
    -------
    (R,) float64.
    """
    from scipy.special import ive

    n = counts.sum(1)
    spectrum = np.abs(np.fft.rfft(counts)[:, list(_MOMENTS)]) / n[:, None]
    kappa = np.max([_concentration(spectrum[:, each], moment) for each, moment in enumerate(_MOMENTS)], axis=0)
    # I2(2k) / I0(k)^2, with both scaled by exp(-2k)
    ratio = ive(2, 2 * kappa) / ive(0, kappa) ** 2
    found: Floats = (3 * n * kappa**2 * ratio / (4 * np.sqrt(np.pi))) ** 0.4
    return np.minimum(found, _NARROWEST)


def _concentration(length: Floats, moment: int) -> Floats:
    """The concentration of the von Mises distribution whose trigonometric moment has this length, by bisection."""
    from scipy.special import ive

    low, high = (np.full(len(length), each) for each in _CONCENTRATIONS)
    for _ in range(50):
        middle = (low + high) / 2
        above = ive(moment, middle) / ive(0, middle) > length
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return high


def densities(counts: Counts, concentration: Floats) -> Floats:
    """Densities of samples of times, per hour, at each minute of the day.

    Parameters
    ----------
    counts
        (R, 1440) int64: how many times are at each minute.
    concentration
        (R,) float64.

    Returns
    -------
    (R, 1440) float64; each sums to 60.
    """
    from scipy.special import ive

    angle = 2 * np.pi * np.arange(MINUTES) / MINUTES
    nu = concentration[:, None]
    kernel = np.exp(nu * (np.cos(angle) - 1)) / (2 * np.pi * ive(0, nu))
    summed = np.fft.irfft(np.fft.rfft(counts) * np.fft.rfft(kernel), MINUTES)
    found: Floats = np.maximum(summed, 0) / counts.sum(1)[:, None] / _HOURS
    return found


def activity_curve(counts: Counts, name: str = "", *, seed: int = 0) -> Curve:
    """The density of one species with its bootstrap band; each sample of the bootstrap has its own concentration.

    Parameters
    ----------
    counts
        (1440,) int64: how many times are at each minute; at least one is.
    name, seed
        The bootstrap's random numbers follow from both, so that they do not depend on the other species.
    """
    concentration = kernel_concentration(counts[None])
    density = densities(counts[None], concentration)[0, ::STEP]
    samples = [
        densities(sample, kernel_concentration(sample))[:, ::STEP].astype(np.float32)
        for sample in _samples(counts, name, seed)
    ]
    low, high = np.percentile(np.concatenate(samples), (2.5, 97.5), axis=0).astype(np.float64)
    return Curve(int(counts.sum()), float(concentration[0]), density, low, high)


def overlap(first: Counts, second: Counts, names: tuple[str, str] = ("", ""), *, seed: int = 0) -> Overlap:
    """How much two species' densities overlap.

    Parameters
    ----------
    first, second
        (1440,) int64: how many times are at each minute; at least one is.
    names, seed
        As in `activity_curve`.
    """
    kind: Literal["Dhat1", "Dhat4"] = "Dhat4" if min(first.sum(), second.sum()) >= _MANY else "Dhat1"
    estimate = _overlaps(first[None], second[None], kind)[0]
    both = zip(_samples(first, names[0], seed), _samples(second, names[1], seed + 1), strict=True)
    spread = np.concatenate([_overlaps(mine, theirs, kind) for mine, theirs in both]).std(ddof=1)
    low, high = np.clip((estimate - _Z * spread, estimate + _Z * spread), 0, 1).tolist()
    return Overlap(kind, float(estimate), low, high)


def _overlaps(first: Counts, second: Counts, kind: Literal["Dhat1", "Dhat4"]) -> Floats:
    """The overlaps of (R, 1440) pairs of samples: (R,)."""
    sharper = 1.25 if kind == "Dhat1" else 1.0  # than for a density: Ridout and Linkie's c
    mine, theirs = (densities(each, sharper * kernel_concentration(each)) for each in (first, second))
    found: Floats
    if kind == "Dhat1":
        found = np.minimum(mine, theirs).sum(1) / 60
        return found
    found = (_mean_ratio(first, mine, theirs) + _mean_ratio(second, theirs, mine)) / 2
    return found


def _mean_ratio(counts: Counts, mine: Floats, theirs: Floats) -> Floats:
    """The mean over a species' times of the other's density as a share of its own, at most 1."""
    ratio = np.divide(theirs, mine, out=np.ones_like(mine), where=mine > theirs)
    found: Floats = (counts * ratio).sum(1) / counts.sum(1)
    return found


def _samples(counts: Counts, name: str, seed: int) -> list[Counts]:
    """Samples of times drawn with replacement, in blocks of at most 250: `REPLICATES` in all."""
    n = int(counts.sum())
    random = np.random.default_rng([seed, zlib.crc32(name.encode("utf-8", "surrogatepass"))])
    there = np.flatnonzero(counts)
    drawn = random.multinomial(n, counts[there] / n, REPLICATES)
    blocks = []
    for first in range(0, REPLICATES, _BLOCK):
        block = np.zeros((min(_BLOCK, REPLICATES - first), MINUTES), np.int64)
        block[:, there] = drawn[first : first + _BLOCK]
        blocks.append(block)
    return blocks
