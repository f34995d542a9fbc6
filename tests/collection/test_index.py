from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from birder.collection import index as vector_index
from birder.collection.index import ensure_index, index_status, make_index
from birder.collection.search import search
from birder.collection.storage import Content, Row, Stamp, Storage
from birder.errors import CollectionError, UnknownNameError
from tests.factory import DIMENSION, append, clustered, collection_in_bulk, images_of


def brute_force(vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32], k: int) -> list[int]:
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1)
    return [int(n) for n in np.argsort(-cosines)[:k]]


def numbers(collection: Storage, query: npt.NDArray[np.float32], **more: object) -> list[int]:
    found = search(collection, vectors=[query], columns=["width"], **more)  # type: ignore[arg-type]
    assert found.notes == ()
    return [row["width"] for row in found.to_list()]


@pytest.mark.parametrize(("size", "kind"), [(256, "IvfRq"), (DIMENSION, "IvfFlat")])
@pytest.mark.slow
def test_an_automatic_index_has_a_high_recall_also_with_filters(tmp_path: Path, size: int, kind: str) -> None:
    vectors = clustered(60_000, size=size)
    collection = collection_in_bulk(tmp_path / "c.birder", vectors)
    with collection.writing():
        report = ensure_index(collection)  # more than 50,000 rows: by itself
    assert report is not None
    assert report.rows == 60_000
    assert report.columns == {"id": "BTREE", "uri": "BTREE", "label": "BITMAP", "latitude": "BTREE"}
    assert "ANN" in images_of(collection.path).search(vectors[0], vector_column_name="embedding").explain_plan()
    assert {i.index_type for i in images_of(collection.path).list_indices() if i.columns == ["embedding"]} == {kind}
    queries = clustered(100, seed=1, size=size)
    right = sum(len({*numbers(collection, q, k=10)} & {*brute_force(vectors, q, 10)}) for q in queries)
    assert right >= 0.95 * 1000
    assert numbers(collection, queries[0], k=10, exact=True) == brute_force(vectors, queries[0], 10)

    # A filter that few rows match, far from the query: all of them come, nearest first.
    rows = np.array([1, 2, 3, 20_001, 59_999])
    where = f"width IN ({', '.join(map(str, rows))})"
    assert (
        numbers(collection, queries[0], k=10, where=where) == rows[brute_force(vectors[rows], queries[0], 5)].tolist()
    )
    # And one that one row in forty matches: k of them, the right ones.
    of_label = np.array([n for n in range(60_000) if n % 40 == 3 and n % 7])
    right = 0
    for query in queries[:20]:
        found = numbers(collection, query, k=10, where="label = 'label 3'")
        assert len(found) == 10
        right += len({*found} & {*of_label[brute_force(vectors[of_label], query, 10)].tolist()})
    assert right >= 0.95 * 200


def test_appended_rows_are_found_at_once_and_deleted_ones_never(tmp_path: Path) -> None:
    vectors = clustered(3_000)
    collection = collection_in_bulk(tmp_path / "c.birder", vectors)
    make_index(collection)
    query = clustered(1, seed=2)[0]
    append(collection, np.stack([query, 2 * query]), first=3_000)
    assert index_status(collection).indexed == 3_000
    assert set(numbers(collection, query, k=2)) == {3_000, 3_001}
    with collection.writing():
        images_of(collection.path).delete("width = 3000")
    collection.see_latest()
    best = brute_force(vectors, query, 3)
    with collection.writing():
        images_of(collection.path).delete(f"width = {best[0]}")
    collection.see_latest()
    assert numbers(collection, query, k=2) == [3_001, best[1]]
    assert numbers(Storage.open(collection.path), query, k=2) == [3_001, best[1]]


def test_a_changed_row_is_found_by_its_new_embedding(tmp_path: Path) -> None:
    vectors = clustered(1_000)
    collection = collection_in_bulk(tmp_path / "c.birder", vectors)
    make_index(collection)
    stamp = Stamp(1, 1)
    with collection.writing():
        content = Content(-vectors[5], 5, 1, None, None, None)
        collection.write([Row("file:///5", "ff", stamp, content, {"label": "label 6"}, known=True)])
    assert numbers(collection, -vectors[5], k=1) == [5]
    assert 5 not in numbers(collection, vectors[5], k=10)
    assert collection.count("uri = 'file:///5' AND label = 'label 5'") == 0
    assert collection.count("uri = 'file:///5' AND label = 'label 6'") == 1


def test_filters_mean_the_same_with_indexes_and_without(tmp_path: Path) -> None:
    collection = collection_in_bulk(tmp_path / "c.birder", clustered(2_000))
    conditions = [
        "label = 'label 3'",
        "label != 'label 3'",
        "label IS NULL",
        "NOT (label = 'label 3' OR latitude < 0)",
        "label IN ('label 1', 'label 2') AND latitude BETWEEN -10 AND 10.5",
        "label LIKE 'label 1%'",
        "label > 'label 2'",
        "lower(uri) = 'file:///17'",
        "id = 'id 17' OR latitude = 90",
    ]
    without = [collection.count(where) for where in conditions]
    make_index(collection)
    assert [collection.count(where) for where in conditions] == without
    assert without[0] > 0
    assert without[2] > 0


