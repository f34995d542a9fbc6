"""Columns of rows that are changed where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lancedb.table
import numpy as np
import pyarrow as pa
import pytest

from birder.collection import in_place
from birder.collection.labels import Wish, recording
from birder.collection.storage import Storage
from birder.errors import CollectionError
from tests.factory import collection_in_bulk, collection_of_vectors


def test_rows_stay_where_they_are_when_labels_are_folded_by_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = collection_of_vectors(tmp_path / "c.birder", np.random.default_rng(0).normal(size=(300, 8)))
    monkeypatch.setattr(in_place, "WORTH_AN_INDEX", 300)
    before = collection.stored_rows()
    vectors = collection.to_arrow()["embedding"].to_pylist()
    ids = collection.to_arrow()["id"].to_pylist()
    for turn in range(3):  # the second finds what the first has left
        with recording(collection.journal, lambda column, some: dict.fromkeys(some)) as recorder:
            recorder.give([Wish(ids[turn : 200 + turn], "label", f"turn {turn}")])
        assert collection.fold_labels() == 200
        now = collection.stored_rows()
        assert now.addresses().tolist() == before.addresses().tolist()
        assert collection.journal.only_labels(before.version, now.version)
    collection.see_latest()
    table = collection.to_arrow()
    assert table["id"].to_pylist() == ids and table["embedding"].to_pylist() == vectors
    assert table["label"].to_pylist() == ["turn 0", "turn 1", *["turn 2"] * 200, *[None] * 98]
    assert not collection._images.list_indices()
    collection.add_columns({"more": pa.int64()})
    assert not collection.journal.only_labels(before.version, collection.stored_rows().version)


@pytest.mark.parametrize("ends_in", ["execute", "drop_index"])
def test_a_process_that_dies_while_it_folds_labels_leaves_them_pending_or_in_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_in: str
) -> None:
    collection = collection_of_vectors(tmp_path / "c.birder", np.random.default_rng(0).normal(size=(30, 8)))
    monkeypatch.setattr(in_place, "WORTH_AN_INDEX", 30)
    ids = collection.to_arrow()["id"].to_pylist()
    with recording(collection.journal, lambda column, some: dict.fromkeys(some)) as recorder:
        recorder.give([Wish(ids[:20], "label", "owl")])

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patch, pytest.raises(Died):
        if ends_in == "execute":  # the index is there, and stays: a process that is gone does not remove it
            patch.setattr(lancedb.table.LanceTable, "merge_insert", merge_that(die))
        patch.setattr(lancedb.table.LanceTable, "drop_index", die)
        collection.fold_labels()
    expected = ["owl"] * 20 + [None] * 10
    for open_again in range(2):  # opening it folds what is pending
        table = Storage.open(collection.path).to_arrow()
        assert table["id"].to_pylist() == ids and table["label"].to_pylist() == expected, open_again
    with recording(collection.journal, lambda column, some: dict.fromkeys(some, "owl")) as recorder:
        recorder.give([Wish(ids[5:], "label", "fox")])
    opened = Storage.open(collection.path)
    assert opened.to_arrow()["label"].to_pylist() == ["owl"] * 5 + ["fox"] * 25
    assert not opened._images.list_indices()


def merge_that(die: Callable[..., None]) -> Callable[..., object]:
    """`merge_insert` whose execution dies."""

    class Merge:
        def when_matched_update_all(self) -> Merge:
            return self

        execute = staticmethod(die)

    return lambda *_: Merge()


@pytest.mark.slow
def test_columns_of_more_than_lancedb_may_hold_by_itself_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LANCE_MEM_POOL_SIZE", raising=False)
    collection = collection_in_bulk(tmp_path / "c.birder", np.ones((6_000, 2), np.float32))
    ids = collection.to_arrow()["id"]
    texts = [f"{n:30000}" for n in range(len(ids))]  # 180 MB
    rows = pa.table({"id": ids, "note": pa.array(texts, pa.string())})
    collection.write_columns(rows)
    stored = dict(zip(*collection.to_arrow().select(["id", "note"]).to_pydict().values(), strict=True))
    assert stored == dict(zip(ids.to_pylist(), texts, strict=True))
    monkeypatch.setenv("LANCE_MEM_POOL_SIZE", "150000000")
    with pytest.raises(CollectionError, match="Set LANCE_MEM_POOL_SIZE to more bytes"):
        collection.write_columns(rows)
