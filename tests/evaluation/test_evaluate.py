"""What `metrics.json` holds: from the table alone, the same to the last byte, and nothing that cannot be known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from birder.errors import ConfigError, UnknownNameError
from birder.evaluation.evaluate import evaluate_predictions
from birder.evaluation.intervals import wilson
from birder.evaluation.predictions import from_columns, predictions_table
from tests.evaluation.once import expected_calibration_error

CLASSES = ["adder", "bat", "crow", "deer"]
TAXA = {
    "adder": {"class": "Reptilia", "genus": "Vipera"},
    "bat": {"class": "Mammalia", "genus": "Myotis"},
    "crow": {"class": "Aves", "genus": "Corvus"},
    "deer": {"class": "Mammalia", "genus": "Cervus"},
}
ALL = {
    *("top1", "top3", "top5", "mean_recall", "macro_f1", "coverage", "log_loss", "brier", "ece", "ece_uncalibrated"),
    *("coverage_at_90", "coverage_at_95", "coverage_at_99", "set_coverage", "set_size", "lca_height"),
    *("unknown_auroc", "unknown_fpr95"),
}


def made(n: int = 300, *, groups: int | None = 40, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 4, n)
    logits = random.normal(size=(n, 4)) + 2 * (np.arange(4) == codes[:, None])
    soft, sharp = (np.exp(scale * logits) for scale in (2.0, 4.0))  # the first is the truth
    soft /= soft.sum(axis=1, keepdims=True)
    sharp /= sharp.sum(axis=1, keepdims=True)
    ids = [f"{i:05}" for i in range(n)]
    return predictions_table(
        ids,
        [f"file:///{i}.jpg" for i in ids],
        None if groups is None else [f"burst {i}" for i in random.integers(0, groups, n)],
        random.integers(0, 5, n),
        [CLASSES[i] for i in codes],
        soft.astype(np.float32),
        CLASSES,
        uncalibrated=sharp.astype(np.float32),
        unknown_scores=random.random(n),
        sets=[[CLASSES[i] for i in np.flatnonzero(row > 0.1)] for row in soft],
        taxa=TAXA,
        extra=pa.table({"deployment": [f"D{i % 3}" for i in range(n)], "night": random.random(n) < 0.5}),
    )


def text(table: pa.Table, **asked: Any) -> str:
    return json.dumps(evaluate_predictions(table, resamples=50, **asked), allow_nan=False)


UNKNOWN = (np.random.default_rng(8).normal(size=200), np.random.default_rng(9).normal(size=80) + 1)


@pytest.mark.parametrize("groups", [None, 40])
def test_every_figure_has_an_interval_that_holds_it_and_its_number_of_images(groups: int | None) -> None:
    found = evaluate_predictions(made(groups=groups), resamples=200, by=["deployment"], unknown=UNKNOWN)
    assert set(found["metrics"]) == ALL
    shown = [each["accuracy"] for each in [*found["ranks"], *found["by_group"]]]
    for figure in [*found["metrics"].values(), *shown]:
        assert figure["low"] <= figure["estimate"] <= figure["high"]
        assert figure["n"] > 0 and figure["interval"] != "none"
    assert ("groups" in found) == (groups is not None)
    if groups is None:
        right = round(found["metrics"]["top1"]["estimate"] * 300)
        assert [found["metrics"]["top1"][key] for key in ("low", "high")] == pytest.approx(wilson(right, 300))
    else:
        assert found["groups"] == {"count": 40}
        assert found["metrics"]["top1"]["interval"] == "bootstrap over groups"


def test_the_parquet_file_gives_the_same_bytes_in_any_order_of_rows(tmp_path: Path) -> None:
    table = made()
    before = text(table, by=["night"], unknown=UNKNOWN)
    pq.write_table(table, tmp_path / "predictions.parquet", row_group_size=70)
    assert text(pq.read_table(tmp_path / "predictions.parquet"), by=["night"], unknown=UNKNOWN) == before
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    assert text(shuffled, by=["night"], unknown=UNKNOWN) == before
    assert text(table, by=["night"], unknown=UNKNOWN, seed=1) != before


def test_calibration_is_that_of_the_probabilities_before_and_after() -> None:
    table = made(2000)
    found = evaluate_predictions(table, resamples=20)
    right = np.array(table["true"].to_pylist()) == np.array(table["predicted"].to_pylist())
    for name, column in (("ece", "probability"), ("ece_uncalibrated", "uncalibrated_probability")):
        expected = expected_calibration_error(table[column].to_numpy(), right)
        assert found["metrics"][name]["estimate"] == pytest.approx(expected)
    assert found["metrics"]["ece"]["estimate"] < found["metrics"]["ece_uncalibrated"]["estimate"]
    for key in ("bins", "uncalibrated"):
        assert len(found["calibration"][key]) == 15
        assert sum(each["n"] for each in found["calibration"][key]) == 2000


def test_risk_at_the_told_coverage_is_as_promised() -> None:
    found = evaluate_predictions(made(2000), resamples=20)
    curve = {round(each["coverage"], 6): each for each in found["risk_coverage"]}
    assert max(curve) == 1.0 and len(curve) <= 200
    top1 = found["metrics"]["top1"]["estimate"]
    assert curve[1.0]["risk"] == pytest.approx(1 - top1)
    coverage = [found["metrics"][f"coverage_at_{percent}"]["estimate"] for percent in (90, 95, 99)]
    assert 1 > coverage[0] > coverage[1] > coverage[2] > 0
    for share, percent in zip(coverage, (90, 95, 99), strict=True):
        assert all(each["risk"] > 1 - percent / 100 for at, each in curve.items() if at > share + 1e-6)


def test_sets_and_the_unknown() -> None:
    table = made()
    found = evaluate_predictions(table, resamples=20, unknown=UNKNOWN)["metrics"]
    sets = table["set"].to_pylist()
    holds = [true in names for true, names in zip(table["true"].to_pylist(), sets, strict=True)]
    assert found["set_coverage"]["estimate"] == pytest.approx(np.mean(holds))
    assert found["set_size"]["estimate"] == pytest.approx(np.mean([len(names) for names in sets]))
    area = roc_auc_score([0] * 200 + [1] * 80, np.concatenate(UNKNOWN))
    assert found["unknown_auroc"]["estimate"] == pytest.approx(area)
    assert found["unknown_auroc"]["n"] == 280 and found["unknown_fpr95"]["n"] == 80


def test_scores_of_the_same_image_are_not_taken_as_independent() -> None:
    table = made(20)
    once = evaluate_predictions(table, unknown=UNKNOWN)["metrics"]["unknown_auroc"]
    five = (np.tile(UNKNOWN[0], 5), np.tile(UNKNOWN[1], 5))
    images = (np.tile(np.arange(200), 5), np.tile(np.arange(200, 280), 5))
    grouped = evaluate_predictions(table, unknown=five, unknown_groups=images)["metrics"]["unknown_auroc"]
    assert grouped["estimate"] == once["estimate"] and grouped["interval"] == "bootstrap over groups"
    width = once["high"] - once["low"]
    assert grouped["high"] - grouped["low"] == pytest.approx(width, rel=0.15)
    naive = evaluate_predictions(table, unknown=five)["metrics"]["unknown_auroc"]
    assert naive["high"] - naive["low"] < width / 1.8


def test_names_alone_give_no_figure_of_probabilities() -> None:
    ids = ["a", "b", "c", "d"]
    found = evaluate_predictions(from_columns(ids, ids, None, ["x", "x", "y", "y"], ["x", None, "y", "x"]))
    assert set(found["metrics"]) == {"top1", "mean_recall", "macro_f1", "coverage"}
    assert set(found) == {"schema", "n", "metrics", "classes", "confusion", "top_confusions"}
    assert found["metrics"]["top1"]["estimate"] == 0.5  # no answer is a wrong one
    assert found["metrics"]["coverage"]["estimate"] == 0.75
    assert found["confusion"] == [["x", None, 1], ["x", "x", 1], ["y", "x", 1], ["y", "y", 1]]
    assert found["top_confusions"] == [{"true": "y", "predicted": "x", "n": 1, "ids": ["d"]}]


def test_stored_scores_give_calibration_and_coverage_but_no_log_loss() -> None:
    ids = [f"{i:03}" for i in range(40)]
    predicted = ["x"] * 30 + [None] * 10
    scores = [0.9] * 20 + [0.4] * 10 + [0.8] * 10  # a score without an answer counts for nothing
    true = ["x"] * 20 + ["y"] * 20
    found = evaluate_predictions(from_columns(ids, ids, None, true, predicted, scores=scores), resamples=20)
    assert {"ece", "coverage_at_95"} <= set(found["metrics"]) and not {"log_loss", "brier", "top3"} & set(
        found["metrics"]
    )
    assert found["metrics"]["ece"]["n"] == 30
    assert found["metrics"]["coverage_at_95"]["estimate"] == 0.5
    assert [(each["coverage"], each["risk"]) for each in found["risk_coverage"]] == [
        (0.5, 0.0),
        (0.75, pytest.approx(1 / 3)),
    ]
    assert "uncalibrated" not in found["calibration"]


def test_no_answer_at_all_is_coverage_of_zero() -> None:
    found = evaluate_predictions(from_columns(["a", "b"], ["a", "b"], None, ["x", "y"], [None, None], scores=[1, 1]))
    assert [found["metrics"][name]["estimate"] for name in ("top1", "coverage", "macro_f1")] == [0, 0, 0]
    assert "risk_coverage" not in found and found["top_confusions"] == []


def test_confusions_list_the_most_frequent_first_with_their_surest_images() -> None:
    ids = [f"{i}" for i in range(9)]
    true, predicted = ["x"] * 6 + ["y"] * 3, ["y"] * 6 + ["x", "z", "y"]
    scores = [0.1, 0.9, 0.5, 0.7, 0.5, 0.2, 0.5, 0.5, 0.5]
    found = evaluate_predictions(from_columns(ids, ids, None, true, predicted, scores=scores), resamples=20)
    assert found["top_confusions"] == [
        {"true": "x", "predicted": "y", "n": 6, "ids": ["1", "3", "2", "4"]},
        {"true": "y", "predicted": "x", "n": 1, "ids": ["6"]},
        {"true": "y", "predicted": "z", "n": 1, "ids": ["7"]},
    ]


def test_classes_that_no_image_has_are_listed_without_figures() -> None:
    ids = ["a", "b"]
    table = from_columns(ids, ids, None, ["x", "y"], ["x", "z"])
    found = {each["name"]: each for each in evaluate_predictions(table, classes=["w", "x"])["classes"]}
    assert list(found) == ["w", "x", "y", "z"]
    assert found["w"] == {"name": "w", "n": 0, "intervals": {}}
    assert "precision" not in found["y"] and found["y"]["recall"] == 0
    assert "recall" not in found["z"] and found["z"] | {"intervals": 0} == {
        "name": "z", "n": 0, "precision": 0, "f1": 0, "intervals": 0,
    }  # fmt: skip


def test_groups_of_a_table_come_worst_first() -> None:
    ids = [f"{i}" for i in range(8)]
    right = [True, True, True, False, False, False, True, True]
    predicted = ["x" if each else "y" for each in right]
    extra = pa.table({"site": ["B", "B", "B", "B", "A", "A", None, None], "night": [0, 1, 0, 1, 0, 1, 0, 1]})
    table = from_columns(ids, ids, ["1", "1", "2", "2", "3", "3", "4", "4"], ["x"] * 8, predicted, extra=extra)
    found = evaluate_predictions(table, by=["site", "night"], resamples=20)["by_group"]
    assert [(each["column"], each["value"], each["n"], each["accuracy"]["estimate"]) for each in found] == [
        ("site", "A", 2, 0.0),
        ("night", "1", 4, 0.5),
        ("night", "0", 4, 0.75),
        ("site", "B", 4, 0.75),
    ]
    assert [each["accuracy"]["interval"] for each in found] == ["Wilson", *["bootstrap over groups"] * 3]


def test_images_without_a_group_are_groups_of_their_own() -> None:
    ids = ["a", "b", "c", "d"]
    table = from_columns(ids, ids, ["1", "1", None, None], ["x"] * 4, ["x"] * 4)
    assert evaluate_predictions(table, resamples=20)["groups"] == {"count": 3}


def test_one_group_says_nothing_about_others() -> None:
    ids = ["a", "b", "c"]
    found = evaluate_predictions(from_columns(ids, ids, ["1"] * 3, ["x", "x", "y"], ["x", "y", "y"]), by=["group"])
    for name in ("top1", "mean_recall", "macro_f1"):
        figure = found["metrics"][name]
        assert figure["low"] is None and figure["high"] is None and figure["interval"] == "none"
    assert all(each["intervals"] == {} for each in found["classes"])
    assert found["by_group"][0]["accuracy"]["interval"] == "Wilson"  # of that group itself


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.slice(0, 0), "no predictions"),
        (lambda table: table.drop_columns(["fold", "set"]), "lacks the columns fold, set"),
        (lambda table: pa.concat_tables([table, table.slice(3, 1)]), "more than one row"),
        (
            lambda table: table.set_column(4, "true", pa.array([None] + ["bat"] * (len(table) - 1))),
            "1 images have no label",
        ),
    ],
)
def test_tables_that_cannot_be_judged_are_refused(change: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_predictions(change(made(20)))


def test_what_is_asked_for_must_exist() -> None:
    with pytest.raises(UnknownNameError, match="deployment"):
        evaluate_predictions(made(20), by=["deploymnet"], resamples=20)
    with pytest.raises(ConfigError, match="finite"):
        evaluate_predictions(made(20), unknown=(np.array([np.nan]), np.array([1.0])), resamples=20)