def test_the_index_is_kept_current_and_rebuilt_when_the_collection_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_index, "AUTOMATIC", 1_000)
    monkeypatch.setattr(vector_index, "_UNINDEXED", 100)
    collection = collection_in_bulk(tmp_path / "c.birder", clustered(900))
    with collection.writing():
        assert ensure_index(collection) is None
    append(collection, clustered(300, 1), 900)
    with collection.writing():
        assert ensure_index(collection) is not None
    assert (index_status(collection).indexed, index_status(collection).trained_on) == (1_200, 1_200)
    append(collection, clustered(50, 2), 1_200)
    with collection.writing():
        assert ensure_index(collection) is None  # so few are compared one by one
    append(collection, clustered(60, 3), 1_250)
    with collection.writing():
        assert ensure_index(collection) is not None
    status = index_status(collection)
    assert (status.rows, status.indexed, status.trained_on) == (1_310, 1_310, 1_200)
    assert {rows for _, rows in status.columns.values()} == {1_310}
    append(collection, clustered(3_500, 4), 1_310)
    with collection.writing():
        assert ensure_index(collection) is not None
    assert (index_status(collection).indexed, index_status(collection).trained_on) == (4_810, 4_810)
    assert set(index_status(collection).columns) == {"id", "uri", "label", "latitude"}


def test_columns_get_the_kind_of_index_that_fits(tmp_path: Path) -> None:
    collection = collection_in_bulk(tmp_path / "c.birder", clustered(1_500))
    with collection.writing():
        types = {"seen": pa.bool_(), "tags": pa.list_(pa.string()), "name": pa.string(), "empty": pa.int64()}
        collection.add_columns(types)
        rows = pa.table(
            {
                "uri": [f"file:///{n}" for n in range(1_500)],
                "seen": [n % 2 == 0 for n in range(1_500)],
                "tags": [["a", "b"] if n % 3 else ["c"] for n in range(1_500)],
                "name": [f"name {n}" for n in range(1_500)],
            }
        )
        collection.update(rows)
    report = make_index(collection)
    expected = {"seen": "BITMAP", "tags": "LABEL_LIST", "name": "BTREE", "label": "BITMAP", "latitude": "BTREE"}
    assert report.columns == expected | {"id": "BTREE", "uri": "BTREE"}
    assert len(search(collection, where="array_has(tags, 'c')", k=2_000)) == 500
    assert make_index(collection, columns=["empty"]).columns == {"empty": "BTREE"}
    with pytest.raises(UnknownNameError, match="label"):
        make_index(collection, columns=["labl"])
    with pytest.raises(CollectionError, match="embedding is fixed_size_list.*Leave it out"):
        make_index(collection, columns=["embedding"])


def test_an_index_of_too_few_rows_or_beside_another_writer_is_refused(tmp_path: Path) -> None:
    collection = collection_in_bulk(tmp_path / "c.birder", clustered(100))
    with pytest.raises(CollectionError, match="100 rows.*Search works without one"):
        make_index(collection)
    assert index_status(collection).indexed is None


@pytest.mark.parametrize("how", ["gone", "cut short"])
def test_with_a_damaged_index_all_rows_are_compared_with_a_note(tmp_path: Path, how: str) -> None:
    vectors = clustered(2_000)
    path = collection_in_bulk(tmp_path / "c.birder", vectors).path
    make_index(Storage.open(path), columns=["latitude"])
    (embedding,) = [i for i in images_of(path).list_indices() if i.columns == ["embedding"]]
    for file in (path / "images.lance" / "_indices" / str(embedding.index_uuid)).iterdir():
        if how == "gone":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:40])
    query = clustered(1, seed=3)[0]
    found = search(Storage.open(path), vectors=[query], k=7, columns=["width"])
    assert found.to_arrow()["width"].to_pylist() == brute_force(vectors, query, 7)
    assert "birder index" in found.notes[0]
    make_index(Storage.open(path))
    assert search(Storage.open(path), vectors=[query], k=7).notes == ()


def test_a_damaged_index_of_a_column_is_reported_and_rebuilt(tmp_path: Path) -> None:
    path = collection_in_bulk(tmp_path / "c.birder", clustered(2_000)).path
    make_index(Storage.open(path), columns=["latitude"])
    (latitude,) = [i for i in images_of(path).list_indices() if i.columns == ["latitude"]]
    for file in (path / "images.lance" / "_indices" / str(latitude.index_uuid)).iterdir():
        file.unlink()
    with pytest.raises(CollectionError, match="index is damaged.*birder index"):
        search(Storage.open(path), where="latitude = 5")
    make_index(Storage.open(path), columns=["latitude"])
    assert len(search(Storage.open(path), where="latitude = 5")) > 0


def test_without_its_record_the_index_is_not_rebuilt_automatically(tmp_path: Path) -> None:
    collection = collection_in_bulk(tmp_path / "c.birder", clustered(300))
    make_index(collection)
    (collection.path / "index.json").write_text(json.dumps(["?"]))
    assert index_status(collection).trained_on is None
    append(collection, clustered(2_000, 1), 300)
    with collection.writing():
        assert ensure_index(collection) is None
