"""torchmetrics finds the same figures in the same predictions."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from birder.evaluation.calibration import expected_calibration_errors
from birder.evaluation.evaluate import evaluate_predictions
from birder.evaluation.predictions import predictions_table
from tests.peers.comparing import THEIR_PYTHON

THEIRS = Path(__file__).with_name("torchmetrics_theirs.py")
N, C = 2000, 20


@pytest.fixture(scope="module")
def inputs() -> dict[str, npt.NDArray[Any]]:
    random = np.random.default_rng(0)
    true = np.minimum(random.geometric(0.15, N), C - 2) - 1  # a long tail; of the last two classes there is no image
    logits = random.normal(size=(N, C)) + 2 * (np.arange(C) == true[:, None])
    logits[:, -1] = -20  # this one is never predicted either
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return {
        "probabilities": probabilities.astype(np.float32),
        "true": true,
        "known": random.normal(size=500).astype(np.float32).round(1),
        "unknown": (random.normal(size=200) + 1).astype(np.float32).round(1),
    }


@pytest.fixture(scope="module")
def theirs(inputs: dict[str, npt.NDArray[Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("torchmetrics")
    job = {"inputs": str(folder / "inputs.npz"), "outputs": str(folder / "outputs.npz")}
    np.savez(job["inputs"], **inputs)  # type: ignore[arg-type]
    done = subprocess.run(
        [THEIR_PYTHON, THEIRS], input=json.dumps(job), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(job["outputs"]))


@pytest.fixture(scope="module")
def ours(inputs: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    names = [f"{i:02}" for i in range(C)]
    ids = [f"{i:04}" for i in range(N)]
    true = [names[code] for code in inputs["true"]]
    table = predictions_table(ids, ids, None, None, true, inputs["probabilities"], names)
    return evaluate_predictions(table, classes=names, unknown=(inputs["known"], inputs["unknown"]), resamples=20)


def test_shares_are_the_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name in ("top1", "top3", "top5"):
        assert ours["metrics"][name]["estimate"] == pytest.approx(float(theirs[name]), abs=1e-6)
    assert ours["metrics"]["unknown_auroc"]["estimate"] == pytest.approx(float(theirs["auroc"]), abs=1e-6)


def test_each_class_and_the_means_over_classes_are_the_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for key in ("recall", "precision", "f1"):
        mine = [each.get(key, 0.0) for each in ours["classes"]]  # what is not defined is 0 with them
        assert mine == pytest.approx(theirs[f"{key}_none"].tolist(), abs=1e-6)
    # Both leave out of macro F1 the class that is nowhere, but recall is theirs over all that are true or predicted.
    assert ours["metrics"]["macro_f1"]["estimate"] == pytest.approx(float(theirs["f1_macro"]), abs=1e-6)
    of_true = theirs["recall_none"][[each["n"] > 0 for each in ours["classes"]]]
    assert ours["metrics"]["mean_recall"]["estimate"] == pytest.approx(of_true.mean(), abs=1e-6)


def test_confusions_are_the_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    matrix = np.zeros((C, C), np.int64)
    for true, predicted, n in ours["confusion"]:
        matrix[int(true), int(predicted)] = n
    assert matrix.tolist() == theirs["confusion"].tolist()


def test_calibration_error_is_the_same_in_the_same_bins(
    inputs: dict[str, npt.NDArray[Any]], theirs: dict[str, Any]
) -> None:
    # Theirs are of equal width, ours of equal mass: the sum over given bins is what can be compared.
    confidence = inputs["probabilities"].max(axis=1)
    right = inputs["probabilities"].argmax(axis=1) == inputs["true"]
    _, bins = np.unique(np.ceil(confidence * 15), return_inverse=True)
    error = expected_calibration_errors(confidence, right, bins, np.ones((1, N)))
    assert error[0] == pytest.approx(float(theirs["ece_15"]), abs=1e-6)
