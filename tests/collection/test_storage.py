from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from birder.collection import storage
from birder.collection.search import search
from birder.collection.storage import Failure, ModelCard, Stamp, Storage, column_types, exists
from birder.errors import CollectionError, CollectionNotFoundError, FilterError, UnknownNameError, WrongModelError
from tests.factory import CARD, TRANSFORM, collection_of, collection_of_vectors, row, write


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    return collection_of(tmp_path / "c.birder")


def test_rows_that_were_written_are_read_by_a_collection_opened_again(collection: Storage) -> None:
    write(collection, [row("a", [1, 2, 3, 4], columns={"label": "owl", "latitude": 5})])
    (back,) = Storage.open(collection.path).to_arrow().to_pylist()
    assert back["embedding"] == [1, 2, 3, 4]
    assert back["id"] == str(uuid.uuid5(uuid.NAMESPACE_URL, "file:///a"))
    assert (back["width"], back["height"], back["label"], back["species"]) == (30, 20, "owl", None)
    assert back["taken_at"] == datetime(2020, 5, 1)
    assert (back["latitude"], back["longitude"]) == (5.0, None)  # the table's latitude wins over EXIF's
    assert back["modified"].timestamp() == 1.0
    assert Storage.open(collection.path).to_arrow().schema.field("embedding").type == pa.list_(pa.float32(), 4)
    assert Storage.open(collection.path).model == CARD


def test_a_changed_file_replaces_its_row(collection: Storage) -> None:
    write(collection, [row("a", [1, 0, 0, 0]), row("b", [0, 1, 0, 0], "01")])
    write(collection, [row("a", [0, 0, 1, 0], "02", known=True)])
    assert {r["uri"]: r["embedding"] for r in collection.to_arrow().to_pylist()} == {
        "file:///a": [0, 0, 1, 0],
        "file:///b": [0, 1, 0, 0],
    }


def test_content_comes_from_the_same_commit_an_earlier_one_or_a_row_just_replaced(collection: Storage) -> None:
    write(collection, [row("a", [1, 0, 0, 0], "aa"), row("b", None, "aa")])
    with collection.running(), collection.writing():
        collection.write([row("a", [0, 1, 0, 0], "bb", known=True), row("b", None, "bb", known=True)])
        collection.write([row("c", None, "aa")])  # no row has this content any more
    vectors = {r["uri"][-1]: r["embedding"] for r in collection.to_arrow().to_pylist()}
    assert vectors == {"a": [0, 1, 0, 0], "b": [0, 1, 0, 0], "c": [1, 0, 0, 0]}


def test_search_by_a_vector_orders_rows_by_exact_cosines(collection: Storage) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 4)).astype("f4")
    write(collection, [row(f"{i}", v.tolist(), f"{i:02x}") for i, v in enumerate(vectors)])
    query = np.array([3, -1, 0.5, 2], "f4")
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    found = search(collection, vectors=[query], k=7).to_list()
    order = np.argsort(-cosines)[:7]
    assert [r["uri"] for r in found] == [f"file:///{i}" for i in order]
    assert np.allclose([r["similarity"] for r in found], cosines[order], atol=1e-6)


def test_search_takes_a_filter_and_columns(collection: Storage) -> None:
    vectors: dict[str, list[float]] = {"o'wl": [1, 0, 0, 0], "wren": [1, 1, 0, 0]}
    write(collection, [row(name, vector, name, columns={"label": name}) for name, vector in vectors.items()])
    query = np.array([1, 0, 0, 0], "f4")
    assert search(collection, vectors=[query], where="label = 'wren'", columns=["label"]).to_list() == [
        {"similarity": pytest.approx(0.5**0.5), "label": "wren"}
    ]
    assert collection.count("label = 'o''wl'") == 1
    with pytest.raises(FilterError, match="Invalid filter"):
        collection.count("labl = 'wren'")
    with pytest.raises(FilterError, match="Invalid filter"):
        search(collection, vectors=[query], where="label = ")
    with pytest.raises(UnknownNameError, match="label"):
        search(collection, vectors=[query], columns=["labl"])
    with pytest.raises(CollectionError, match="4-dimensional"):
        search(collection, vectors=[np.zeros(5, "f4")])


def test_failures_come_go_and_are_replaced(collection: Storage) -> None:
    write(collection, [], [Failure("file:///a", "empty", Stamp(0, 5)), Failure("file:///b", "gone", None)])
    write(collection, [row("a", [1, 0, 0, 0], failed=True)], [Failure("file:///b", "truncated", Stamp(3, 5))])
    assert [(f["uri"], f["reason"], f["bytes"]) for f in collection.failures()] == [("file:///b", "truncated", 3)]
    write(collection, [], [Failure("file:///a", "truncated", Stamp(3, 5), known=True)])
    assert collection.count() == 0
    assert len(collection.failures()) == 2


