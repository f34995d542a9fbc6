"""How good a detector's boxes are: COCO's average precision (Lin et al., arXiv 1405.0312), by faster-coco-eval.

AP is the mean over the classes of the area under the curve of precision against recall, at ten overlaps (intersections
over union from 0.5 to 0.95) and their mean. The intervals come from a bootstrap over the images.

N is the number of images, D of an image's detections, R of resamples.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError
from birder.evaluation.intervals import Bootstrap, Weights
from birder.extras import need

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100
"""Detections of a class on an image that count, the highest-scored ones."""
_SIZES = ("small", "medium", "large")
_STATS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")

Floats = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]


class TrueBoxes(NamedTuple):
    """What is on an image: `boxes` (M, 4), left, top, right, bottom in pixels; `classes` (M,); `ignored` (M,).

    An ignored box counts neither as missed nor, where a detection meets it, as a false alarm.
    """

    boxes: Floats
    classes: Codes
    ignored: Flags


class FoundBoxes(NamedTuple):
    """What a detector found on it: `boxes` (D, 4), `classes` (D,) and `scores` (D,)."""

    boxes: Floats
    classes: Codes
    scores: Floats


class Matches(NamedTuple):
    """What became of the detections of one class at each of T overlaps, highest score first, of all images.

    `scores` (D,), `image` (D,), `right` (D, T), `aside` (D, T): meets an ignored box; `there` (N,): boxes an image.
    """

    scores: Floats
    image: Codes
    right: Flags
    aside: Flags
    there: Codes


def judge_detections(
    truth: Sequence[TrueBoxes],
    found: Sequence[FoundBoxes],
    classes: Sequence[str],
    *,
    seed: int = 0,
    intervals: bool = True,
) -> dict[str, Any]:
    """Average precision with intervals, class by class and by size, and the curves of precision against recall.

    Parameters
    ----------
    truth, found
        Of each image.
    classes
        Names of the classes that are counted from 0.
    seed
        Of the bootstrap.
    intervals
        Whether to compute them, which takes most of the time.

    Returns
    -------
    `metrics`: AP, AP50, AP75 (`Estimate.as_dict`) and AP_small, AP_medium, AP_large (boxes of less than 32 x 32 pixels,
    less than 96 x 96, and more; None where there are none); `classes`: for each its name, n, AP, AP50 and curve, the
    precision at each recall of 0, 0.01, ... 1; `best_score`, see there; `images` and `boxes`, how many.

    Raises
    ------
    ConfigError
        There is no box to judge.
    MissingExtraError
        faster-coco-eval is not installed.
    """
    if not any((~each.ignored).any() for each in truth):
        raise ConfigError("There are no boxes to judge.")
    stats, precision = _coco(truth, found, classes)
    matches = [match(truth, found, class_) for class_ in range(len(classes))]
    judged = [each for each in matches if each.there.sum()]

    def figures(weights: Weights) -> Floats:
        by_overlap = np.nanmean([average_precision(each, weights) for each in judged], axis=0)
        return np.stack([by_overlap.mean(1), by_overlap[:, 0], by_overlap[:, 5]], axis=1)

    metrics: dict[str, Any] = {}
    if intervals:
        estimates = Bootstrap(None, None, rows=len(truth), seed=seed).statistics(figures, limits=[(0.0, 1.0)] * 3)
        metrics = {name: each.as_dict() for name, each in zip(_STATS[:3], estimates, strict=True)}
    for name in _STATS[:3]:
        metrics[name] = metrics.get(name, {}) | {"estimate": stats[name]}
    metrics |= {name: stats[name] if stats[name] >= 0 else None for name in _STATS[3:]}
    by_class = []
    for class_, name in enumerate(classes):
        curves = precision[:, :, class_]
        there = bool(matches[class_].there.sum())
        by_class.append(
            {
                "name": name,
                "n": int(matches[class_].there.sum()),
                "AP": float(curves.mean()) if there else None,
                "AP50": float(curves[0].mean()) if there else None,
                "curve": [round(float(each), 4) for each in curves[0]] if there else None,
            }
        )
    boxes = sum(int((~each.ignored).sum()) for each in truth)
    return {
        "metrics": metrics,
        "classes": by_class,
        "best_score": best_score(matches),
        "images": len(truth),
        "boxes": boxes,
    }


def _coco(
    truth: Sequence[TrueBoxes], found: Sequence[FoundBoxes], classes: Sequence[str]
) -> tuple[dict[str, float], Floats]:
    """COCO's figures, -1 where there is nothing to judge, and precision (overlap, recall, class)."""
    need("detector", "Judging a detector")
    from faster_coco_eval import COCO, COCOeval_faster

    data, results = as_coco(truth, found, classes)
    with contextlib.redirect_stdout(io.StringIO()):
        there = COCO(data)
        evaluation = COCOeval_faster(
            there, there.loadRes(results) if results else COCO({**data, "annotations": []}), "bbox"
        )
        evaluation.run()
    stats = dict(zip(_STATS, map(float, evaluation.stats[:6]), strict=True))
    return stats, np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]


