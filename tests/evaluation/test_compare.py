"""Two models on the same images."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest

from birder.errors import ConfigError
from birder.evaluation.compare import compare
from birder.evaluation.evaluate import evaluate_predictions
from birder.evaluation.predictions import from_columns, predictions_table

CLASSES = [f"class {i}" for i in range(6)]
SHARED = {"top1", "top3", "top5", "mean_recall", "macro_f1", "log_loss", "brier"}


def made(skill: float, *, n: int = 200, seed: int = 0, groups: bool = True) -> pa.Table:
    codes = np.random.default_rng(0).integers(0, 6, n)
    logits = np.random.default_rng(seed).normal(size=(n, 6)) + skill * (np.arange(6) == codes[:, None])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = [f"{i:04}" for i in range(n)]
    of = [f"{i // 4}" for i in range(n)] if groups else None
    return predictions_table(ids, ids, of, None, [CLASSES[i] for i in codes], probabilities.astype(np.float32), CLASSES)


@pytest.mark.parametrize("groups", [True, False])
def test_the_better_model_is_better_by_the_difference_of_its_figures(groups: bool) -> None:
    first, second = made(3, seed=1, groups=groups), made(1, seed=2, groups=groups)
    found = compare(first, second, resamples=200)
    alone = [evaluate_predictions(table, resamples=20)["metrics"] for table in (first, second)]
    assert set(found["difference"]) == set(found["first"]) == set(found["second"]) == SHARED
    for name, figure in found["difference"].items():
        one, other = (each[name]["estimate"] for each in alone)
        assert found["first"][name] == pytest.approx(one, abs=1e-7)
        assert found["second"][name] == pytest.approx(other, abs=1e-7)
        assert figure["estimate"] == pytest.approx(one - other, abs=1e-7)
        assert figure["low"] <= figure["estimate"] <= figure["high"]
        assert (figure["high"] < 0) if name in ("log_loss", "brier") else (figure["low"] > 0)
    assert found["n"] == 200 == sum(found[key] for key in found if key.endswith(("right",)))
    only = found["only_first_right"], found["only_second_right"]
    assert found["mcnemar_p"] == pytest.approx(binomtest(only[0], sum(only)).pvalue, abs=1e-9)
    assert found["mcnemar_p"] < 0.001


def test_a_model_does_not_differ_from_itself() -> None:
    table = made(1)
    found = compare(table, table.take(np.random.default_rng(0).permutation(len(table))), resamples=50)
    assert found["mcnemar_p"] == 1 and found["only_first_right"] == found["only_second_right"] == 0
    for figure in found["difference"].values():
        assert figure["estimate"] == 0 and figure["low"] <= 0 <= figure["high"]


def test_pairing_is_tighter_than_two_intervals() -> None:
    table = made(2, n=400, groups=False)
    other = table.set_column(5, "predicted", pa.array(["class 0", *table["predicted"].to_pylist()[1:]]))
    found = compare(table, other, resamples=100)["difference"]["top1"]
    alone = evaluate_predictions(table, resamples=20)["metrics"]["top1"]
    assert found["high"] - found["low"] < (alone["high"] - alone["low"]) / 4


def test_the_order_of_the_rows_does_not_matter() -> None:
    first, second = made(2, seed=1), made(1, seed=2)
    shuffled = (table.take(np.random.default_rng(i).permutation(200)) for i, table in enumerate((first, second)))
    asked = json.dumps(compare(*shuffled, resamples=50))
    assert asked == json.dumps(compare(first, second, resamples=50))


def test_only_images_that_both_judged_under_the_same_label_count() -> None:
    first = from_columns(list("abcd"), list("abcd"), None, ["x", "y", "x", "x"], ["x", "y", "y", None])
    second = from_columns(list("ebcd"), list("ebcd"), None, ["x", "x", "x", "x"], ["x", "x", "x", "x"])
    found = compare(first, second, resamples=20)
    assert [found[key] for key in ("n", "only_in_first", "only_in_second", "labels_differ")] == [2, 1, 1, 1]
    assert [found[key] for key in ("both_right", "only_first_right", "only_second_right", "neither_right")] == [
        0,
        0,
        2,
        0,
    ]
    assert set(found["difference"]) == {"top1", "mean_recall", "macro_f1"}  # names alone have no log loss
    assert found["difference"]["top1"]["estimate"] == -1


def test_nothing_in_common_is_refused() -> None:
    first, second = (from_columns([i], [i], None, ["x"], ["x"]) for i in ("a", "b"))
    with pytest.raises(ConfigError, match="No image was judged by both"):
        compare(first, second)
    twice = pa.concat_tables([first, first])
    with pytest.raises(ConfigError, match="more than one row"):
        compare(twice, first)