def test_a_changed_file_keeps_the_values_given_to_its_row(collection: Storage) -> None:
    kept = {"label": "owl", "species": "Strix aluco", "trap": 3}
    collection.add_columns({"trap": pa.int64(), "predicted_label": pa.string()})
    write(collection, [row("a", [1, 0, 0, 0], columns={**kept, "latitude": 5.0, "predicted_label": "wren"})])
    write(collection, [row("a", [0, 1, 0, 0], "02", columns={"trap": 4, "label": None}, known=True)])
    (back,) = collection.to_arrow().to_pylist()
    assert {name: back[name] for name in kept} == {**kept, "trap": 4}
    # The former image's place and what a model made of it are not the new one's.
    assert (back["embedding"], back["latitude"], back["predicted_label"]) == ([0, 1, 0, 0], 1.0, None)


def test_a_folder_s_name_does_not_replace_a_table_s_label(collection: Storage) -> None:
    by_table, by_folder = ({"label": label, "label_source": label} for label in ("table", "folder"))
    write(collection, [row("a", [1, 0, 0, 0], columns=by_table), row("b", [0, 1, 0, 0], "01", columns=by_folder)])
    moved = {"label": "elsewhere", "label_source": "folder"}
    write(collection, [row(n, [0, 0, 1, 0], "02", columns=moved, known=True) for n in "ab"])
    rows = collection.to_arrow().sort_by("uri").to_pylist()
    assert [(r["label"], r["label_source"]) for r in rows] == [("table", "table"), ("elsewhere", "folder")]


def test_a_run_killed_between_row_and_failure_is_repaired_by_the_next(collection: Storage) -> None:
    write(collection, [], [Failure("file:///a", "empty", Stamp(0, 5))])
    write(collection, [row("a", [1, 0, 0, 0], failed=False)])  # as if killed before the failure was removed
    assert len(collection.failures()) == 1
    with collection.running():
        assert collection.failures() == []


def test_new_columns_are_null_in_old_rows(collection: Storage) -> None:
    write(collection, [row("a", [1, 0, 0, 0])])
    collection.add_columns(column_types({"trap": [3, None], "seen": [datetime(2020, 1, 1)], "empty": [None]}))
    write(collection, [row("b", None, "00", columns={"trap": 3, "seen": datetime(2020, 1, 1)})])
    assert [(r["trap"], r["empty"]) for r in collection.to_arrow().sort_by("uri").to_pylist()] == [
        (None, None),
        (3, None),
    ]
    assert Storage.open(collection.path).model == CARD


def test_columns_of_another_type_or_of_birders_own_are_refused(collection: Storage) -> None:
    collection.add_columns({"trap": pa.int64()})
    with pytest.raises(CollectionError, match="column trap is int64"):
        collection.check_columns({"trap": pa.string()})
    with pytest.raises(CollectionError, match="may not have a column uri"):
        column_types({"uri": ["x"]})
    with pytest.raises(CollectionError, match="latitude must be double"):
        column_types({"latitude": ["north"]})


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (replace(CARD, sha256="cd" * 32, name="other"), "belongs to the model tiny .*not other"),
        (replace(CARD, transform={**TRANSFORM, "draft": False}), "without --exact"),
        (replace(CARD, transform={**TRANSFORM, "size": [9, 9], "draft": True}), "made with size"),
        (replace(CARD, precision="int8"), "fp32 embeddings, not int8"),
    ],
)
def test_another_model_is_refused(collection: Storage, card: ModelCard, reason: str) -> None:
    with pytest.raises(WrongModelError, match=reason):
        Storage.create_or_open(collection.path, card)


def test_a_folder_with_other_contents_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(CollectionNotFoundError, match="not a collection"):
        Storage.open(tmp_path)
    with pytest.raises(CollectionError, match="not a collection"):
        Storage.create_or_open(tmp_path, CARD)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.doc"]
    with pytest.raises(CollectionNotFoundError, match="not a collection"):
        Storage.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_an_interrupted_creation_is_done_again(collection: Storage) -> None:
    for manifest in (collection.path / "images.lance" / "_versions").iterdir():
        manifest.unlink()
    assert not exists(collection.path)
    assert Storage.create_or_open(collection.path, CARD).count() == 0


def test_a_damaged_collection_is_reported(collection: Storage) -> None:
    for manifest in (collection.path / "images.lance" / "_versions").iterdir():
        manifest.write_bytes(b"\0" * 100)
    with pytest.raises(CollectionError, match="damaged"):
        Storage.open(collection.path)


def test_predictions_are_saved_a_block_at_a_time_as_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = collection_of_vectors(tmp_path / "c.birder", np.eye(7, 8))
    uris = sorted(collection.to_arrow()["uri"].to_pylist())
    best = [(uri, {"label": f"kind {n}", "score": n / 10} if n % 3 else None) for n, uri in enumerate(uris)]
    for at_once in (7, 3, 2, 1):  # the last block is full, or not
        monkeypatch.setattr(storage, "_PREDICTED_AT_ONCE", at_once)
        models = [f"net {n} of {at_once}" for n in range(7)]
        assert "predicted_label" in collection.save_predictions(iter(best), ["label"], models, None)
        rows = {row["uri"]: row for row in Storage.open(collection.path).to_arrow().to_pylist()}
        assert [rows[uri]["predicted_label"] for uri in uris] == [found and found["label"] for _, found in best]
        assert [rows[uri]["predicted_by"] for uri in uris] == [m if n % 3 else None for n, m in enumerate(models)]
    assert collection.save_predictions([], ["label"], "net", None)
