from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birder.collection.search import search
from birder.collection.storage import Failure, Stamp, Storage
from birder.errors import BirderError, CollectionError, ConfigError, UnknownNameError
from birder.formats.export import export
from birder.formats.import_embeddings import import_embeddings
from birder.formats.row_uris import RowUris
from tests.formats.conftest import REFERENCE, Make


def bits(column: pa.ChunkedArray) -> bytes:
    return bytes(column.combine_chunks().flatten().to_numpy().tobytes())


def theirs(folder: Path, columns: dict[str, Any], name: str = "theirs.parquet") -> Path:
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


VECTORS = pa.array([[1.0, 2, 3], [4, 5, 6]], pa.list_(pa.float32()))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    folder = tmp_path_factory.mktemp("reference") / "tol.birder"
    done = import_embeddings(REFERENCE, folder, model="imageomics/bioclip-2")
    assert (done.new, done.changed, done.unchanged, done.failed) == (1030, 0, 0, 0)
    return Storage.open(folder)


def test_positions_off_the_earth_are_left_empty(tmp_path: Path) -> None:
    file = theirs(tmp_path, {"emb": VECTORS, "latitude": [-999.0, 51.0], "longitude": [4.0, 4.0]})
    done = import_embeddings(file, tmp_path / "c.birder", model="m")
    assert (done.new, done.off_earth) == (2, 1)
    rows = done.collection.to_arrow()
    assert sorted(zip(rows["latitude"].to_pylist(), rows["longitude"].to_pylist(), strict=True), key=str) == [
        (51.0, 4.0),
        (None, None),
    ]


def test_real_embeddings_are_imported_with_every_value(reference: Storage) -> None:
    given, rows = pq.read_table(REFERENCE), reference.to_arrow()
    for name in given.column_names:
        if name != "emb":
            assert rows[name].equals(given[name]), name
    assert bits(rows["embedding"]) == bits(given["emb"])
    assert rows["uri"].to_pylist()[:2] == given["identifier"].to_pylist()[:2]
    nameless = [
        (uri, each)
        for uri, address, each in zip(*(rows[n].to_pylist() for n in ("uri", "identifier", "uuid")), strict=True)
        if address is None
    ]
    assert len(nameless) == 121
    assert all(uri == f"urn:uuid:{uuid.UUID(each)}" for uri, each in nameless)
    assert rows["id"].to_pylist() == [str(uuid.uuid5(uuid.NAMESPACE_URL, uri)) for uri in rows["uri"].to_pylist()]
    assert rows["sha256"][0].as_py() == hashlib.sha256(np.array(given["emb"][0].as_py(), "<f4").tobytes()).hexdigest()
    card = reference.model
    assert (card.name, card.source, card.engine, card.embedding_size) == (*["imageomics/bioclip-2"] * 2, "import", 768)
    assert len(bytes.fromhex(card.sha256)) == 32


def test_imported_real_embeddings_can_be_searched(reference: Storage) -> None:
    given = pq.read_table(REFERENCE)
    vectors = np.array(given["emb"].to_pylist(), "f4")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    best = np.argsort(-(unit @ unit[17]))[:5]
    found = search(reference, vectors=[vectors[17]], k=5, columns=["uuid"]).to_list()
    assert [row["uuid"] for row in found] == [given["uuid"][int(i)].as_py() for i in best]
    assert reference.count("family = 'Orchidaceae'") == given["family"].to_pylist().count("Orchidaceae")


def test_real_embeddings_are_exported_identically(reference: Storage, tmp_path: Path) -> None:
    export(reference, tmp_path / "out.parquet")
    given, out = pq.read_table(REFERENCE), pq.read_table(tmp_path / "out.parquet")
    assert bits(out["embedding"]) == bits(given["emb"])
    for name in given.column_names:
        if name != "emb":
            assert out[name].equals(given[name])


