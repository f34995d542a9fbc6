"""Every figure of a table of predictions: what `metrics.json` holds, from `predictions.parquet` alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from birder.errors import ConfigError, unknown_name
from birder.evaluation.calibration import equal_mass, expected_calibration_errors, reliability
from birder.evaluation.intervals import Bootstrap, Estimate, share_of_groups
from birder.evaluation.judged import Bools, Codes, Judged, bools, floats, tidied
from birder.evaluation.metrics import count, heights, log_losses, macro_f1
from birder.evaluation.predictions import PREDICTED, TRUE
from birder.evaluation.selective import PERCENTS, coverages, risk_coverage
from birder.evaluation.unknown_metrics import Ordered, Scores, separations
from birder.taxonomy import RANKS

SCHEMA_VERSION = 1
CONFUSIONS = 50
"""The most confusions that are listed with images."""
IDS = 4
"""The most images that a confusion lists."""
_SHARE = (0.0, 1.0)


def evaluate_predictions(
    table: pa.Table,
    *,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    by: Sequence[str] = (),
    unknown: tuple[Scores, Scores] | None = None,
    unknown_groups: tuple[Codes, Codes] | None = None,
) -> dict[str, Any]:
    """Judge predictions, with an interval and the number of images for every figure.

    An image without an answer (predicted is null) counts as wrong. Memory: about 3 KB an image and 300 MB.

    Parameters
    ----------
    table
        N rows of `predictions.SCHEMA`, each image once, in any order.
    classes
        Further names that the model knows, to be listed though no image has them.
    seed, resamples
        Of the bootstrap: the same ones give the same figures to the last digit.
    by
        Columns of the table; a table of the accuracy for each of their values is made. Rows without a value are left
        out of it.
    unknown
        Scores of images of known and of unknown classes, the higher the less known: (K,) and (U,).
    unknown_groups
        int64 (K,) and (U,): the group of each of these, or the image itself where an image has several scores, as when
        classes were left out more than once; default: the scores are independent.

    Returns
    -------
    The dict of `metrics.json`; what cannot be computed from the table has no key. Estimates are dicts with estimate,
    low, high, n and interval.

    schema, n
        1, and the number of images.
    groups
        count: how many groups; absent where the images have none.
    metrics
        top1, top3, top5 : share of images whose true name is the first, among the first three, five.
        mean_recall : mean over the true classes of their recall (balanced accuracy).
        macro_f1 : mean of F1 over the classes that are true or predicted somewhere, as in scikit-learn.
        coverage : share of images with an answer.
        log_loss (nats), brier (sum over classes, 0 to 2), ece (`calibration`), ece_uncalibrated.
        coverage_at_90, 95, 99 : `selective`.
        set_coverage, set_size : share of conformal sets that hold the true name; mean number of names.
        unknown_auroc, unknown_fpr95 : `unknown_metrics`.
        lca_height : mean of `metrics.heights` over the images whose true taxon is known.
    classes
        name, n, precision, recall, f1 and intervals ({"recall": [low, high], ...}), by name.
    confusion
        [true, predicted or None, n], right ones and errors.
    top_confusions
        The most frequent errors: true, predicted, n, ids of up to four images, the most confident first.
    ranks
        rank, accuracy: after both names were rolled up, over the images whose true taxon is known there; highest first.
    calibration
        bins and uncalibrated: confidence, accuracy, n.
    risk_coverage
        coverage, risk, threshold.
    by_group
        column, value, n, accuracy; the worst first. The interval of a value with images of one group holds for that
        group, as if its images were independent.

    Raises
    ------
    ConfigError
        The table is empty, lacks a column or has an image twice, or the scores of the unknown are not finite.
    UnknownNameError
        A column of `by` does not exist.
    """
    rows = Judged.of(table)
    right, true, predicted = rows.right, rows.true, rows.predicted
    figures = _Figures(rows, seed, resamples)
    metrics: dict[str, Estimate] = {"top1": figures.mean(right)}
    if rows.table["top"].null_count < len(rows.table):
        place = rows.table["rank_of_true"]
        for k in (3, 5):
            metrics[f"top{k}"] = figures.mean(bools(pc.less_equal(place, k)))
    metrics["mean_recall"] = figures.all.macro(right)
    metrics["macro_f1"] = figures.all.statistic(
        lambda weights: macro_f1(true, predicted, len(rows.names), weights), limits=_SHARE, within_classes=True
    )
    metrics["coverage"] = figures.mean(predicted >= 0)
    told = floats(rows.table["true_probability"])
    if len(known := np.flatnonzero(np.isfinite(told))):
        metrics["log_loss"] = figures.mean(log_losses(told[known]), known)
    brier = floats(rows.table["brier"])
    if len(known := np.flatnonzero(np.isfinite(brier))):
        metrics["brier"] = figures.mean(brier[known], known)
    found: dict[str, Any] = {"schema": SCHEMA_VERSION, "n": len(right)}
    if rows.groups is not None:
        found["groups"] = {"count": len(np.unique(rows.groups))}
    metrics |= _of_confidence(rows, figures)
    metrics |= _of_sets(rows, figures)
    if unknown is not None:
        metrics |= _of_unknown(*unknown, unknown_groups, seed, resamples)
    ranks, height = _of_ranks(rows, figures)
    if height is not None:
        metrics["lca_height"] = height
    found["metrics"] = {name: estimate.as_dict() for name, estimate in metrics.items()}
    found["classes"] = _classes(rows, classes or ())
    found["confusion"], found["top_confusions"] = _confusions(rows)
    if ranks:
        found["ranks"] = ranks
    if rows.sure:
        found["calibration"] = {"bins": _bins(rows.confidence[: rows.sure], right[: rows.sure])}
        if len(known := np.flatnonzero(np.isfinite(rows.uncalibrated))):
            found["calibration"]["uncalibrated"] = _bins(rows.uncalibrated[known], right[known])
        curve = risk_coverage(rows.confidence[: rows.sure], right[: rows.sure], len(right))
        found["risk_coverage"] = [point._asdict() for point in curve]
    if by:
        found["by_group"] = _by_group(rows, by)
    result: dict[str, Any] = tidied(found)
    return result


class _Figures:
    """Means with intervals, of all rows or of some."""

    def __init__(self, rows: Judged, seed: int, resamples: int) -> None:
        self._groups = rows.groups
        self._labels = rows.true
        self._asked = {"seed": seed, "resamples": resamples}
        self.all = Bootstrap(rows.groups, rows.true, seed=seed, resamples=resamples)

    def mean(self, values: NDArray[Any], rows: Codes | None = None) -> Estimate:
        """The mean of values; `rows` says of which rows they are."""
        if rows is None or len(rows) == len(self._labels):
            return self.all.mean(values)
        groups = None if self._groups is None else self._groups[rows]
        return Bootstrap(groups, None, rows=len(rows), **self._asked).mean(values)


def _of_confidence(rows: Judged, figures: _Figures) -> dict[str, Estimate]:
    if not rows.sure:
        return {}
    sure, n = slice(rows.sure), len(rows.right)
    confidence, right = rows.confidence[sure], rows.right[sure]
    bins = equal_mass(confidence)
    before = np.flatnonzero(np.isfinite(rows.uncalibrated))
    bins_before = equal_mass(rows.uncalibrated[before]) if len(before) else None
    names = ["ece", *(f"coverage_at_{percent}" for percent in PERCENTS)]
    sizes = [rows.sure, *[n] * len(PERCENTS)]
    if bins_before is not None:
        names.append("ece_uncalibrated")
        sizes.append(len(before))

    def compute(weights: NDArray[np.float32]) -> NDArray[np.float64]:
        of_sure = weights[:, sure]
        columns = [
            expected_calibration_errors(confidence, right, bins, of_sure)[:, None],
            coverages(confidence, right, of_sure, weights.sum(axis=1, dtype=np.float64)),
        ]
        if bins_before is not None:
            errors = expected_calibration_errors(
                rows.uncalibrated[before], rows.right[before], bins_before, weights[:, before]
            )
            columns.append(errors[:, None])
        return np.hstack(columns)

    estimates = figures.all.statistics(compute, n=sizes, limits=[_SHARE] * len(names))
    return dict(zip(names, estimates, strict=True))


def _of_sets(rows: Judged, figures: _Figures) -> dict[str, Estimate]:
    sets = rows.table["set"].combine_chunks()
    known = np.flatnonzero(bools(pc.is_valid(sets)))
    if not len(known):
        return {}
    holders = pc.list_parent_indices(sets)
    hit = pc.equal(pc.list_flatten(sets), rows.table["true"].combine_chunks().take(holders))
    holds = np.zeros(len(sets), bool)
    holds[holders.filter(hit).to_numpy()] = True
    sizes = pc.list_value_length(sets).take(pa.array(known)).to_numpy().astype(np.float64)
    return {"set_coverage": figures.mean(holds[known], known), "set_size": figures.mean(sizes, known)}


def _of_unknown(
    known: Scores, unknown: Scores, of: tuple[Codes, Codes] | None, seed: int, resamples: int
) -> dict[str, Estimate]:
    if not len(known) or not len(unknown):
        return {}
    if not (np.isfinite(known).all() and np.isfinite(unknown).all()):
        raise ConfigError("The scores of known and unknown images must be finite.")
    ordered = Ordered(known, unknown)
    groups = None if of is None else np.concatenate(of)[ordered.rows]
    if groups is not None and len(np.unique(groups)) == len(groups):
        groups = None
    bootstrap = Bootstrap(groups, None, rows=len(ordered), seed=seed, resamples=resamples)
    area, rate = bootstrap.statistics(
        lambda weights: separations(ordered, weights), n=[len(ordered), len(unknown)], limits=[_SHARE, _SHARE]
    )
    return {"unknown_auroc": area, "unknown_fpr95": rate}


def _of_ranks(rows: Judged, figures: _Figures) -> tuple[list[dict[str, Any]], Estimate | None]:
    present = [rank for rank in RANKS if {TRUE + rank, PREDICTED + rank} <= set(rows.table.column_names)]
    ranks, agreements, anywhere = [], [], np.zeros(len(rows.right), bool)
    for rank in present:
        true = rows.table[TRUE + rank]
        known = bools(pc.is_valid(true))
        agree = bools(pc.equal(true, rows.table[PREDICTED + rank]))
        anywhere |= known
        agreements.append(agree)
        if known.any():
            where = np.flatnonzero(known)
            ranks.append({"rank": rank, "accuracy": figures.mean(agree[where], where).as_dict()})
    where = np.flatnonzero(anywhere)
    if not len(where):
        return [], None
    climbed = heights(np.stack(agreements[::-1], axis=1)[where])
    return ranks, figures.mean(climbed.astype(np.float64), where)


def _classes(rows: Judged, further: Sequence[str]) -> list[dict[str, Any]]:
    counts = count(rows.true, rows.predicted, len(rows.names))
    columns = {"precision": counts.precision(), "recall": counts.recall(), "f1": counts.f1()}
    of_true, of_predicted = (_by_code(codes, len(rows.names)) for codes in (rows.true, rows.predicted))
    found = []
    for code, (name, having, given) in enumerate(zip(rows.names, of_true, of_predicted, strict=True)):
        each: dict[str, Any] = {"name": name, "n": len(having)}
        each |= {key: float(values[code]) for key, values in columns.items() if not np.isnan(values[code])}
        # F1 = 2 J / (1 + J), where J is the share of right ones among the images that have or were given the name.
        either = np.union1d(having, given)
        limits = {
            "precision": _limits(rows, given),
            "recall": _limits(rows, having),
            "f1": [2 * limit / (1 + limit) for limit in _limits(rows, either)],
        }
        each["intervals"] = {key: both for key, both in limits.items() if both}
        found.append(each)
    absent = [{"name": name, "n": 0, "intervals": {}} for name in sorted(set(further) - set(rows.names))]
    return sorted(found + absent, key=lambda each: str(each["name"]))


def _limits(rows: Judged, where: Codes) -> list[float]:
    """The interval of the share of right ones among some rows; empty where there is none."""
    if not len(where):
        return []
    share = share_of_groups(rows.right[where], None if rows.groups is None else rows.groups[where])
    return [] if share.low is None or share.high is None else [share.low, share.high]


def _confusions(rows: Judged) -> tuple[list[list[Any]], list[dict[str, Any]]]:
    width = len(rows.names) + 1
    cells, place, sizes = np.unique(rows.true * width + rows.predicted + 1, return_inverse=True, return_counts=True)
    true, predicted = cells // width, cells % width - 1
    names = [*rows.names, None]  # -1 is the last
    table = [[names[t], names[p], int(n)] for t, p, n in zip(true, predicted, sizes, strict=True)]
    wrong = np.flatnonzero((true != predicted) & (predicted >= 0))
    worst = wrong[np.lexsort((predicted[wrong], true[wrong], -sizes[wrong]))][:CONFUSIONS]
    ids = rows.table["id"]
    top = [
        {
            "true": names[true[cell]],
            "predicted": names[predicted[cell]],
            "n": int(sizes[cell]),
            "ids": ids.take(pa.array(np.flatnonzero(place == cell)[:IDS])).to_pylist(),
        }
        for cell in worst.tolist()
    ]
    return table, top


def _by_group(rows: Judged, by: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for column in dict.fromkeys(by):
        if column not in rows.table.column_names:
            raise unknown_name("column", column, rows.table.column_names)
        values = rows.table[column].cast(pa.string())
        names = sorted(set(values.unique().to_pylist()) - {None})
        codes = pc.fill_null(pc.index_in(values, pa.array(names, pa.string())), -1).to_numpy()
        for name, where in zip(names, _by_code(codes, len(names)), strict=True):
            groups = None if rows.groups is None else rows.groups[where]
            if groups is not None and (groups == groups[0]).all():
                groups = None
            accuracy = share_of_groups(rows.right[where], groups)
            found.append({"column": column, "value": name, "n": len(where), "accuracy": accuracy.as_dict()})
    return sorted(found, key=lambda each: (each["accuracy"]["estimate"], -each["n"], each["column"], each["value"]))


def _by_code(codes: NDArray[np.integer], count: int) -> Iterator[Codes]:
    """The rows of each code from 0 on; those of -1 are left out."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(count + 1))
    return (order[start:end] for start, end in itertools.pairwise(starts.tolist()))


def _bins(confidence: NDArray[np.float64], right: Bools) -> list[dict[str, Any]]:
    return [point._asdict() for point in reliability(confidence, right)]
