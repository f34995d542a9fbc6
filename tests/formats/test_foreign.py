"""Embeddings in the formats of others: folders of Parquet, arrays with a table, pybioclip's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from birder.collection.storage import Storage
from birder.errors import BirderError, ConfigError
from birder.formats.export import export
from birder.formats.import_embeddings import import_embeddings
from birder.sources import path_to_uri
from tests.formats.conftest import Make


def parquet(file: Path, **columns: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)
    return file


def rows_of(collection: Storage) -> dict[str, dict[str, Any]]:
    return {row["uri"]: row for row in collection.to_arrow().to_pylist()}


def test_a_folder_of_parquet_is_imported_as_one_and_its_broken_files_are_failures(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    parquet(folder / "a.parquet", uri=["https://1", "https://2"], emb=[[1.0, 2.0], [3.0, 4.0]])
    parquet(folder / "part=2" / "b.parquet", uri=["https://3"], emb=[[5.0, 6.0]], site=["north"])
    parquet(folder / "_delta_log" / "c.parquet", nothing=[1])
    (folder / "d.parquet").write_bytes(b"PAR1 but no footer")
    cut = parquet(folder / "e.parquet", uri=["https://4"] * 9, emb=np.zeros((9, 2)).tolist())
    data = bytearray(cut.read_bytes())
    data[4:40] = b"\xff" * 36  # the footer is whole, the pages are not
    cut.write_bytes(data)
    done = import_embeddings(folder, tmp_path / "c.birder", model="m")
    assert (done.new, done.failed) == (3, 2)
    rows = rows_of(done.collection)
    assert [rows[f"https://{n}"]["embedding"] for n in (1, 2, 3)] == [[1, 2], [3, 4], [5, 6]]
    assert [rows[f"https://{n}"]["site"] for n in (1, 3)] == [None, "north"]
    failed = [row["uri"] for row in done.collection.failures()]
    assert failed == [path_to_uri(folder / "d.parquet"), path_to_uri(folder / "e.parquet")]
    again = import_embeddings(folder, tmp_path / "c.birder")
    assert (again.new, again.unchanged) == (0, 3)
    parquet(folder / "d.parquet", uri=["https://5"], emb=[[7.0, 8.0]])
    mended = import_embeddings(folder, tmp_path / "c.birder")
    assert (mended.new, mended.unchanged) == (1, 3)
    left = Storage.open(tmp_path / "c.birder").failures()
    assert [row["uri"] for row in left] == [path_to_uri(folder / "e.parquet")]


def test_folders_of_parquet_that_do_not_fit_together_are_refused(tmp_path: Path, make: Make) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no Parquet file"):
        import_embeddings(tmp_path / "empty", tmp_path / "c.birder", model="m")
    parquet(tmp_path / "two" / "a.parquet", uri=["a"], emb=[[1.0]])
    parquet(tmp_path / "two" / "b.parquet", uri=[1], emb=[[1.0]])
    with pytest.raises(ConfigError, match="has other columns than"):
        import_embeddings(tmp_path / "two", tmp_path / "c.birder", model="m")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match="None of the 1 Parquet files"):
        import_embeddings(tmp_path / "bad", tmp_path / "c.birder", model="m")
    exported = make({"file:///a": {}})
    for name in ("a", "b"):
        (tmp_path / "out").mkdir(exist_ok=True)
        export(exported, tmp_path / "out" / f"{name}.parquet")
    assert import_embeddings(tmp_path / "out", tmp_path / "back.birder").collection.count() >= 1


@pytest.mark.parametrize("name", ["sample", "image_path"])
def test_the_published_packages_parquet_has_paths(tmp_path: Path, name: str) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(4, dtype="f4")), 2)
    file = parquet(
        tmp_path / "e.parquet", **{name: ["a/1.jpg", "/abs/2.jpg"]}, label=pa.array([0, -1]), embedding=vectors
    )
    rows = rows_of(import_embeddings(file, tmp_path / "c.birder", model="m").collection)
    assert list(rows) == [path_to_uri(tmp_path / "a/1.jpg"), "file:///abs/2.jpg"]
    assert [row["source_label"] for row in rows.values()] == [0, -1]  # their index of a class is not a label


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2"])
def test_an_array_is_imported_with_its_table(tmp_path: Path, dtype: str) -> None:
    array = np.random.default_rng(0).normal(size=(3, 4)).astype(dtype)
    array[1, 2] = np.inf
    np.save(tmp_path / "f.npy", array)
    (tmp_path / "t.csv").write_text("image_path,site,seen\na.jpg,north,1\nb.jpg,south,2\nhttps://c,,3\n")
    done = import_embeddings(tmp_path / "f.npy", tmp_path / "c.birder", model="m", table=tmp_path / "t.csv")
    assert (done.new, done.failed) == (2, 1)
    rows = rows_of(done.collection)
    assert list(rows) == [path_to_uri(tmp_path / "a.jpg"), "https://c"]
    assert [(row["site"], row["seen"]) for row in rows.values()] == [("north", 1), (None, 3)]
    np.testing.assert_array_equal([row["embedding"] for row in rows.values()], array[[0, 2]].astype("f4"))
    bare = import_embeddings(tmp_path / "f.npy", tmp_path / "bare.birder", model="m")
    assert (bare.new, bare.failed) == (2, 1)


def test_arrays_that_are_not_embeddings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file\na.jpg\n")
    np.save(tmp_path / "two.npy", np.zeros((2, 4), "f4"))
    np.save(tmp_path / "flat.npy", np.zeros(4, "f4"))
    np.save(tmp_path / "code.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (tmp_path / "no.npy").write_bytes(b"\x93NUMPY\x01\x00")
    for name, message in [("two", "1 row, but"), ("flat", r"\(4,\)"), ("code", "NumPy array"), ("no", "NumPy array")]:
        with pytest.raises(ConfigError, match=message):
            import_embeddings(tmp_path / f"{name}.npy", tmp_path / "c.birder", model="m", table=tmp_path / "t.csv")
    file = parquet(tmp_path / "a.parquet", uri=["a"], emb=[[1.0]])
    with pytest.raises(ConfigError, match="leave out the table, which belongs to an array"):
        import_embeddings(file, tmp_path / "c.birder", model="m", table=tmp_path / "t.csv")


def test_output_of_bioclip_embed_is_imported(tmp_path: Path) -> None:
    embeddings = {
        "a.jpg": [0.5, -1.25],
        "/abs/b.jpg": [3.0, 4],
        "short.jpg": [1.0],
        "none.jpg": None,
        "text.jpg": ["1", 2],
    }
    file = tmp_path / "out.json"
    file.write_text(json.dumps({"model": "hf-hub:imageomics/bioclip-2", "embeddings": embeddings}, indent=4))
    done = import_embeddings(file, tmp_path / "c.birder")
    assert done.collection.model.name == "imageomics/bioclip-2"
    assert {uri: row["embedding"] for uri, row in rows_of(done.collection).items()} == {
        path_to_uri(tmp_path / "a.jpg"): [0.5, -1.25],
        "file:///abs/b.jpg": [3.0, 4.0],
    }
    assert (done.new, done.failed) == (2, 3)
    with pytest.raises(ConfigError, match="Leave out --model imageomics/bioclip"):
        import_embeddings(file, tmp_path / "d.birder", model="imageomics/bioclip")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"embeddings": []}',
        '{"embeddings": {}}',
        "[" * 100_000,
        '{"embeddings": {"a": [1e999]}}',
        '{"embeddings": {"a": [' + "9" * 500 + "]}}",
        "\x00",
        '{"embeddings": {"\\ud800": [1, 2]}}',
        '{"a": NaN}',
    ],
)
def test_json_that_pybioclip_did_not_write_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    try:
        import_embeddings(tmp_path / "a.json", tmp_path / "c.birder", model="m")
    except BirderError as error:
        assert "a.json" in str(error)