def test_an_imported_export_is_the_same_collection(make: Make, tmp_path: Path) -> None:
    rows = {f"file:///{i}.jpg": {"label": "owl" if i % 2 else None, "seen": i} for i in range(20)}
    collection = make(rows, {"seen": pa.int64()})
    export(collection, tmp_path / "out.parquet")
    done = import_embeddings(tmp_path / "out.parquet", tmp_path / "back.birder")
    back = Storage.open(tmp_path / "back.birder")
    assert done.new == 20
    assert back.model == collection.model
    assert back.to_arrow().equals(collection.to_arrow())
    assert back.to_arrow().schema.equals(collection.to_arrow().schema, check_metadata=True)
    again = import_embeddings(tmp_path / "out.parquet", tmp_path / "back.birder", model="tiny")
    assert (again.new, again.changed, again.unchanged) == (0, 0, 20)
    with pytest.raises(ConfigError, match="Leave out --model other"):
        import_embeddings(tmp_path / "out.parquet", tmp_path / "third.birder", model="other")


def test_an_export_from_before_labels_had_sources_is_imported(make: Make, tmp_path: Path) -> None:
    export(make({"file:///a.jpg": {"label": "owl"}}), tmp_path / "new.parquet")
    pq.write_table(pq.read_table(tmp_path / "new.parquet").drop_columns(["label_source"]), tmp_path / "old.parquet")
    back = import_embeddings(tmp_path / "old.parquet", tmp_path / "back.birder").collection
    assert Storage.open(back.path).to_arrow()["label"].to_pylist() == ["owl"]


def test_a_second_import_changes_nothing(tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 2], [3, float("nan")], None], pa.list_(pa.float32()))
    file = theirs(tmp_path, {"url": ["https://a", "https://b", "https://c"], "emb": vectors})
    import_embeddings(file, tmp_path / "c.birder", model="m")
    before = Storage.open(tmp_path / "c.birder")
    rows, failures = before.to_arrow(), before.failures()
    manifests = sorted(each.name for each in (tmp_path / "c.birder").rglob("*.manifest"))
    done = import_embeddings(file, tmp_path / "c.birder")
    after = Storage.open(tmp_path / "c.birder")
    assert (done.new, done.changed, done.unchanged, done.failed) == (0, 0, 1, 2)
    assert after.to_arrow().equals(rows)
    assert after.failures() == failures
    assert sorted(each.name for each in (tmp_path / "c.birder").rglob("*.manifest")) == manifests


def test_a_changed_row_is_updated_and_keeps_values_that_the_file_lacks(tmp_path: Path) -> None:
    addresses = ["https://a", "https://b"]
    import_embeddings(theirs(tmp_path, {"url": addresses, "emb": VECTORS}), tmp_path / "c.birder", model="m")
    collection = Storage.open(tmp_path / "c.birder")
    with collection.writing():
        collection.update(pa.table({"uri": ["https://b"], "label": ["owl"]}))
    changed = pa.array([[1.0, 2, 3], [4, 5, 7]], pa.list_(pa.float32()))
    done = import_embeddings(theirs(tmp_path, {"url": addresses, "emb": changed}), tmp_path / "c.birder")
    assert (done.new, done.changed, done.unchanged) == (0, 1, 1)
    rows = {row["uri"]: row for row in Storage.open(tmp_path / "c.birder").to_arrow().to_pylist()}
    assert (rows["https://b"]["embedding"], rows["https://b"]["label"]) == ([4, 5, 7], "owl")


