from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from birder.collection import index as vector_index
from birder.collection import nearest, vector_files
from birder.collection.index import IndexStatus, ensure_index, index_status, make_index
from birder.collection.search import search
from birder.collection.storage import Content, Row, Stamp, Storage
from birder.collection.vector_files import open_files
from birder.errors import CollectionError, UnknownNameError
from tests.factory import DIMENSION, append, clustered, collection_in_bulk, images_of


def brute_force(vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32], k: int) -> list[int]:
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1)
    return [int(n) for n in np.argsort(-cosines)[:k]]


def numbers(collection: Storage, query: npt.NDArray[np.float32], **more: object) -> list[int]:
    found = search(collection, vectors=[query], columns=["width"], **more)  # type: ignore[arg-type]
    assert found.notes == ()
    return [row["width"] for row in found.to_list()]


def test_an_automatic_index_has_a_high_recall_also_with_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_index, "AUTOMATIC", 6_000)
    monkeypatch.setattr(vector_files, "GRAPH_FROM", 6_000)
    monkeypatch.setattr(nearest, "_FEW", 100)
    vectors = clustered(6_000, size=272)
    collection = collection_in_bulk(tmp_path / "c.birder", vectors)
    with collection.writing():
        report = ensure_index(collection)
    assert report is not None
    assert report.rows == 6_000
    assert report.columns == {"id": "BTREE", "uri": "BTREE", "label": "BITMAP", "latitude": "BTREE"}
    assert index_status(collection).kind == "HNSW"
    queries = clustered(50, seed=1, size=272)
    assert not search(collection, vectors=[queries[0]], k=10).exact
    right = sum(len({*numbers(collection, q, k=10)} & {*brute_force(vectors, q, 10)}) for q in queries)
    assert right >= 0.98 * 500
    found = search(collection, vectors=[queries[0]], columns=["width"], k=10, exact=True)
    assert found.exact
    assert found.to_arrow()["width"].to_pylist() == brute_force(vectors, queries[0], 10)

    # A filter that few rows match, far from the query: all of them come, nearest first.
    rows = np.array([1, 2, 3, 2_001, 5_999])
    where = f"width IN ({', '.join(map(str, rows))})"
    assert (
        numbers(collection, queries[0], k=10, where=where) == rows[brute_force(vectors[rows], queries[0], 5)].tolist()
    )
    of_label = np.array([n for n in range(6_000) if n % 40 == 3 and n % 7])
    assert (
        numbers(collection, queries[0], k=10, where="label = 'label 3'")
        == of_label[brute_force(vectors[of_label], queries[0], 10)].tolist()
    )
    # And one that half of them match: by the graph, and nearly all right.
    north = np.array([n for n in range(6_000) if n % 180 >= 90])
    assert not search(collection, vectors=[queries[0]], k=10, where="latitude >= 0").exact
    right = sum(
        len({*numbers(collection, q, k=10, where="latitude >= 0")} & {*north[brute_force(vectors[north], q, 10)]})
        for q in queries[:20]
    )
    assert right >= 0.98 * 200


def test_appended_rows_are_found_at_once_and_deleted_ones_never(tmp_path: Path) -> None:
    vectors = clustered(3_000)
    collection = collection_in_bulk(tmp_path / "c.birder", vectors)
    make_index(collection)
    query = clustered(1, seed=2)[0]
    append(collection, np.stack([query, 2 * query]), first=3_000)
    assert index_status(collection).indexed == 3_000
    assert collection._nearest.at(collection._images, collection.version) is not None
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
    for module, name, value in (
        (vector_index, "AUTOMATIC", 1_000),
        (vector_index, "_UNINDEXED", 100),
        (vector_files, "_UNGRAPHED", 100),
        (vector_files, "GRAPH_FROM", 1_000),
    ):
        monkeypatch.setattr(module, name, value)
    collection = collection_in_bulk(tmp_path / "c.birder", clustered(900))

    def ensured() -> IndexStatus:
        with collection.writing():
            assert ensure_index(collection) is not None
            assert ensure_index(collection) is None
        return index_status(collection)

    with collection.writing():
        assert ensure_index(collection) is None
    append(collection, clustered(300, 1), 900)
    assert (ensured().indexed, index_status(collection).trained_on) == (1_200, 1_200)
    append(collection, clustered(50, 2), 1_200)
    assert (ensured().indexed, index_status(collection).trained_on) == (1_250, 1_200)
    files = open_files(collection.path, DIMENSION)
    assert files is not None
    assert (files.graphed, len(files.vectors)) == (1_200, 1_250)  # so few are compared one by one
    append(collection, clustered(60, 3), 1_250)
    status = ensured()
    assert (status.rows, status.indexed, status.trained_on) == (1_310, 1_310, 1_200)
    assert {rows for _, rows in status.columns.values()} == {1_310}
    append(collection, clustered(3_500, 4), 1_310)
    assert (ensured().indexed, index_status(collection).trained_on) == (4_810, 4_810)
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