def as_coco(
    truth: Sequence[TrueBoxes], found: Sequence[FoundBoxes], classes: Sequence[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Boxes as a COCO data set, and detections as COCO's results; ids are counted from 1."""
    annotations = [
        {
            "id": 0,
            "image_id": number,
            "category_id": int(class_) + 1,
            "bbox": _bbox(box),
            "area": float((box[2] - box[0]) * (box[3] - box[1])),
            "iscrowd": int(ignored),
        }
        for number, each in enumerate(truth, 1)
        for box, class_, ignored in zip(each.boxes, each.classes, each.ignored, strict=True)
    ]
    for id_, annotation in enumerate(annotations, 1):
        annotation["id"] = id_
    results = [
        {"image_id": number, "category_id": int(class_) + 1, "bbox": _bbox(box), "score": float(score)}
        for number, each in enumerate(found, 1)
        for box, class_, score in zip(each.boxes, each.classes, each.scores, strict=True)
    ]
    data = {
        "info": {},
        "images": [{"id": number} for number in range(1, len(truth) + 1)],
        "annotations": annotations,
        "categories": [{"id": place, "name": name} for place, name in enumerate(classes, 1)],
    }
    return data, results


def _bbox(box: Floats) -> list[float]:
    left, top, right, bottom = (float(each) for each in box)
    return [left, top, right - left, bottom - top]


def match(truth: Sequence[TrueBoxes], found: Sequence[FoundBoxes], class_: int) -> Matches:
    """Match the detections of a class with its boxes as COCO does: the highest score first, each box once."""
    parts = []
    for image, (true, each) in enumerate(zip(truth, found, strict=True)):
        of_class = each.classes == class_
        order = np.argsort(-each.scores[of_class], kind="stable")[:MOST]
        boxes, scores = each.boxes[of_class][order], each.scores[of_class][order]
        mine = true.classes == class_
        met, aside = _matched(boxes, true.boxes[mine], true.ignored[mine])
        parts.append((scores, np.full(len(scores), image), met >= 0, aside, int((mine & ~true.ignored).sum())))
    scores = np.concatenate([each[0] for each in parts])
    order = np.argsort(-scores, kind="stable")
    places = np.concatenate([each[1] for each in parts])[order]
    right, aside = (np.concatenate([each[i] for each in parts])[order] for i in (2, 3))
    return Matches(scores[order], places, right, aside, np.array([each[4] for each in parts]))


def _matched(boxes: Floats, true: Floats, ignored: Flags) -> tuple[Codes, Flags]:
    """Which box (M, 4) each detection (D, 4) meets, or -1, and whether it meets an ignored one, by overlap: (D, T)."""
    met = np.full((len(boxes), len(OVERLAPS)), -1, np.int64)
    aside = np.zeros(met.shape, np.bool_)
    shares = overlaps(boxes, true, ignored)
    for t, least in enumerate(OVERLAPS):
        free = ~ignored
        for d, row in enumerate(shares):
            candidates = np.flatnonzero(free & (row >= least - 1e-10))
            if len(candidates):
                best = row[candidates].max()
                met[d, t] = candidates[row[candidates] == best][-1]
                free[met[d, t]] = False
            else:
                aside[d, t] = bool((row[ignored] >= least - 1e-10).any())
    return met, aside


class Mistakes(NamedTuple):
    """What is wrong on an image: boxes that were `missed` and detections that are `false`, by their numbers."""

    missed: Codes
    false: Codes


def mistakes(truth: TrueBoxes, found: FoundBoxes, least: float) -> Mistakes:
    """The mistakes on an image, at an overlap of 0.5, of detections that score at least `least`."""
    missed, false = [], []
    for class_ in np.unique(np.concatenate([truth.classes, found.classes])):
        mine = np.flatnonzero(truth.classes == class_)
        said = np.flatnonzero((found.classes == class_) & (found.scores >= least))
        said = said[np.argsort(-found.scores[said], kind="stable")]
        met, aside = _matched(found.boxes[said], truth.boxes[mine], truth.ignored[mine])
        missed.append(mine[~truth.ignored[mine] & ~np.isin(np.arange(len(mine)), met[:, 0])])
        false.append(said[(met[:, 0] < 0) & ~aside[:, 0]])
    none = [np.empty(0, np.int64)]
    return Mistakes(np.concatenate(missed or none), np.concatenate(false or none))


def best_score(matches: Sequence[Matches]) -> dict[str, float] | None:
    """The score from which detections are best believed: of the largest F1, at an overlap of 0.5, all classes together.

    Returns
    -------
    `score`, and the `precision`, `recall` and `f1` of detections that score as much; None if nothing is right.
    """
    scores = np.concatenate([each.scores for each in matches])
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(np.concatenate([each.right[:, 0] for each in matches])[order])
    wrong = np.cumsum(np.concatenate([~(each.right | each.aside)[:, 0] for each in matches])[order])
    if not len(right) or not right[-1]:
        return None
    there = sum(int(each.there.sum()) for each in matches)
    f1 = 2 * right / (right + wrong + there)
    best = int(f1.argmax())
    return {
        "score": float(scores[order][best]),
        "precision": float(right[best] / (right[best] + wrong[best])),
        "recall": float(right[best] / there),
        "f1": float(f1[best]),
    }


def overlaps(boxes: Floats, true: Floats, ignored: Flags) -> Floats:
    """Intersection over union (D, M); with an ignored box, intersection over the detection's own area."""
    boxes, true = np.asarray(boxes, np.float64), np.asarray(true, np.float64)
    sides = np.minimum(boxes[:, None, 2:], true[None, :, 2:]) - np.maximum(boxes[:, None, :2], true[None, :, :2])
    shared = sides.clip(0).prod(-1)
    own, theirs = ((each[:, 2:] - each[:, :2]).prod(-1) for each in (boxes, true))
    whole = own[:, None] + np.where(ignored, 0.0, theirs - shared)
    shares: Floats = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return shares


def average_precision(matches: Matches, weights: Weights) -> Floats:
    """Average precision of a class at each overlap, (R, T), where images weigh (R, N); NaN where none has a box."""
    there = weights @ matches.there.astype(np.float32)
    result = np.full((len(weights), len(OVERLAPS)), np.nan)
    wrong = ~(matches.right | matches.aside)
    for r in np.flatnonzero(there > 0):
        own = weights[r, matches.image].astype(np.float64)[:, None]
        hits = np.cumsum(own * matches.right, axis=0)
        said = hits + np.cumsum(own * wrong, axis=0)
        precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
        # At each recall the best precision that any larger recall has, and none beyond the largest.
        best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        best = np.concatenate([best, np.zeros((1, len(OVERLAPS)))])
        for t in range(len(OVERLAPS)):
            result[r, t] = best[np.searchsorted(hits[:, t] / there[r], RECALLS - 1e-12), t].mean()
    return result