def test_unusable_embeddings_are_failures_and_never_lost(tmp_path: Path) -> None:
    vectors = [[1.0, 2], None, [1, 2, 3], [float("inf"), 1], [1, None], [1e300, 1], [0.5, -1], [0, 0]]
    names = [f"{i}.jpg" for i in range(8)]
    file = theirs(tmp_path, {"file_name": names, "vector": pa.array(vectors, pa.list_(pa.float64()))})
    done = import_embeddings(file, tmp_path / "c.birder", model="m")
    assert (done.new, done.failed) == (2, 6)
    reasons = {Path(row["uri"]).name: row["reason"] for row in done.collection.failures()}
    assert reasons == {
        "1.jpg": "Its embedding is missing",
        "2.jpg": "Its embedding is 3-dimensional, not 2-dimensional",
        "3.jpg": "Its embedding has a value that is not finite",
        "4.jpg": "Its embedding has a value that is not finite",
        "5.jpg": "Its embedding has a value that is not finite",
        "7.jpg": "Its embedding is zero, which has no direction",
    }
    assert done.collection.to_arrow()["uri"][0].as_py() == f"file://{tmp_path}/0.jpg"
    mended = [vector if i in (0, 6) else [7.0, 7] for i, vector in enumerate(vectors)]
    file = theirs(tmp_path, {"file_name": names, "vector": pa.array(mended, pa.list_(pa.float64()))})
    done = import_embeddings(file, tmp_path / "c.birder")
    assert (done.new, done.unchanged, done.failed) == (6, 2, 0)
    assert Storage.open(tmp_path / "c.birder").failures() == []


@pytest.mark.slow
def test_other_columns_keep_their_types_and_clashing_names_are_changed(tmp_path: Path) -> None:
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    file = theirs(
        tmp_path,
        {
            "uuid": [str(uuid.uuid4()), str(uuid.uuid4())],
            "emb": VECTORS,
            "id": pa.array([7, 8], pa.int16()),
            "source_id": ["x", "y"],
            "width": ["wide", "narrow"],
            "latitude": ["north", "south"],
            "longitude": pa.array([1, 2], pa.int32()),
            "species": pa.array(["Bubo bubo", None]).dictionary_encode(),
            "small": pa.array([1.5, None], pa.float32()),
            "at": pa.array([moment, None], pa.timestamp("ms", "UTC")),
            "tags": pa.array([["a", "b"], []], pa.list_(pa.string())),
            "empty": pa.nulls(2),
            "Basis of record": ["seen", "heard"],
        },
    )
    rows = import_embeddings(file, tmp_path / "c.birder", model="m").collection.to_arrow()
    row = rows.to_pylist()[0]
    assert (row["source_id_2"], row["source_id"]) == (7, "x")
    assert (row["source_width"], row["width"]) == ("wide", None)
    assert (row["source_latitude"], row["latitude"], row["longitude"]) == ("north", None, 1.0)
    assert (row["species"], row["small"], row["at"], row["tags"]) == ("Bubo bubo", 1.5, moment, ["a", "b"])
    assert (row["empty"], row["Basis of record"]) == (None, "seen")
    assert rows.schema.field("source_id_2").type == pa.int16()
    assert rows.schema.field("small").type == pa.float32()
    assert rows.schema.field("at").type == pa.timestamp("ms", "UTC")
    export(Storage.open(tmp_path / "c.birder"), tmp_path / "a.csv")
    export(Storage.open(tmp_path / "c.birder"), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert [json.loads(each) for each in arrays["tags"]] == [["a", "b"], []]


def test_rows_with_no_key_or_the_same_key_are_all_kept(tmp_path: Path) -> None:
    same = "https://same.org/1.jpg"
    ids = [str(uuid.uuid4()) for _ in range(2)]
    vectors = pa.array([[float(i), 1] for i in range(6)], pa.list_(pa.float16()))
    file = theirs(
        tmp_path,
        {"url": [same, same, same, None, None, None], "uuid": [*ids, "", "k 1", None, None], "features": vectors},
    )
    done = import_embeddings(file, tmp_path / "c.birder", model="m")
    uris = done.collection.to_arrow()["uri"].to_pylist()
    assert uris[:4] == [same, f"urn:uuid:{ids[1]}", f"{same}#2", "urn:birder:id:k%201"]
    assert all(uri.startswith("urn:birder:row:") for uri in uris[4:])
    assert import_embeddings(file, tmp_path / "c.birder").unchanged == 6


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from([None, "", "a", "b#2", "b"]), st.sampled_from([None, "x", "y"]), st.just("d")))
)
def test_every_row_has_a_uri_of_its_own_the_same_each_time(rows: list[tuple[str | None, str | None, str]]) -> None:
    uris = [[uris_of.uri(*row) for row in rows] for uris_of in (RowUris(Path("/f")), RowUris(Path("/f")))]
    assert uris[0] == uris[1]
    assert len(set(uris[0])) == len(rows)


