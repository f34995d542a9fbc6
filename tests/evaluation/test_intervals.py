from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score

from birder.errors import ConfigError
from birder.evaluation.intervals import Bootstrap, Estimate, mcnemar_exact, paired_difference, wilson


@pytest.mark.parametrize("n", [1, 2, 10, 137, 2485])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipys(n: int, level: float) -> None:
    for successes in {0, 1, n // 3, n - 1, n}:
        theirs = binomtest(successes, n).proportion_ci(level, method="wilson")
        assert wilson(successes, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_needs_cases() -> None:
    for successes, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ConfigError, match="at least one case"):
            wilson(successes, n)


def test_shares_of_independent_rows_get_wilsons_interval() -> None:
    right = np.arange(40) % 4 > 0
    estimate = Bootstrap(None, None).mean(right)
    low, high = wilson(30, 40)
    assert estimate == Estimate(0.75, round(low, 10), round(high, 10), 40, "Wilson")
    assert estimate.as_dict() == {
        "estimate": 0.75,
        "low": estimate.low,
        "high": estimate.high,
        "n": 40,
        "interval": "Wilson",
    }


def test_groups_widen_the_interval() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    right = np.repeat(random.random(40) < 0.8, 10)  # a group is right as a whole: 40 cases, not 400
    estimate = Bootstrap(groups, None).mean(right)
    assert estimate.how == "bootstrap over groups" and estimate.n == 400
    assert estimate.low is not None and estimate.high is not None
    low, high = wilson(int(right.sum()) // 10, 40)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.02)


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=60),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_an_estimate_lies_inside_its_interval(rows: list[tuple[bool, int, int]], grouped: bool) -> None:
    right, labels, groups = (np.array(column) for column in zip(*rows, strict=True))
    bootstrap = Bootstrap(groups.astype(np.int64) if grouped else None, labels.astype(np.int64), resamples=60)
    for estimate in (bootstrap.mean(right), bootstrap.macro(right), bootstrap.macro(right * 1.5)):
        if estimate.low is None or estimate.high is None:
            assert grouped or len(rows) == 1
            continue
        assert estimate.low <= estimate.value <= estimate.high
    assert bootstrap.mean(right).value == pytest.approx(right.mean())
    predicted = np.where(right, labels, labels + 10)
    by_sklearn = pytest.approx(balanced_accuracy_score(labels, predicted))
    assert bootstrap.macro(right).value == by_sklearn


def test_all_right_is_not_certain() -> None:
    groups = np.repeat(np.arange(8), 5)
    labels = np.arange(40) % 4
    for estimate in (Bootstrap(groups, labels).mean(np.ones(40)), Bootstrap(groups, labels).macro(np.ones(40))):
        assert estimate.low is not None and 0.5 < estimate.low < 0.9
        assert estimate.high == 1


def test_one_group_says_nothing_about_others() -> None:
    bootstrap = Bootstrap(np.zeros(5, np.int64), np.arange(5) % 2)
    for estimate in (
        bootstrap.mean([0, 1, 1, 1, 0]),
        bootstrap.macro([0, 1, 1, 1, 0]),
        bootstrap.statistic(lambda weights: weights.mean(axis=1)),
    ):
        assert (estimate.low, estimate.high, estimate.how) == (None, None, "none")


def test_the_same_seed_gives_the_same_interval() -> None:
    random = np.random.default_rng(0)
    groups, labels = random.integers(0, 30, 200), random.integers(0, 5, 200)
    values = random.random(200)

    def interval(seed: int) -> list[Estimate]:
        bootstrap = Bootstrap(groups, labels, seed=seed)
        return [bootstrap.mean(values), bootstrap.macro(values > 0.3), bootstrap.mean(values)]

    assert interval(1) == interval(1)
    assert interval(1)[0] != interval(2)[0]
    assert interval(1)[0] == interval(1)[2], "the resamples are the same for each figure"


def test_draws_that_are_not_kept_are_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(300)
    kept = Bootstrap(None, None)
    expected = [kept.mean(values), kept.mean(values)]
    monkeypatch.setattr("birder.evaluation.intervals._KEPT", 0)
    monkeypatch.setattr("birder.evaluation.intervals._AT_ONCE", 20_000)
    again = Bootstrap(None, None)
    assert [again.mean(values), again.mean(values)] == expected
    assert again._drawn is None


def weighted(values: npt.NDArray[np.float64]) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]:
    return lambda weights: weights @ values / weights.sum(axis=1)


