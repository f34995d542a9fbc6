"""Boxes that a person said are wrong: left out where animals are counted, named, exported or learned from; undone."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from birder.analysis.captures import read_captures
from birder.analysis.sequences import summarise_sequences
from birder.analysis.stats import value_counts
from birder.collection.filter import as_filter
from birder.collection.judged_rows import read_rows
from birder.collection.labels import give_label, undo
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import only_wrong_boxes, without_wrong_boxes
from birder.formats.export import export
from birder.learning.lesson import without_label
from birder.learning.rows import labelled_rows
from birder.learning.suggest import read_labels
from birder.naming.inputs import labelled_embeddings
from tests.factory import collection_of_columns

TYPES = {"category": pa.string(), "sequence": pa.string(), "site": pa.string()}


def made(folder: Path) -> Storage:
    """Six images with two boxes each, in three sequences; those of the last two images have no label."""
    rows: dict[str, dict[str, Any]] = {}
    for number in range(12):
        image = number // 2
        uri = f"file:///p/{image}.jpg#xywh=percent:{10 + 40 * (number % 2)},10,30,30"
        label = ["owl", "fox"][number % 2] if image < 4 else None
        rows[uri] = {"label": label, "category": "animal", "sequence": f"s{image // 2}", "site": "A"}
    return collection_of_columns(folder / "c.birder", rows, TYPES)


def reached(collection: Storage, to: Path) -> dict[str, set[str]]:
    """The ids that each of them reaches."""
    by_uri = {row["uri"]: row["id"] for row in collection.to_arrow().select(["uri", "id"]).to_pylist()}
    export(collection, to, force=True)
    return {
        "learned": set(labelled_rows(collection, "label").table["id"].to_pylist()),
        "judged": set(read_rows(collection, "label", (), None).values["id"].to_pylist()),
        "suggested": {id_ for id_, label in read_labels(collection, "label").items() if label is None},
        "named": {id_ for ids, _, _ in without_label(collection, "label") for id_ in ids},
        "examples": {by_uri[uri] for uri in labelled_embeddings(collection, "label").uris},
        "exported": {line["id"] for line in csv.DictReader(to.open(encoding="utf-8"))},
        "counted": {str(each.count) for each in value_counts(collection, "site")},
        "captured": {str(read_captures(collection.snapshot(), collection.journal, where=chosen(collection)).rows)},
        "in sequences": set(map(str, summarise_sequences(collection)["count"].to_pylist())),
    }


def chosen(collection: Storage) -> Any:
    return without_wrong_boxes(None, collection.columns)


def test_what_is_wrong_is_left_out_everywhere_and_comes_back(tmp_path: Path) -> None:
    collection = made(tmp_path)
    assert without_wrong_boxes(None, collection.columns) is None  # nobody has said anything: as if there were no boxes
    assert only_wrong_boxes(collection.columns) is None
    table = collection.to_arrow()
    before = reached(collection, tmp_path / "out.csv")
    wrong = [table["id"][row].as_py() for row in (0, 2, 8)]  # two with a label, one without, of two sequences
    act = give_label(collection, wrong, "box", "wrong", by="Ada")
    assert act.count == 3
    give_label(collection, table["id"].to_pylist()[1:2], "box", "right", by="Ada")
    collection.see_latest()
    after = reached(collection, tmp_path / "out.csv")
    numbers = {"counted": {"9"}, "captured": {"9"}, "in sequences": {"1", "2"}}
    for name, ids in before.items():
        assert after[name] == numbers.get(name, ids - set(wrong)), name
    assert before["learned"] & set(wrong) and before["named"] & set(wrong)  # else nothing was tested
    own = collection.columns
    assert collection.count() == 12  # the rows are all there
    assert collection.count(only_wrong_boxes(own)) == 3
    assert collection.count(without_wrong_boxes("label = 'owl'", own)) == 2
    for named in (f"id = '{wrong[0]}'", "box = 'wrong' OR label = 'owl'"):  # asked for by name
        assert without_wrong_boxes(named, own) == as_filter(named, own)
    once = without_wrong_boxes("label = 'owl' OR label = 'fox'", own)
    assert without_wrong_boxes(once, own) == once
    give_label(collection, table["id"].to_pylist()[:1], "label", "lynx")  # of a box that is wrong
    give_label(collection, table["id"].to_pylist()[3:4], "label", "lynx")
    collection.see_latest()
    assert collection.count(without_wrong_boxes("label_source = 'person'", own)) == 1
    for _ in range(2):
        undo(collection)
    undo(collection, act.act)
    collection.see_latest()
    back = reached(collection, tmp_path / "out.csv")
    assert back == before


def test_a_column_of_the_users_own_hides_nothing(tmp_path: Path) -> None:
    rows = {"file:///a.jpg": {"box": 1.5}, "file:///b.jpg": {"box": 2.0}}
    collection = collection_of_columns(tmp_path / "c.birder", rows, {"box": pa.float64()})
    assert without_wrong_boxes("box > 1", collection.columns) == as_filter("box > 1", collection.columns)
    assert without_wrong_boxes(None, collection.columns) is None
    assert only_wrong_boxes(collection.columns) is None
    assert not np.array(summarise_sequences(collection)["count"]).any()
