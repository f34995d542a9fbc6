"""Two models on the same images: the paired difference of each figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from birder.errors import ConfigError
from birder.evaluation.intervals import Bootstrap, Estimate, mcnemar_exact, paired_difference
from birder.evaluation.judged import Floats, Judged, bools, floats, tidied
from birder.evaluation.metrics import count, log_losses, macro_f1


def compare(first: pa.Table, second: pa.Table, *, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """Compare two models on the images that both judged.

    Parameters
    ----------
    first, second
        Tables of `predictions.SCHEMA`; rows of the same image have the same id. Groups are those of the first.
    seed, resamples
        Of the bootstrap: the same ones give the same figures to the last digit.

    Returns
    -------
    n
        How many images were compared; what follows is of these alone.
    only_in_first, only_in_second, labels_differ
        How many images were left out: judged by one model alone, or labelled differently in the two tables.
    both_right, only_first_right, only_second_right, neither_right
        How many images.
    mcnemar_p
        McNemar's exact test of whether both are right equally often. It takes the images as independent, so where
        there are groups the interval of the difference is to be trusted instead.
    first, second
        The figures of each model: top1, top3, top5, mean_recall, macro_f1, log_loss, brier, where both have them.
    difference
        First - second, with the interval of a paired bootstrap: estimate, low, high, n and interval.
    classes
        One for each class, sorted by name: name, n (its images), first and second (the recall of each model),
        only_first_right and only_second_right, and difference as above.

    Raises
    ------
    ConfigError
        A table is not one of predictions, or no image is in both with the same label.
    """
    one, other = _matched(first, second)
    labels_differ = bools(pc.not_equal(one["true"], other["true"]))
    same = pa.array(~labels_differ)
    found: dict[str, Any] = {
        "n": len(one) - int(labels_differ.sum()),
        "only_in_first": len(first) - len(one),
        "only_in_second": len(second) - len(one),
        "labels_differ": int(labels_differ.sum()),
    }
    if not found["n"]:
        raise ConfigError("No image was judged by both models and has the same label in both collections.")
    one, other = one.filter(same), other.filter(same)
    a, b = (Judged.of(table, by_confidence=False) for table in (one, other))  # row i is the same image in both
    found |= {
        "both_right": int((a.right & b.right).sum()),
        "only_first_right": int((a.right & ~b.right).sum()),
        "only_second_right": int((b.right & ~a.right).sum()),
        "neither_right": int((~a.right & ~b.right).sum()),
        "mcnemar_p": mcnemar_exact(a.right, b.right),
    }
    differences: dict[str, Estimate] = {}
    figures: dict[str, tuple[float, float]] = {}
    values_a, values_b = _values(a), _values(b)
    for name in [name for name in values_a if name in values_b]:
        differences[name] = paired_difference(values_a[name], values_b[name], a.groups, seed=seed, resamples=resamples)
        figures[name] = float(values_a[name].mean()), float(values_b[name].mean())
    bootstrap = Bootstrap(a.groups, a.true, seed=seed, resamples=resamples)

    def macro(weights: NDArray[np.float32]) -> Floats:
        return _macro(a, weights) - _macro(b, weights)

    once = np.ones((1, found["n"]), np.float32)
    estimates = bootstrap.statistics(macro, limits=[(-1, 1)] * 2, within_classes=True)
    for i, (name, estimate) in enumerate(zip(("mean_recall", "macro_f1"), estimates, strict=True)):
        differences[name] = estimate
        figures[name] = float(_macro(a, once)[0, i]), float(_macro(b, once)[0, i])
    found["first"] = {name: values[0] for name, values in figures.items()}
    found["second"] = {name: values[1] for name, values in figures.items()}
    found["difference"] = {name: estimate.as_dict() for name, estimate in differences.items()}
    found["classes"] = [_class(a, b, code, seed, resamples) for code in np.unique(a.true).tolist()]
    result: dict[str, Any] = tidied(found)
    return result


def _matched(first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of the images that are in both, in the order of their ids."""
    ids = [table["id"].combine_chunks() for table in (first, second)]
    one = first.filter(pc.is_in(ids[0], value_set=ids[1])).sort_by("id")
    other = second.filter(pc.is_in(ids[1], value_set=ids[0])).sort_by("id")
    if len(one) != len(other):
        raise ConfigError("A table of predictions has more than one row for an image. Keep one of them.")
    return one, other


def _values(rows: Judged) -> dict[str, Floats]:
    """What each image adds to the means; only figures that are known of all images."""
    found: dict[str, Floats] = {"top1": rows.right.astype(np.float64)}
    if rows.table["top"].null_count < len(rows.table):
        for k in (3, 5):
            found[f"top{k}"] = bools(pc.less_equal(rows.table["rank_of_true"], k)).astype(np.float64)
    told, brier = floats(rows.table["true_probability"]), floats(rows.table["brier"])
    if np.isfinite(told).all():
        found["log_loss"] = log_losses(told)
    if np.isfinite(brier).all():
        found["brier"] = brier
    return found


def _class(a: Judged, b: Judged, code: int, seed: int, resamples: int) -> dict[str, Any]:
    """How often either model is right about the images of one class."""
    of = a.true == code
    first, second = a.right[of], b.right[of]
    groups = None if a.groups is None else a.groups[of]
    difference = paired_difference(first, second, groups, seed=seed, resamples=resamples)
    return {
        "name": a.names[code],
        "n": int(of.sum()),
        "first": float(first.mean()),
        "second": float(second.mean()),
        "only_first_right": int((first & ~second).sum()),
        "only_second_right": int((second & ~first).sum()),
        "difference": difference.as_dict(),
    }


def _macro(rows: Judged, weights: NDArray[np.float32]) -> Floats:
    """Mean recall and macro F1 of each resample, (R, 2)."""
    classes = len(rows.names)
    f1 = macro_f1(rows.true, rows.predicted, classes, weights)
    recall = [np.nanmean(count(rows.true, rows.predicted, classes, row).recall()) for row in weights]
    return np.stack([recall, f1], axis=1)
