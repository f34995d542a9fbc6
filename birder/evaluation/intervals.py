"""Intervals: how far a figure that was measured on some images may be from the truth.

Images of one group (a burst, an animal, a station) are not independent, so groups are drawn, not images: a bootstrap
with 1,000 resamples. What is done with the resamples depends on the figure.

Shares (accuracy; mean recall over the classes). The interval between two percentiles of the resamples is too narrow
exactly where it matters: simulated 95 % intervals covered the truth in 80 % of cases for the mean recall of classes of
which most have few images, because a class with one or two right images does not vary. So the resamples give a standard
error, after each group's part in it has been corrected for the pull that the group has on the mean itself (HC2,
MacKinnon and White 1985; with groups CR2, Bell and McCaffrey 2002). From the standard error follows the number of
independent images that would be as exact, and from that number Wilson's interval, with a quantile of Student's t (Korn
and Graubard 1998; Franco et al. 2019, doi:10.1093/jssam/smy019, compare such intervals). For means over classes:

- Classes with one group have no variance of their own. They are taken together as one stratum ("collapsed strata",
  Cochran 1977, 5A.12), less the share of variance that lies between classes, as found in the other classes.
- The accuracy whose doubt it is lies nearer to that of the classes with few groups: midway between it and the mean.
- The standard error is drawn towards what that accuracy would give for all classes, with the correlation within groups
  that was found (the design effect 1 + (m - 1) rho, Kish 1965). That counts as 10 degrees of freedom beside those that
  the groups have (Satterthwaite 1946), so it decides where there are few, and vanishes where there are many.

The interval always holds the estimate. tests/evaluation/test_intervals_cover.py simulates truths and counts how often
the intervals hold them: 93 to 97 % of 95 % intervals, 92 to 98 % where rare classes are much harder or errors are rare.

Everything else (log loss, F1, calibration error): percentiles of the resamples, further out where groups are few (the
expanded percentile interval, Hesterberg 2015, doi:10.1080/00031305.2015.1089789), moved so that their median is the
estimate: some figures, such as calibration error, are larger in every resample.

N is the number of rows, G of groups, C of classes, R of resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError

RESAMPLES = 1000
LEVEL = 0.95

_BORROWED = 10.0  # degrees of freedom that one accuracy for all classes counts as
_KEPT = 128 * 2**20  # bytes of draws that are kept; more are drawn again each time
_AT_ONCE = 64 * 2**20  # bytes of weights at once
_DECIMALS = 10  # of limits: what a sum in another order changes does not show

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes
    ----------
    value
        The figure.
    low, high
        Limits of its interval; None where there is only one group, so that nothing can be said.
    n
        Rows that it was measured on.
    how
        "Wilson", "bootstrap over groups", "bootstrap over rows" or "none".
    """

    value: float
    low: float | None
    high: float | None
    n: int
    how: str

    def as_dict(self) -> dict[str, Any]:
        """As it stands in JSON."""
        return {"estimate": self.value, "low": self.low, "high": self.high, "n": self.n, "interval": self.how}


