"""The table of predictions: its columns, what is computed for each image, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from sklearn.metrics import brier_score_loss

from birder.errors import ConfigError
from birder.evaluation.predictions import SCHEMA, from_columns, predictions_table

CLASSES = ["crow", "heron", "owl", "rook"]
IDS = ["a", "b", "c"]
PROBABILITIES = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]], np.float32)


def made(**changes: Any) -> pa.Table:
    asked: dict[str, Any] = {
        "ids": IDS,
        "uris": IDS,
        "groups": ["1", "1", None],
        "folds": [0, 0, 1],
        "true": ["owl", "crow", "eagle"],
        "probabilities": PROBABILITIES,
        "classes": CLASSES,
    }
    return predictions_table(**(asked | changes))


def test_each_row_says_what_was_predicted_and_where_the_truth_stands() -> None:
    table = made()
    assert table.schema == SCHEMA
    assert table["predicted"].to_pylist() == ["rook", "crow", "crow"]  # equal ones: the first class
    assert table["probability"].to_pylist() == pytest.approx([0.4, 0.7, 0.25])
    assert table["true_probability"].to_pylist() == pytest.approx([0.3, 0.7, 0.0])
    assert table["rank_of_true"].to_pylist() == [2, 1, None]  # the model does not know eagles
    assert [each["name"] for each in table["top"][0].as_py()] == ["rook", "owl", "heron", "crow"]
    assert [each["probability"] for each in table["top"][0].as_py()] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert table["group"].to_pylist() == ["1", "1", None] and table["fold"].to_pylist() == [0, 0, 1]
    for name in ("uncalibrated_probability", "uncalibrated_true_probability", "unknown_score", "set"):
        assert table[name].null_count == 3


def test_the_brier_score_of_each_row_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(7), 50).astype(np.float32)
    classes = [f"class {i}" for i in range(7)]
    true = [classes[i] for i in random.integers(0, 7, 50)]
    table = predictions_table([*map(str, range(50))], [*map(str, range(50))], None, None, true, probabilities, classes)
    for label, row, brier in zip(true, probabilities, table["brier"].to_pylist(), strict=True):
        told = row[None].astype(np.float64) / row.sum(dtype=np.float64)
        assert brier == pytest.approx(brier_score_loss([label], told, labels=classes), abs=1e-6)


def test_before_the_temperature_the_same_name_has_another_probability() -> None:
    table = made(uncalibrated=PROBABILITIES[:, ::-1].copy())
    assert table["uncalibrated_probability"].to_pylist() == pytest.approx([0.1, 0.1, 0.25])  # of rook, crow, crow
    assert table["uncalibrated_true_probability"].to_pylist() == pytest.approx([0.2, 0.1, 0.0])


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    classes = [f"{i}" for i in range(9)]
    ids = [f"{i}" for i in range(100)]
    asked = (ids, ids, None, None, [classes[i] for i in random.integers(0, 9, 100)])
    probabilities = random.dirichlet(np.ones(9), 100)
    whole = predictions_table(*asked, probabilities, classes, uncalibrated=probabilities[::-1].copy())
    monkeypatch.setattr("birder.evaluation.predictions._BLOCK", 64)
    assert predictions_table(*asked, probabilities, classes, uncalibrated=probabilities[::-1].copy()) == whole


def test_taxa_become_columns_of_both_names() -> None:
    taxa = {"crow": {"genus": "Corvus", "family": "Corvidae"}, "rook": {"genus": "Corvus"}, "owl": {"genus": ""}}
    table = made(taxa=taxa)
    assert table.column_names[len(SCHEMA) :] == ["true_family", "true_genus", "predicted_family", "predicted_genus"]
    assert table["true_genus"].to_pylist() == [None, "Corvus", None]
    assert table["predicted_genus"].to_pylist() == ["Corvus", "Corvus", "Corvus"]
    assert table["predicted_family"].to_pylist() == [None, "Corvidae", "Corvidae"]


def test_further_columns_and_sets_are_kept() -> None:
    table = made(extra=pa.table({"night": [True, False, None]}), sets=[["owl"], [], ["crow", "rook"]])
    assert table["night"].to_pylist() == [True, False, None]
    assert table["set"].to_pylist() == [["owl"], [], ["crow", "rook"]]


def test_stored_names_without_probabilities() -> None:
    table = from_columns(IDS, IDS, None, ["owl", "crow", "owl"], ["owl", None, "crow"])
    assert table.schema == SCHEMA
    assert table["predicted"].to_pylist() == ["owl", None, "crow"]
    assert all(table[name].null_count == 3 for name in [*SCHEMA.names[6:], "group", "fold"])
    scored = from_columns(IDS, IDS, None, ["owl", "crow", "owl"], ["owl", None, "crow"], scores=[0.5, None, 1.0])
    assert scored["probability"].to_pylist() == [0.5, None, 1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": PROBABILITIES[:, :3]}, r"shape \(3, 4\)"),
        ({"uncalibrated": PROBABILITIES[:2]}, r"shape \(3, 4\)"),
        ({"probabilities": np.full((3, 4), np.nan)}, "finite"),
        ({"classes": ["crow", "crow", "owl", "rook"]}, "each class once"),
        ({"ids": ["a"]}, "3 values of id"),
        ({"true": ["owl", None, "owl"]}, "1 images have no label"),
        ({"extra": pa.table({"group": ["1", "2", "3"]})}, "named group"),
        ({"extra": pa.table({"night": [True]})}, "3 rows of further columns"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(**changes)


@pytest.mark.parametrize("scores", [[0.5, 30.0, 0.1], [-0.1, 0.5, None], [0.5, np.nan, 0.1], np.array([0.1, 0.2, 1.5])])
def test_scores_that_are_not_probabilities_are_refused(scores: npt.ArrayLike) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        from_columns(IDS, IDS, None, ["owl"] * 3, ["owl"] * 3, scores=scores)  # type: ignore[arg-type]