def test_another_models_embeddings_are_refused(tmp_path: Path, make: Make) -> None:
    file = theirs(tmp_path, {"url": ["https://a", "https://b"], "emb": VECTORS})
    with pytest.raises(ConfigError, match="--model imageomics/bioclip-2"):
        import_embeddings(file, tmp_path / "c.birder")
    assert not (tmp_path / "c.birder").exists()
    import_embeddings(file, tmp_path / "c.birder", model="m")
    with pytest.raises(CollectionError, match="belongs to the model m"):
        import_embeddings(file, tmp_path / "c.birder", model="n")
    longer = theirs(tmp_path, {"url": ["https://a"], "emb": pa.array([[1.0] * 5])}, "longer.parquet")
    with pytest.raises(CollectionError, match="belongs to the model m"):
        import_embeddings(longer, tmp_path / "c.birder", model="m")
    made_here = make({"file:///a": {}}, name="here.birder")
    with pytest.raises(CollectionError, match="belongs to the model tiny"):
        import_embeddings(file, made_here.path, model="tiny")
    with pytest.raises(ConfigError, match="Which model"):
        import_embeddings(file, made_here.path)


def test_the_column_of_embeddings_is_recognised_or_must_be_named(tmp_path: Path) -> None:
    a, b = VECTORS, pa.array([[1.0], [2.0]])
    file = theirs(tmp_path, {"url": ["https://a", "https://b"], "x": a, "y": b})
    with pytest.raises(ConfigError, match=r"several lists of floats \(x, y\)"):
        import_embeddings(file, tmp_path / "c.birder", model="m")
    with pytest.raises(UnknownNameError, match="'z'"):
        import_embeddings(file, tmp_path / "c.birder", model="m", embedding="z")
    with pytest.raises(ConfigError, match="not lists of floats"):
        import_embeddings(file, tmp_path / "c.birder", model="m", embedding="url")
    done = import_embeddings(file, tmp_path / "c.birder", model="m", embedding="y", uri="url")
    assert done.collection.model.embedding_size == 1
    assert done.collection.columns["x"] == pa.list_(pa.float32())  # the other one is a column like any
    with pytest.raises(ConfigError, match="no column of embeddings"):
        import_embeddings(theirs(tmp_path, {"url": ["a"]}, "n.parquet"), tmp_path / "d.birder", model="m")


@pytest.mark.parametrize("damage", ["not parquet", "missing", "card", "columns", "cut"])
def test_a_damaged_file_is_reported_plainly(tmp_path: Path, damage: str, make: Make) -> None:
    file = tmp_path / "a.parquet"
    table = pa.table({"url": ["https://a", "https://b"], "emb": VECTORS})
    if damage == "not parquet":
        file.write_bytes(b"PK\x03\x04 no parquet at all")
    elif damage == "card":
        pq.write_table(table.replace_schema_metadata({"birder": '{"format": 1, "x": 2}'}), file)
    elif damage == "columns":
        export(make({"file:///a": {}}), file)
        pq.write_table(pq.read_table(file).drop_columns(["sha256"]), file)
    elif damage == "cut":
        pq.write_table(table, file)
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(BirderError, match=r"a\.parquet"):
        import_embeddings(file, tmp_path / "c.birder", model="m")
    assert not (tmp_path / "c.birder").exists() or damage == "columns"


def test_failures_of_a_collection_stay_when_others_are_imported(make: Make, tmp_path: Path) -> None:
    collection = make({"file:///a": {}}, failures=[Failure("file:///bad", "broken", Stamp(1, 1))])
    export(collection, tmp_path / "a.parquet")
    import_embeddings(tmp_path / "a.parquet", collection.path)
    assert [row["uri"] for row in Storage.open(collection.path).failures()] == ["file:///bad"]
