"""How many species more effort would find: the accumulation curve, exactly, without drawing samples in random order.

The expected number of species in h of H samples is that of sample-based rarefaction, called Mao Tau by Colwell, Mao and
Chang (2004), Interpolating, extrapolating, and comparing incidence-based species accumulation curves, Ecology 85:
2717-2727, and given by Ugland, Gray and Ellingsen (2003), The species-accumulation curve and estimation of species
richness, Journal of Animal Ecology 72: 888-897. Its standard error is that of Colwell et al., for samples from a larger
area, so it does not end at 0; the richness that it needs is Chao2 (Chao 1987, Biometrics 43: 783-791).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

POINTS = 200
"""Of a curve, at most."""

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Accumulation(NamedTuple):
    """The expected number of species in so many samples.

    Attributes
    ----------
    samples
        (K,) int64: how many samples, from 1 to all of them.
    expected, error
        (K,) float64: how many species, and the standard error.
    richness
        Chao2's lower bound for the number of species that there are.
    """

    samples: Counts
    expected: Floats
    error: Floats
    richness: float


def accumulate(incidences: Counts, total: int) -> Accumulation:
    """The accumulation curve of a survey.

    Parameters
    ----------
    incidences
        (S,) int64, from 1 to `total`: in how many samples each species is.
    total
        The number of samples, those without a species included.
    """
    from scipy.special import gammaln

    samples = np.unique(np.linspace(1, total, min(POINTS, total)).round().astype(np.int64))
    lacking = total - incidences[:, None]
    fits = lacking >= samples
    rest = np.where(fits, lacking - samples, 0)
    # the share of all choices of h samples that miss a species: C(H - n, h) / C(H, h)
    log = gammaln(lacking + 1) - gammaln(rest + 1) + gammaln(total - samples + 1) - gammaln(total + 1)
    missed = np.where(fits, np.exp(np.minimum(log, 0)), 0.0)
    expected = (1 - missed).sum(0)
    richness = _chao2(incidences, total)
    variance = ((1 - missed) ** 2).sum(0) - expected**2 / max(richness, 1)
    return Accumulation(samples, expected, np.sqrt(np.maximum(variance, 0)), richness)


def _chao2(incidences: Counts, total: int) -> float:
    once, twice = (int((incidences == each).sum()) for each in (1, 2))
    share = (total - 1) / total
    unseen = once**2 / (2 * twice) if twice else once * (once - 1) / 2
    return len(incidences) + share * unseen