def wilson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share of independent cases (Wilson 1927, doi:10.2307/2276774).

    Parameters
    ----------
    successes, n
        How many of how many.
    level
        The share of such intervals that hold the truth.

    Returns
    -------
    Its lower and upper limit.

    Raises
    ------
    ConfigError
        `n` is 0, or less than `successes`.
    """
    if not 0 <= successes <= n or n == 0:
        raise ConfigError(f"An interval needs at least one case and at most as many successes, not {successes} of {n}.")
    low, high = _wilson(successes / n, n, -_quantile((1 - level) / 2))
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


class Bootstrap:
    """Intervals of figures of the same rows; made once, because all figures share the resamples.

    Draws are kept as one byte a group and resample, up to 128 MB; more groups are drawn again for each figure. Weights
    are made for 64 MB at a time.

    Parameters
    ----------
    groups
        (N,) int64: the group of each row, any numbers; None if the rows are independent.
    labels
        (N,) int64: the true class of each row, any numbers; needed for `macro` and `within_classes`.
    resamples
        How many resamples.
    seed
        The same seed gives the same intervals.
    level
        The share of intervals that hold the truth.

    Raises
    ------
    ConfigError
        The arrays are empty, or differ in length.
    """

    def __init__(
        self,
        groups: Codes | None,
        labels: Codes | None,
        *,
        rows: int | None = None,
        resamples: int = RESAMPLES,
        seed: int = 0,
        level: float = LEVEL,
    ) -> None:
        known = {len(each) for each in (groups, labels) if each is not None} | ({rows} if rows is not None else set())
        if len(known) > 1:
            raise ConfigError(f"Groups and labels are for the same rows, not for {sorted(known)}.")
        self._rows = known.pop() if known else None
        self._groups = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64)
        self._labels = None if labels is None else np.unique(labels, return_inverse=True)[1].astype(np.int64)
        self._resamples = resamples
        self._seed = seed
        self._level = level
        self._drawn: list[npt.NDArray[np.uint8]] | None = None

    def mean(self, values: npt.ArrayLike) -> Estimate:
        """The mean of values of the rows: accuracy, if they are 0 and 1; log loss, Brier score.

        Parameters
        ----------
        values
            (N,), finite. For 0 and 1 of independent rows the interval is Wilson's.

        Raises
        ------
        ConfigError
            A value is not finite, or there is not one for each row.
        """
        given = self._checked(values)
        share = _is_share(given)
        if share and self._groups is None:
            low, high = wilson(int(given.sum()), len(given), self._level)
            return Estimate(float(given.mean()), _rounded(low), _rounded(high), len(given), "Wilson")
        return self._interval(given, np.zeros(len(given), np.int64), float(given.mean()), share)

    def macro(self, values: npt.ArrayLike) -> Estimate:
        """The mean over classes of the classes' means: mean recall, if the values are 0 and 1.

        Every class keeps its weight in all resamples: a class whose groups were not drawn does not vanish.

        Parameters
        ----------
        values
            (N,), finite.

        Raises
        ------
        ConfigError
            A value is not finite, there is not one for each row, or the rows have no labels.
        """
        given = self._checked(values)
        labels = self._with_labels()
        counts = np.bincount(labels)
        value = float((np.bincount(labels, given) / counts).mean())
        return self._interval(given, labels, value, _is_share(given))

    def statistic(
        self,
        function: Callable[[Weights], npt.ArrayLike],
        *,
        n: int | None = None,
        limits: tuple[float, float] | None = None,
        within_classes: bool = False,
    ) -> Estimate:
        """A figure of weighted rows; `statistics` says more.

        Parameters
        ----------
        function
            Takes weights (R, N) float32 and returns the figure for each, (R,).
        n
            The rows that it is measured on; default: all.
        limits
            The smallest and the largest value that it can have.
        within_classes
            Keep the weight of each class.
        """
        return self.statistics(
            lambda weights: np.asarray(function(weights), np.float64)[:, None],
            n=None if n is None else [n],
            limits=None if limits is None else [limits],
            within_classes=within_classes,
        )[0]

    def statistics(
        self,
        function: Callable[[Weights], npt.ArrayLike],
        *,
        n: Sequence[int] | None = None,
        limits: Sequence[tuple[float, float]] | None = None,
        within_classes: bool = False,
    ) -> list[Estimate]:
        """K figures of weighted rows, in one pass over the resamples.

        Parameters
        ----------
        function
            Takes weights (R, N) float32, C-contiguous, a block of resamples at a time, and returns the figures (R, K);
            NaN where a resample has none, which is left out. The estimates are those of weights that are all 1.
        n
            The rows that each figure is measured on; default: all.
        limits
            The smallest and the largest value that each can have; default: none.
        within_classes
            Multiply the weights of each class so that their sum remains the number of its rows; a class whose groups
            were not drawn keeps its rows. For figures in which each class counts the same.

        Raises
        ------
        ConfigError
            The number of rows is unknown, or the rows have no labels where they are needed.
        """
        if self._rows is None:
            raise ConfigError("The number of rows is needed: give groups, labels or rows.")
        rows = self._rows
        estimates = np.asarray(function(np.ones((1, rows), np.float32)), np.float64)[0]
        sizes = [rows] * len(estimates) if n is None else list(n)
        bounds = [(-math.inf, math.inf)] * len(estimates) if limits is None else list(limits)
        groups = self._count(rows)
        if groups < 2:
            return [
                Estimate(float(value), None, None, size, "none") for value, size in zip(estimates, sizes, strict=True)
            ]
        blocks = self._row_weights(rows, self._with_labels() if within_classes else None)
        found = np.concatenate([np.asarray(function(weights), np.float64) for weights in blocks])
        outside = self._outside(self._freedom(rows))
        results = []
        for value, column, size, (least, most) in zip(estimates, found.T, sizes, bounds, strict=True):
            column = column[np.isfinite(column)]
            if not len(column):
                results.append(Estimate(float(value), None, None, size, "none"))
                continue
            low, middle, high = np.quantile(column, [outside, 0.5, 1 - outside])
            results.append(
                Estimate(
                    float(value),
                    _rounded(min(max(value + low - middle, least), value)),
                    _rounded(max(min(value + high - middle, most), value)),
                    size,
                    self._how,
                )
            )
        return results

    @property
    def _how(self) -> str:
        return "bootstrap over rows" if self._groups is None else "bootstrap over groups"

    def _checked(self, values: npt.ArrayLike) -> Floats:
        given = np.asarray(values, np.float64)
        if given.ndim != 1 or not len(given) or not np.isfinite(given).all():
            raise ConfigError("An interval needs finite values, at least one.")
        if self._rows is None:
            self._rows = len(given)
        if len(given) != self._rows:
            raise ConfigError(f"There must be a value for each of the {self._rows} rows, not {len(given)}.")
        return given

    def _with_labels(self) -> Codes:
        if self._labels is None:
            raise ConfigError("A mean over classes needs the labels of the rows.")
        return self._labels

    def _count(self, rows: int) -> int:
        return rows if self._groups is None else int(self._groups.max()) + 1

    def _freedom(self, rows: int) -> float:
        """Degrees of freedom of a mean of all rows: groups, fewer where some are much larger than others."""
        if self._groups is None:
            return rows - 1
        shares = np.bincount(self._groups) / rows
        return max(1.0, float(1 / (shares**2).sum()) - 1)

    def _outside(self, freedom: float) -> float:
        """The share of resamples below the lower limit."""
        from scipy.special import ndtr

        return float(ndtr(_quantile((1 - self._level) / 2, freedom)))

    def _interval(self, values: Floats, strata: Codes, value: float, share: bool) -> Estimate:
        """The interval of the mean over strata of their means."""
        groups = np.arange(len(values)) if self._groups is None else self._groups
        if self._count(len(values)) < 2:
            return Estimate(value, None, None, len(values), "none")
        parts = _parts(values, strata, groups, share)
        moved = [block.astype(np.float64) @ parts.pulls for block in self._draws(len(parts.pulls))]
        deviations = np.concatenate(moved) - parts.pulls.sum()
        if not share:
            outside = self._outside(parts.freedom)
            low, high = np.quantile(deviations, [outside, 1 - outside]) + value
        else:
            low, high = _share_limits(value, float(deviations.var()), parts, self._level)
        return Estimate(
            value, _rounded(min(float(low), value)), _rounded(max(float(high), value)), len(values), self._how
        )

    def _draws(self, groups: int) -> Iterator[npt.NDArray[np.uint8]]:
        """How often each group is drawn, (r, G) a block of resamples at a time; the same each time."""
        if self._drawn is not None:
            yield from self._drawn
            return
        kept: list[npt.NDArray[np.uint8]] | None = [] if groups * self._resamples <= _KEPT else None
        random = np.random.default_rng(self._seed)
        step = max(1, _AT_ONCE // (8 * groups))
        for start in range(0, self._resamples, step):
            block = np.empty((min(step, self._resamples - start), groups), np.uint8)
            for row in block:  # no group is drawn more than 255 times: of 256 or more, each is drawn once on average
                row[:] = np.bincount(random.integers(0, groups, groups), minlength=groups)
            if kept is not None:
                kept.append(block)
            yield block
        self._drawn = kept

    def _row_weights(self, rows: int, labels: Codes | None) -> Iterator[Weights]:
        """Weights of rows, (r, N) float32 a block of resamples at a time."""
        table = None
        if labels is not None:
            from scipy.sparse import csr_matrix

            groups = np.arange(rows) if self._groups is None else self._groups
            counts = np.bincount(labels).astype(np.float32)
            table = csr_matrix((np.ones(rows, np.float32), (labels, groups)), shape=(len(counts), self._count(rows)))
        step = max(1, _AT_ONCE // (4 * rows))
        for block in self._draws(self._count(rows)):
            for start in range(0, len(block), step):
                drawn = block[start : start + step]
                weights = (
                    drawn.astype(np.float32) if self._groups is None else drawn[:, self._groups].astype(np.float32)
                )
                if labels is not None and table is not None:
                    sums = np.asarray((table @ drawn.T.astype(np.float32)).T)
                    there = sums > 0
                    factors = np.where(there, counts / np.where(there, sums, 1), 0).astype(np.float32)
                    weights *= factors[:, labels]
                    weights += ~there[:, labels]
                yield weights


def paired_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    groups: Codes | None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """How much larger the first of two models' means is, on the same rows.

    Parameters
    ----------
    first, second
        (N,): of each model, the value of each row, such as 1 for a right name and 0 for a wrong one.
    groups
        (N,) int64; None if the rows are independent.
    resamples, seed, level
        As in `Bootstrap`.

    Returns
    -------
    The difference, with the interval of a bootstrap over groups. If no row differs, the interval is what would still go
    unseen in so many groups: 1 - (1 - level) ** (1 / G) on both sides.

    Raises
    ------
    ConfigError
        A value is not finite, or the rows are not the same.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != other.shape:
        raise ConfigError(f"Two models are compared on the same rows, not on {len(one)} and {len(other)}.")
    bootstrap = Bootstrap(groups, None, resamples=resamples, seed=seed, level=level)
    difference = one - other
    if not difference.any() and len(difference):
        count = bootstrap._count(len(difference))
        unseen = _rounded(1 - (1 - level) ** (1 / count))
        return Estimate(0.0, -unseen, unseen, len(difference), bootstrap._how)
    bootstrap._checked(difference)
    strata = np.zeros(len(difference), np.int64)
    return bootstrap._interval(difference, strata, float(difference.mean()), False)


