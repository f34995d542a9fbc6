"""Labels on the command line: set, cleared, accepted and taken back; and who gave them, in what is exported."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import birder
from birder.collection.provenance import sources_of
from birder.collection.storage import Storage
from tests.cli.running import Session, shared_session
from tests.factory import collection_of_columns

PREDICTED = {"predicted_label": pa.string(), "predicted_score": pa.float32(), "predicted_by": pa.string()}
FOLDER: dict[str, Any] = {"label": "birds", "label_source": "folder"}
TABLE: dict[str, Any] = {"label": "Strix aluco", "label_source": "table"}


def predicted(name: str, score: float) -> dict[str, Any]:
    return {"predicted_label": name, "predicted_score": score, "predicted_by": "net 1"}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return shared_session().at(tmp_path_factory.mktemp("label"))


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    rows = {
        "file:///p/birds/1.jpg": FOLDER | predicted("owl", 0.95),
        "file:///p/birds/2.jpg": FOLDER | predicted("owl", 0.5),
        "file:///p/birds/3.jpg": TABLE | predicted("fox", 0.99),
        "file:///p/birds/4.jpg": predicted("fox", 0.9),
        "file:///p/birds/5.jpg": FOLDER,
    }
    return collection_of_columns(tmp_path / "c.birder", rows, PREDICTED)


def labels(collection: Storage) -> list[tuple[str | None, str | None]]:
    """The label of each row, and where it comes from."""
    opened = Storage.open(collection.path)
    sources = sources_of(opened, "label")
    rows = opened.to_arrow().sort_by("uri").to_pylist()
    return [(row["label"], sources[row["uri"]].kind if row["uri"] in sources else None) for row in rows]


def test_predictions_are_accepted_as_one_act_and_taken_back(session: Session, collection: Storage) -> None:
    before = labels(collection)
    asked = ("label", collection.path, "--accept", "predicted_label", "--above", "0.9", "--by", "Ada")
    said = session.run(*asked).stderr
    assert "accepted predicted_label of 2 rows; 1 row keeps its label. To undo: birder undo" in said
    assert labels(collection) == [
        ("owl", "person"),
        ("birds", "folder"),
        ("Strix aluco", "table"),
        ("fox", "person"),
        ("birds", "folder"),
    ]
    assert "accepted predicted_label of 0 rows; 3 rows keep their labels." in session.run(*asked).stderr
    (act,) = birder.open_collection(collection.path).history().acts
    assert (act.by, act.count) == ("Ada", 2)
    assert "2 rows restored" in session.run("label", collection.path, "--undo").stderr
    assert labels(collection) == before


@pytest.mark.slow
def test_a_persons_word_is_that_persons_even_if_the_folder_said_the_same(session: Session, collection: Storage) -> None:
    said = session.run("label", collection.path, "--where", "uri LIKE '%/1.jpg'", "--set", "label=birds").stderr
    assert "set label of 1 row." in said
    assert labels(collection)[0] == ("birds", "person")
    session.run("label", collection.path, "--where", "label_source = 'folder'", "--clear", "label")
    assert [label for label, _ in labels(collection)] == ["birds", None, "Strix aluco", None, None]
    session.run("label", collection.path, "--undo")
    session.run("undo", collection.path)
    assert labels(collection)[0] == ("birds", "folder")


def test_exports_say_who_gave_each_label(session: Session, collection: Storage, tmp_path: Path) -> None:
    session.run("label", collection.path, "--where", "uri LIKE '%/1.jpg'", "--set", "label=owl", "--by", "Ada")
    session.run("label", collection.path, "--where", "uri LIKE '%/2.jpg'", "--clear", "label")
    for name in ("all.csv", "all.parquet"):
        session.run("export", collection.path, "--to", tmp_path / name)
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as file:
        told = [
            (row["label"] or None, row["label_source"] or None)
            for row in sorted(csv.DictReader(file), key=lambda row: row["uri"])
        ]
    expected = [("owl", "person"), (None, None), ("Strix aluco", "table"), (None, None), ("birds", "folder")]
    assert told == expected
    rows = pq.read_table(tmp_path / "all.parquet").sort_by("uri").to_pylist()
    assert [(row["label"], row["label_source"]) for row in rows] == expected
    session.run("import", tmp_path / "again.birder", tmp_path / "all.parquet")
    assert labels(Storage.open(tmp_path / "again.birder")) == labels(collection)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--accept", "predicted_label"], "--accept and --above go together"),
        (["--above", "0.9"], "--accept and --above go together"),
        (["--accept", "label", "--above", "0.9"], "label does not hold names that a model predicted"),
        (["--accept", "predicted_score", "--above", "0.9"], "predicted_score does not hold names"),
        (["--accept", "predicted_lable", "--above", "0.9"], "predicted_label"),
        (["--where", "true", "--set", "label=a", "--clear", "label"], "Say what to write, one of"),
        (["--where", "true", "--undo"], "leave out the other options"),
        (["--set", "label=owl"], "--where true for all"),
    ],
)
def test_what_does_not_fit_is_refused(session: Session, collection: Storage, options: list[str], told: str) -> None:
    before = labels(collection)
    assert told in session.run("label", collection.path, *options, code=2).stderr
    assert labels(collection) == before


def test_examples_keep_no_name_of_a_former_model(session: Session, collection: Storage) -> None:
    named = ("predict", "--in", collection.path, "--like", collection.path)
    session.run("label", collection.path, "--where", "uri LIKE '%/4.jpg'", "--clear", "label")
    session.run(*named, "--save", "--where", "uri LIKE '%/4.jpg' OR uri LIKE '%/1.jpg'")
    rows = Storage.open(collection.path).to_arrow().sort_by("uri").to_pylist()
    assert [row["predicted_label"] for row in rows[:3]] == [None, "owl", "fox"]  # the filter leaves the others alone
    assert [row["predicted_by"] for row in rows[:3]] == [None, "net 1", "net 1"]
    session.run(*named, "--save")
    rows = Storage.open(collection.path).to_arrow().sort_by("uri").to_pylist()
    assert [row["predicted_by"] is not None for row in rows] == [row["label"] is None for row in rows]
    session.run("label", collection.path, "--where", "label IS NULL", "--set", "label=owl")
    nothing = session.run(*named, code=1).stderr
    assert "has its label already" in nothing and "that of the folder" in nothing and "--clear label" in nothing
