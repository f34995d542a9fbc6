"""Average precision against pycocotools, and what the intervals and the mistakes are counted from."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from birder.errors import ConfigError
from birder.evaluation.detection import (
    FoundBoxes,
    TrueBoxes,
    as_coco,
    average_precision,
    best_score,
    judge_detections,
    match,
    mistakes,
)

CLASSES = ("fox", "owl", "hare")


def made(seed: int) -> tuple[list[TrueBoxes], list[FoundBoxes]]:
    """Images with boxes of all sizes, some ignored, and detections near them, doubled, or anywhere."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(12):
        count = int(random.integers(0, 5))
        corner, side = random.uniform(0, 300, (count, 2)), random.uniform(6, 220, (count, 2))
        boxes = np.concatenate([corner, corner + side], 1).astype(np.float32)
        classes = random.integers(0, 2, count)  # there is no hare
        truth.append(TrueBoxes(boxes, classes, random.random(count) < 0.2))
        near = np.repeat(boxes, 2, axis=0) + random.normal(0, 8, (2 * count, 4)) * (random.random((2 * count, 1)) < 0.7)
        anywhere = np.sort(random.uniform(0, 400, (3, 2, 2)), axis=1).reshape(3, 4)
        every = np.concatenate([near, anywhere]).astype(np.float32)
        every = every[(every[:, 2:] > every[:, :2]).all(1)]
        scores = random.permutation(np.linspace(0.05, 0.95, len(every)))
        found.append(FoundBoxes(every, random.integers(0, 3, len(every)), scores))
    return truth, found


def theirs(truth: list[TrueBoxes], found: list[FoundBoxes]) -> Any:
    data, results = as_coco(truth, found, CLASSES)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = data
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(2))
def test_figures_are_those_of_pycocotools(seed: int) -> None:
    truth, found = made(seed)
    evaluation = theirs(truth, found)
    judged = judge_detections(truth, found, CLASSES)
    metrics = judged["metrics"]
    for name, expected in zip(("AP", "AP50", "AP75"), evaluation.stats, strict=False):
        assert metrics[name]["estimate"] == pytest.approx(expected, abs=1e-6)
        assert 0 <= metrics[name]["low"] <= expected <= metrics[name]["high"] <= 1
    sizes = [metrics[name] for name in ("AP_small", "AP_medium", "AP_large")]
    assert [-1 if each is None else each for each in sizes] == pytest.approx(list(evaluation.stats[3:6]), abs=1e-6)
    # What the bootstrap resamples is the same figure, overlap by overlap and class by class.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    for class_ in range(2):
        ours = average_precision(match(truth, found, class_), np.ones((1, len(truth)), np.float32))[0]
        assert ours == pytest.approx(precision[:, :, class_].mean(1), abs=1e-6)
        assert judged["classes"][class_]["AP50"] == pytest.approx(precision[0, :, class_].mean(), abs=1e-6)
    assert (judged["classes"][2]["n"], judged["classes"][2]["AP"], judged["classes"][2]["curve"]) == (0, None, None)


def test_weights_stand_for_repeated_images() -> None:
    truth, found = made(7)
    weights = np.random.default_rng(0).integers(0, 3, (4, len(truth)))
    weighed = average_precision(match(truth, found, 0), weights.astype(np.float32))
    for row, figures in zip(weights, weighed, strict=True):
        chosen = np.repeat(np.arange(len(truth)), row)
        again = match([truth[i] for i in chosen], [found[i] for i in chosen], 0)
        # Of equal scores COCO counts one after the other, weights count them together: let no two be equal.
        repeated = average_precision(again, np.ones((1, len(chosen)), np.float32))[0]
        assert figures == pytest.approx(repeated, abs=0.05)


def test_nothing_found_and_nothing_there() -> None:
    truth, found = made(1)
    nothing = [FoundBoxes(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0)) for _ in truth]
    judged = judge_detections(truth, nothing, CLASSES)
    assert judged["metrics"]["AP50"]["estimate"] == 0
    assert judged["best_score"] is None
    empty = [TrueBoxes(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0, np.bool_)) for _ in truth]
    with pytest.raises(ConfigError, match="no boxes to judge"):
        judge_detections(empty, found, CLASSES)


def test_mistakes_are_what_is_missed_and_what_is_found_where_nothing_is() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]], np.float32)
    truth = TrueBoxes(boxes, np.array([0, 0, 1]), np.array([False, False, True]))
    said = np.array([[0, 0, 10, 9], [0, 0, 9, 10], [21, 20, 40, 40], [50, 50, 60, 60]], np.float32)
    found = FoundBoxes(said, np.array([0, 0, 1, 1]), np.array([0.9, 0.8, 0.7, 0.6]))
    missed, false = mistakes(truth, found, 0.5)
    assert missed.tolist() == [1]  # of the other class; and an ignored box is never missed
    assert sorted(false.tolist()) == [1, 2]  # a second one on the same box; the other class. On an ignored box: neither
    assert mistakes(truth, found, 0.95).missed.tolist() == [0, 1]
    best = best_score([match([truth], [found], class_) for class_ in range(2)])
    assert best == {"score": 0.9, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}