def mcnemar_exact(first_right: npt.ArrayLike, second_right: npt.ArrayLike) -> float:
    """McNemar's exact test of whether two models are right equally often, for independent rows.

    Parameters
    ----------
    first_right, second_right
        (N,) bool: whether each model names each row rightly.

    Returns
    -------
    The two-sided p-value (McNemar 1947, doi:10.1007/BF02295996, by the binomial distribution); 1 if no row tells them
    apart.
    """
    from scipy.stats import binomtest

    one, other = np.asarray(first_right, bool), np.asarray(second_right, bool)
    if one.shape != other.shape:
        raise ConfigError(f"Two models are compared on the same rows, not on {len(one)} and {len(other)}.")
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    return float(binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else 1.0


def share_of_groups(values: npt.ArrayLike, groups: Codes | None, level: float = LEVEL) -> Estimate:
    """A share of few rows, as of one of many classes, with the interval of `Bootstrap.mean`, but nothing is drawn.

    The variance over the resamples is that which the bootstrap finds with ever more of them: the sum of the squares of
    what each group moves the mean by.

    Parameters
    ----------
    values
        (N,) 0 or 1, at least one.
    groups
        (N,) int64; None if the rows are independent.
    level
        The share of intervals that hold the truth.
    """
    given = np.asarray(values, np.float64)
    value = float(given.mean())
    if groups is None:
        low, high = wilson(int(given.sum()), len(given), level)
        return Estimate(value, _rounded(low), _rounded(high), len(given), "Wilson")
    codes = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    if not codes.any():
        return Estimate(value, None, None, len(given), "none")
    parts = _parts(given, np.zeros(len(given), np.int64), codes, True)
    variance = float((parts.pulls**2).sum() - parts.pulls.sum() ** 2 / len(parts.pulls))
    low, high = _share_limits(value, variance, parts, level)
    return Estimate(value, _rounded(min(low, value)), _rounded(max(high, value)), len(given), "bootstrap over groups")


class _Parts(NamedTuple):
    """What groups do to a mean over strata.

    Attributes
    ----------
    pulls
        (G,): drawn w times, a group moves the mean by (w - 1) times this.
    freedom
        Degrees of freedom of their squares' sum.
    alike
        The number of independent rows that would be as exact, if all rows of a group were alike.
    expected
        The variance in units of p (1 - p), if all strata had the same share p; None for a single stratum, and where
        values are not shares.
    tail
        The mean over strata, each as far as it adds to that variance: the accuracy of the classes with few groups.
    """

    pulls: Floats
    freedom: float
    alike: float
    expected: float | None
    tail: float


def _parts(values: Floats, strata: Codes, groups: Codes, share: bool) -> _Parts:
    # A cell is what a group has in a stratum; it is the unit that varies.
    count, all_groups = int(strata.max()) + 1, int(groups.max()) + 1
    cells, cell = np.unique(strata * all_groups + groups, return_inverse=True)
    stratum, group = cells // all_groups, cells % all_groups
    sizes = np.bincount(cell).astype(np.float64)
    sums = np.bincount(cell, values).astype(np.float64)
    rows = np.bincount(stratum, sizes).astype(np.float64)
    means = np.bincount(stratum, sums) / rows
    many = np.bincount(stratum) > 1  # strata with several cells
    weight = sizes / rows[stratum]
    deviations = np.zeros(len(cells))  # of a stratum's mean, by cell
    multiple = many[stratum]
    deviations[multiple] = (
        (sums - means[stratum] * sizes)[multiple] / rows[stratum][multiple] / np.sqrt(1 - weight[multiple])
    )
    if not many.all():
        deviations[~multiple] = _collapsed(sums / sizes, stratum, many, means)
    pulls = np.bincount(group, deviations, minlength=all_groups) / count
    equal = 1 / np.bincount(stratum, weight**2)  # cells of equal size that would be as exact, by stratum
    total = float((1 / equal).sum())
    doubt = float(((1 / equal[many]) ** 2 / (equal[many] - 1)).sum())
    if not many.all():
        single = int((~many).sum())
        doubt += single**2 / max(single - 1, 1)
    freedom = max(1.0, min(total**2 / doubt, all_groups - 1.0))
    expected, tail = None, float(means.mean())
    if count > 1:
        pulls *= math.sqrt(all_groups / (all_groups - 1))
    if share and count > 1:
        squares = np.bincount(stratum, np.where(multiple, deviations, 0) ** 2).astype(np.float64)
        within = _within_groups(squares, means, rows, equal, many)
        variances = within / equal + (1 - within) / rows
        expected = float(variances.sum()) / count**2
        tail = float((variances * means).sum() / variances.sum())
        apart = float((deviations**2).sum()) / count**2  # without what strata share by the same groups
        expected *= max(1.0, float((pulls**2).sum()) / apart) if apart > 0 else 1.0
    return _Parts(pulls, freedom, count**2 / total, expected, tail)


def _share_limits(value: float, variance: float, parts: _Parts, level: float) -> tuple[float, float]:
    """Wilson's limits of a share whose mean varies so much over the resamples."""
    freedom = parts.freedom
    middle = (value + parts.tail) / 2  # the accuracy whose doubt it is
    if parts.expected is not None and 0 < value < 1:
        expected = middle * (1 - middle) * parts.expected
        variance = (freedom * variance + _BORROWED * expected) / (freedom + _BORROWED)
        freedom = min(freedom + _BORROWED, len(parts.pulls) - 1)
    spread = middle * (1 - middle)
    alike = spread / variance if spread > 0 and variance > 1e-12 * spread else parts.alike
    low, high = _wilson(middle, alike, -_quantile((1 - level) / 2, freedom))
    return max(0.0, value + low - middle), min(1.0, value + high - middle)


def _collapsed(cell_means: Floats, stratum: Codes, many: npt.NDArray[np.bool_], means: Floats) -> Floats:
    """Deviations of strata with a single cell: from their common mean, without what lies between strata."""
    multiple = many[stratum]
    single = cell_means[~multiple]
    deviations: Floats
    if len(single) > 1:
        deviations = (single - single.mean()) * math.sqrt(len(single) / (len(single) - 1))
    else:
        deviations = single - means.mean()
    if many.sum() > 1:
        cells = np.bincount(stratum).astype(np.float64)
        middle = np.bincount(stratum, cell_means) / cells
        squares = np.bincount(stratum, (cell_means - middle[stratum]) ** 2)[many] / (cells[many] - 1)
        within = float(squares.mean())
        between = max(0.0, float(middle[many].var(ddof=1) - (squares / cells[many]).mean()))
        if within + between > 0:
            deviations = deviations * math.sqrt(within / (within + between))
    return deviations


def _within_groups(squares: Floats, means: Floats, rows: Floats, equal: Floats, many: npt.NDArray[np.bool_]) -> float:
    """The correlation of right and wrong within groups, 0 to 1: the design effect of all strata together.

    A stratum's mean varies by `squares`, and p (1 - p) (rho / equal + (1 - rho) / rows) is expected.
    """
    freedom = np.where(many, equal - 1, 0)
    spread = freedom * (means * (1 - means) + squares)
    if not spread.sum() > 0:
        return 1.0
    measured = float((freedom * squares * equal).sum() / spread.sum())
    independent = float((spread * equal / rows).sum() / spread.sum())
    return min(1.0, max(0.0, (measured - independent) / (1 - independent))) if independent < 1 - 1e-9 else 1.0


def _wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    square = quantile**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = quantile / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _quantile(probability: float, freedom: float | None = None) -> float:
    """A quantile of the normal distribution, or of Student's t."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) if freedom is None else stdtrit(freedom, probability))


def _is_share(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _rounded(limit: float) -> float:
    return round(float(limit), _DECIMALS)