def test_a_statistic_of_weights_agrees_with_the_mean() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 80, 600)
    values = random.exponential(size=600)
    bootstrap = Bootstrap(groups, None, seed=3)
    mean, statistic = bootstrap.mean(values), bootstrap.statistic(weighted(values), n=500)
    assert statistic.n == 500
    assert mean.low is not None and statistic.low is not None
    assert mean.high is not None and statistic.high is not None
    assert statistic.value == pytest.approx(mean.value, rel=1e-6)
    assert (statistic.low, statistic.high) == pytest.approx((mean.low, mean.high), abs=0.02)


def test_statistics_share_one_pass_and_keep_to_their_limits() -> None:
    values = np.array([0.0] * 3 + [1.0] * 57)
    calls = []

    def both(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        calls.append(len(weights))
        assert weights.dtype == np.float32 and weights.flags.c_contiguous
        share = weights @ values / weights.sum(axis=1)
        return np.stack([share, np.where(share > 0.5, np.nan, 1)], axis=1)

    found = Bootstrap(None, None, rows=60).statistics(both, n=[60, 7], limits=[(0.0, 0.97), (0, 1)])
    assert calls[0] == 1 and sum(calls) == 1001
    assert found[0].high == 0.97 and found[0].value == pytest.approx(0.95)
    assert (found[1].n, found[1].low, found[1].how) == (7, None, "none"), "no resample has it"


def test_within_classes_every_class_keeps_its_weight() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [2])
    groups = np.array([*range(50), 0, 1, 2, 60])

    def check(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        for class_, rows in enumerate((50, 3, 1)):
            assert np.allclose(weights[:, labels == class_].sum(axis=1), rows, rtol=1e-5)
        return weights[:, 0].astype(np.float64)

    Bootstrap(groups, labels, resamples=300).statistic(check, within_classes=True)


def test_a_difference_of_paired_rows_is_narrower_than_of_two_samples() -> None:
    random = np.random.default_rng(0)
    hard = random.random(500) < 0.3
    first, second = ~hard, ~hard & (random.random(500) < 0.97)
    found = paired_difference(first, second, None)
    assert found.how == "bootstrap over rows" and found.low is not None and found.high is not None
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert 0 < found.low < found.value < found.high < 0.05
    whole = paired_difference(first, second, np.arange(500) // 50)
    assert whole.how == "bootstrap over groups"


def test_models_that_never_differ_may_still_differ() -> None:
    same = np.ones(300)
    found = paired_difference(same, same, None)
    assert found.value == 0 and found.low == -found.high  # type: ignore[operator]
    assert found.high == pytest.approx(1 - 0.05 ** (1 / 300), abs=1e-9)


def test_mcnemar_is_the_binomial_test_of_the_rows_that_differ() -> None:
    first = np.array([True] * 50 + [True] * 12 + [False] * 3 + [False] * 5)
    second = np.array([True] * 50 + [False] * 12 + [True] * 3 + [False] * 5)
    assert mcnemar_exact(first, second) == pytest.approx(0.03515625)  # 2 * sum(C(15, k), k <= 3) / 2 ** 15
    assert mcnemar_exact(second, first) == mcnemar_exact(first, second)
    assert mcnemar_exact(first, first) == 1


def test_values_that_cannot_be_used_are_refused() -> None:
    bootstrap = Bootstrap(np.arange(3), None)
    for values in ([1.0, np.nan, 0.0], [], [[1.0]]):
        with pytest.raises(ConfigError, match="finite values"):
            bootstrap.mean(values)
    with pytest.raises(ConfigError, match="each of the 3 rows, not 2"):
        bootstrap.mean([1, 0])
    with pytest.raises(ConfigError, match="labels"):
        bootstrap.macro([1, 0, 1])
    with pytest.raises(ConfigError, match="the same rows"):
        Bootstrap(np.arange(3), np.arange(4))
    with pytest.raises(ConfigError, match="number of rows"):
        Bootstrap(None, None).statistic(lambda weights: weights[:, 0])
    for compare in (mcnemar_exact, lambda a, b: paired_difference(a, b, None)):
        with pytest.raises(ConfigError, match="the same rows, not on 2 and 3"):
            compare([True, False], [True, False, True])
