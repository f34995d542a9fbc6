"""Evaluations with their predictions, for tests of reports: images of a folder with made-up names and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

NASTY = "</script><script>alert('x')</script>&\"{{style}}"
RIGHT_TO_LEFT = "نسر ذهبي"


def estimate(values: Any, interval: str = "bootstrap over groups") -> dict[str, Any]:
    """The mean of values with twice its standard error."""
    values = np.asarray(values, float)
    mean, error = float(values.mean()), float(2.4 * values.std() / np.sqrt(len(values)))
    return {
        "estimate": mean,
        "low": max(mean - error, 0.0),
        "high": mean + error if mean > 1 else min(mean + error, 1.0),
        "n": len(values),
        "interval": interval,
    }


def made(files: Sequence[tuple[str, Path]], *, each: int = 6, seed: int = 0) -> tuple[dict[str, Any], pa.Table]:
    """The evaluation and predictions of (class, file) pairs; each file stands for `each` images."""
    random = np.random.default_rng(seed)
    rows = [pair for pair in files for _ in range(each)]
    classes = sorted({name for name, _ in rows})
    true = np.array([classes.index(name) for name, _ in rows])
    logits = random.normal(size=(len(rows), len(classes)))
    logits[np.arange(len(rows)), true] += 3.2 - 0.4 * (true % 4)
    logits[np.arange(len(rows)), (true + 1) % len(classes)] += 1.4
    probabilities = np.exp(1.5 * logits)
    probabilities /= probabilities.sum(1, keepdims=True)
    order = np.argsort(-probabilities, 1)
    predicted = order[:, 0]
    right = predicted == true
    sure = probabilities.max(1)
    sets = [[classes[c] for c in o[: 1 + int(p < 0.8) + int(p < 0.5)]] for o, p in zip(order, sure, strict=True)]
    table = pa.table(
        {
            "id": [f"id-{i:05}" for i in range(len(rows))],
            "uri": [file.as_uri() for _, file in rows],
            "group": [f"group {i // each}" for i in range(len(rows))],
            "fold": pa.array([i % 5 for i in range(len(rows))], pa.int32()),
            "true": [classes[c] for c in true],
            "predicted": [classes[c] for c in predicted],
            "probability": pa.array(sure, pa.float32()),
            "set": sets,
        }
    )
    return _evaluation(table, classes, right, sure, random), table


def _evaluation(
    table: pa.Table, classes: Sequence[str], right: Any, sure: Any, random: np.random.Generator
) -> dict[str, Any]:
    pairs = list(zip(table["true"].to_pylist(), table["predicted"].to_pylist(), strict=True))
    ids = table["id"].to_pylist()
    counts = Counter(pairs)
    wrong = [(pair, n) for pair, n in counts.most_common() if pair[0] != pair[1]][:20]
    order = np.argsort(-sure)
    risk = 1 - np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    bins = [np.sort(part) for part in np.array_split(np.argsort(sure), 15)]
    reliability = [{"confidence": float(sure[b].mean()), "accuracy": float(right[b].mean()), "n": len(b)} for b in bins]
    raw = [each | {"confidence": min(1.0, each["confidence"] * 0.6 + 0.4)} for each in reliability]
    per_class = [_class(name, pairs) for name in classes]
    hits = right.astype(float)
    return {
        "schema": 1,
        "n": len(pairs),
        "classes": per_class,
        "groups": {
            "kind": "deployment",
            "count": 37,
            "how": ["Images of one deployment are always on the same side of a split: 37 groups."],
        },
        "metrics": {
            "top1": estimate(hits),
            "top3": estimate(np.minimum(hits + (random.random(len(hits)) < 0.6), 1)),
            "mean_recall": estimate([each["recall"] for each in per_class]),
            "macro_f1": estimate([each["f1"] for each in per_class]),
            "log_loss": estimate(1.4 - sure),
            "brier": estimate((1 - sure) ** 2),
            "ece": estimate(np.abs(sure - right) * 0.1),
            "ece_uncalibrated": estimate(np.abs(sure - right) * 0.4),
            "coverage_at_90": estimate(random.random(len(hits)) < 0.74),
            "coverage_at_95": estimate(random.random(len(hits)) < 0.51),
            "coverage_at_99": estimate(random.random(len(hits)) < 0.22),
            "set_coverage": estimate(random.random(len(hits)) < 0.9),
            "set_size": estimate([len(each) for each in table["set"].to_pylist()]),
            "unknown_auroc": estimate(random.random(len(hits)) < 0.88),
            "unknown_fpr95": estimate(random.random(len(hits)) < 0.41),
            "lca_height": estimate(2.0 * (1 - hits)),
        },
        "confusion": sorted([true, predicted, n] for (true, predicted), n in counts.items()),
        "top_confusions": [
            {
                "true": pair[0],
                "predicted": pair[1],
                "n": n,
                "ids": [id_ for id_, each in zip(ids, pairs, strict=True) if each == pair][:4],
            }
            for pair, n in wrong
        ],
        "ranks": [
            {"rank": rank, "accuracy": estimate(random.random(300) < share)}
            for rank, share in (("class", 0.97), ("order", 0.93), ("family", 0.88), ("species", 0.71))
        ],
        "calibration": {"bins": reliability, "uncalibrated": raw},
        "risk_coverage": [
            {"coverage": (i + 1) / len(order), "risk": float(risk[i]), "threshold": float(sure[order[i]])}
            for i in range(9, len(order), max(1, len(order) // 200))
        ],
        "by_group": [
            {"column": "night", "value": "yes", "n": 212, "accuracy": estimate(random.random(212) < 0.63)},
            {"column": "deployment", "value": "ridge 4", "n": 41, "accuracy": estimate(random.random(41) < 0.7)},
            {"column": "night", "value": "no", "n": 562, "accuracy": estimate(random.random(562) < 0.86)},
        ],
        "doubtful": [
            {"id": ids[i], "uri": table["uri"][i].as_py(), "label": pairs[i][0], "suggested": pairs[i][1], "score": 0.1}
            for i in np.flatnonzero(~right)[:50].tolist()
        ],
    } | _asked()


def _class(name: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    n, named = sum(true == name for true, _ in pairs), sum(predicted == name for _, predicted in pairs)
    right = pairs.count((name, name))
    recall, precision = right / n, right / named if named else 0.0
    return {
        "name": name,
        "n": n,
        "precision": precision,
        "recall": recall,
        "f1": 2 * recall * precision / ((recall + precision) or 1.0),
    }


def _asked() -> dict[str, Any]:
    return {
        "asked": {
            "collection": "photos.birder",
            "column": "species",
            "classifier": "owls.safetensors",
            "where": "latitude > 50",
            "command": "birder evaluate photos.birder --column species --model owls.safetensors --to report",
        },
        "notes": [
            "12 rows were left out: the classifier was trained on the same image or a near-duplicate of it.",
            "2 classes are in one group only and cannot be judged: barn owl, snipe.",
        ],
        "unknown": {"threshold": 0.412, "how": "A random fifth of the classes was left out, five times."},
        "model": {"name": "efficientnet_lite0_in1k", "sha256": "ab" * 32},
        "transform": {"size": [224, 224], "mean": [0.5, 0.5, 0.5]},
        "engine": "torch",
        "seeds": {"split": 0, "bootstrap": 0},
        "versions": {"birder": "1.0", "numpy": "2.1", "scikit-learn": "1.9"},
        "protocols": {
            "knn": {
                "metrics": {"accuracy": estimate([1, 0, 1, 1, 1] * 40)},
                "how": "Each image is named by its 20 nearest.",
            },
            "retrieval": {"metrics": {"map": estimate([0.4, 0.6, 0.5] * 60), "r@1": estimate([1, 0] * 90)}, "how": ""},
        },
        "comparison": {
            "names": ["efficientnet_lite0_in1k", "bioclip2"],
            "how": "The names in predicted_species of either collection.",
            "first": {"top1": 0.752, "log_loss": 0.91},
            "second": {"top1": 0.793, "log_loss": 0.83},
            "difference": {
                "top1": {
                    "estimate": -0.041,
                    "low": -0.072,
                    "high": -0.012,
                    "n": 600,
                    "interval": "bootstrap over groups",
                },
                "log_loss": {
                    "estimate": 0.08,
                    "low": -0.01,
                    "high": 0.17,
                    "n": 600,
                    "interval": "bootstrap over groups",
                },
            },
            "mcnemar_p": 0.0041,
            "n": 600,
            "both_right": 420,
            "only_first_right": 31,
            "only_second_right": 55,
            "neither_right": 94,
        },
    }


def without(evaluation: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The evaluation without some of its keys."""
    return {key: value for key, value in evaluation.items() if key not in keys}
