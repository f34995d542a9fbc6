"""Embeddings as .npz, as CSV and in wide tables, and what pybioclip writes, in collections."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birder.collection.labels import give_label
from birder.collection.storage import Storage
from birder.errors import BirderError, ConfigError
from birder.formats.export import export
from birder.formats.features import write_features
from birder.formats.import_embeddings import import_embeddings
from birder.formats.import_predictions import import_predictions
from birder.formats.table import format_to_import
from birder.formats.wide import dimensions
from birder.sources import path_to_uri
from birder.sources.table import TableWarning
from tests.formats.conftest import DATA, REFERENCE, Make

PYBIOCLIP = DATA / "pybioclip"
VECTORS = np.random.default_rng(0).normal(size=(5, 20)).astype("f4")
PATHS = [f"a/{i}.jpg" for i in range(5)]


def rows_of(collection: Storage) -> dict[str, dict[str, Any]]:
    return {row["uri"]: row for row in Storage.open(collection.path).to_arrow().to_pylist()}


def stored(collection: Storage) -> npt.NDArray[np.float32]:
    return np.array([row["embedding"] for row in rows_of(collection).values()], "f4")


def test_an_imported_npz_is_the_same_collection(make: Make, tmp_path: Path) -> None:
    rows = {
        f"file:///{i} ö.jpg": {
            "label": None if i == 3 else f"owl, {i}",
            "seen": None if i == 1 else 2**60 + i,
            "small": None if i == 2 else i / 3,
            "sure": None if i == 0 else bool(i % 2),
            "tags": None if i == 4 else ["a", "b"] * i,
            "taken_at": None if i == 2 else datetime(2024, 5, 1, 2, 3, 4, 5),
            "predicted_at": None if i == 1 else datetime(2024, 5, 1),
        }
        for i in range(12)
    }
    types = {"seen": pa.int64(), "small": pa.float32(), "sure": pa.bool_(), "tags": pa.list_(pa.string())}
    collection = make(rows, types | {"predicted_at": pa.timestamp("us", "UTC")})
    give_label(collection, collection.to_arrow()["id"].to_pylist()[:1], "label", "owl", by="Ada")
    collection = Storage.open(collection.path)
    export(collection, tmp_path / "out.npz")
    done = import_embeddings(tmp_path / "out.npz", tmp_path / "back.birder")
    back = Storage.open(tmp_path / "back.birder")
    assert done.new == 12 and back.model == collection.model
    given, found = rows_of(collection), rows_of(back)
    labelled = next(uri for uri, row in given.items() if row["label"] == "owl")
    given[labelled]["label_source"] = "person"  # as the export tells it
    assert found == given
    assert back.columns == collection.columns
    again = import_embeddings(tmp_path / "out.npz", tmp_path / "back.birder")
    assert (again.new, again.changed, again.unchanged) == (0, 0, 12)


def test_an_npz_from_before_it_had_types_is_imported(make: Make, tmp_path: Path) -> None:
    collection = make({"file:///a.jpg": {"label": "owl", "seen": 7}}, {"seen": pa.int64()})
    export(collection, tmp_path / "new.npz")
    with zipfile.ZipFile(tmp_path / "new.npz") as new, zipfile.ZipFile(tmp_path / "old.npz", "w") as old:
        for name in new.namelist():
            if name != "birder.schema.npy":
                old.writestr(name, new.read(name))
    back = import_embeddings(tmp_path / "old.npz", tmp_path / "back.birder").collection
    assert Storage.open(back.path).to_arrow().to_pylist() == collection.to_arrow().to_pylist()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_by_others_has_a_row_for_each_embedding(tmp_path: Path, save: Any) -> None:
    times = np.array(["2024-05-01", "NaT", "2024-05-03", "2024-05-04", "2024-05-05"], "datetime64[D]")
    arrays = {"emb": VECTORS.astype(">f8"), "filenames": np.array(PATHS), "species": np.array([b"owl"] * 5)}
    save(tmp_path / "a.npz", **arrays, day=times, n=np.arange(5, dtype="u2"), classes=np.array(["owl", "fox"]), lr=0.1)
    with pytest.warns(TableWarning, match="classes, lr are left out"):
        done = import_embeddings(tmp_path / "a.npz", tmp_path / "c.birder", model="m")
    rows = rows_of(done.collection)
    assert list(rows) == [path_to_uri(tmp_path / path) for path in PATHS]
    np.testing.assert_array_equal(stored(done.collection), VECTORS)
    assert [(row["species"], row["n"]) for row in rows.values()] == [("owl", i) for i in range(5)]
    assert [row["day"] for row in rows.values()][:2] == [datetime(2024, 5, 1), None]
    save(tmp_path / "f.npz", embedding=np.asfortranarray(VECTORS), other=np.zeros((3, 2)), path=np.array(PATHS))
    with pytest.warns(TableWarning, match="other is left out"):
        by_columns = import_embeddings(tmp_path / "f.npz", tmp_path / "d.birder", model="m")
    np.testing.assert_array_equal(stored(by_columns.collection), VECTORS)


def test_an_npz_that_could_run_code_or_is_damaged_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "code.npz", emb=VECTORS, path=np.array(PATHS, object))
    np.savez(tmp_path / "two.npz", x=VECTORS, y=VECTORS[:2])
    np.savez(tmp_path / "none.npz", path=np.array(PATHS))
    np.savez(tmp_path / "cut.npz", emb=VECTORS, path=np.array(PATHS))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:300])
    np.savez(tmp_path / "bits.npz", emb=VECTORS)
    data = bytearray((tmp_path / "bits.npz").read_bytes())
    data[250] ^= 255  # within the numbers: the checksum tells
    (tmp_path / "bits.npz").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "long.npz", "w") as archive, archive.open("emb.npy", "w") as member:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 1000)}
        np.lib.format.write_array_header_1_0(member, header)
    said = {
        "code": "Python objects.*no pickles",
        "two": r"several \(x, y\)",
        "none": "no matrix of floats",
        "cut": "not a zip file",
        "bits": "Bad CRC-32",
        "long": "shorter than it says",
    }
    for name, message in said.items():
        with pytest.raises(ConfigError, match=message):
            import_embeddings(tmp_path / f"{name}.npz", tmp_path / f"{name}.birder", model="m")


@pytest.mark.parametrize("form", ["ours", "named", "from 1, semicolons", "lists", "NumPy", "frame"])
def test_a_csv_of_embeddings_is_imported(tmp_path: Path, form: str) -> None:
    file, columns = tmp_path / "e.csv", {"path": PATHS, "site": ["007", "x", "", "y", "z"], "n": [1, 2, 3, 4, 5]}
    if form == "ours":
        write_features(file, PATHS, VECTORS, "m")
    elif form == "lists":
        lists = [json.dumps(vector.tolist()) for vector in VECTORS]
        pd.DataFrame(columns | {"embedding": lists}).to_csv(file, index=False)
    elif form == "NumPy":
        texts = [str(vector) for vector in VECTORS]  # with spaces, over several lines
        pd.DataFrame(columns | {"features": texts}).to_csv(file, index=False)
    elif form == "from 1, semicolons":
        wide = {f"dim {i + 1}": [str(float(value)).replace(".", ",") for value in VECTORS[:, i]] for i in range(20)}
        pd.DataFrame(columns | wide).to_csv(file, index=False, sep=";")
    else:
        numbers = {f"emb_{i}": VECTORS[:, i] for i in range(20)}
        pd.DataFrame(columns | numbers).to_csv(file, index=form == "frame")
    assert format_to_import(file).name == "csv"
    done = import_embeddings(file, tmp_path / "c.birder", model="m")
    rows = rows_of(done.collection)
    assert list(rows) == [path_to_uri(tmp_path / path) for path in PATHS]
    np.testing.assert_allclose(stored(done.collection), VECTORS, rtol=1e-6 if form != "NumPy" else 1e-4)
    if form != "ours":
        assert [(row["site"], row["n"]) for row in rows.values()][:3] == [("007", 1), ("x", 2), (None, 3)]
    assert import_embeddings(file, tmp_path / "c.birder").unchanged == 5


def test_the_dimensions_of_a_wide_table_are_those_that_are_meant(tmp_path: Path) -> None:
    wide = {f"v_{i}": VECTORS[:, i] for i in range(20)} | {f"bio{i}": np.arange(5.0) for i in range(1, 4)}
    pq.write_table(pa.table({"path": PATHS, **wide}), tmp_path / "w.parquet")
    done = import_embeddings(tmp_path / "w.parquet", tmp_path / "c.birder", model="m")
    np.testing.assert_array_equal(stored(done.collection), VECTORS)
    assert [row["bio3"] for row in rows_of(done.collection).values()] == [0, 1, 2, 3, 4]
    other = import_embeddings(tmp_path / "w.parquet", tmp_path / "d.birder", model="m", embedding="bio")
    assert other.collection.model.embedding_size == 3 and other.collection.columns["v_0"] == pa.float32()
    lines = [["path", "x0", "x1"], ["a", "1", "2"], ["b", "", ""], ["c", "1", ""]]
    with (tmp_path / "gaps.csv").open("w", newline="") as out:
        csv.writer(out).writerows(lines)
    done = import_embeddings(tmp_path / "gaps.csv", tmp_path / "e.birder", model="m")
    reasons = {Path(row["uri"]).name: row["reason"] for row in done.collection.failures()}
    assert reasons == {"b": "Its embedding is missing", "c": "Its embedding has a value that is not finite"}


@given(st.integers(2, 40), st.integers(0, 1), st.sampled_from(["emb_", "", "Feature-", "f"]), st.randoms())
def test_dimensions_come_in_the_order_of_their_numbers(count: int, first: int, prefix: str, random: Any) -> None:
    names = [f"{prefix}{i}" for i in range(first, first + count)]
    mixed = [*names, "path", "site1", "n"]
    random.shuffle(mixed)
    assert dimensions(mixed) == names
    assert dimensions([name for name in mixed if name != names[1]] if count > 2 else ["path"]) == []


def test_a_csv_without_embeddings_says_what_it_should_have(make: Make, tmp_path: Path) -> None:
    export(make({"file:///a.jpg": {"label": "owl"}}), tmp_path / "own.csv")
    (tmp_path / "ragged.csv").write_text("path,e0,e1\na,1,2\nb,3\n")
    (tmp_path / "words.csv").write_text("path,e0,e1\na,1,2\nb,3,x\n")
    (tmp_path / "cut.csv").write_text('path,embedding\na,"[0.1 0.2 ... 0.3]"\n')
    (tmp_path / "twice.csv").write_text("path,e0,e1,a b,a_b\na,1,2,3,4\n")
    said = {"own": "no columns file_name.*a column for each dimension", "ragged": "3 columns", "words": "'x'"}
    said |= {"cut": "cut short.*npy", "twice": "distinct name"}
    for name, message in said.items():
        with pytest.raises(BirderError, match=message):
            if format_to_import(tmp_path / f"{name}.csv").name == "csv":
                import_embeddings(tmp_path / f"{name}.csv", tmp_path / f"{name}.birder", model="m")
            else:
                import_predictions(tmp_path / f"{name}.csv", make({"file:///a": {}}, name="p.birder"))


def test_the_content_tells_the_format_of_a_file_with_another_ending(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VECTORS)
    np.savez(tmp_path / "a.npz", emb=VECTORS)
    write_features(tmp_path / "a.csv", PATHS, VECTORS, "m")
    shutil.copy(REFERENCE, tmp_path / "a.parquet")
    shutil.copy(PYBIOCLIP / "embed.json", tmp_path / "a.json")
    names = {"npy": "npy", "npz": "npz", "csv": "csv", "parquet": "parquet", "json": "bioclip-embed"}
    for ending, name in names.items():
        (tmp_path / f"a.{ending}").rename(tmp_path / f"{ending}.data")
        assert format_to_import(tmp_path / f"{ending}.data").name == name
    done = import_embeddings(tmp_path / "csv.data", tmp_path / "c.birder", model="m")
    np.testing.assert_allclose(stored(done.collection), VECTORS, rtol=1e-6)


def test_what_pybioclip_writes_is_imported(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PYBIOCLIP, tmp_path / "theirs"))
    done = import_embeddings(folder / "embed.json", tmp_path / "c.birder")
    given = json.loads((folder / "embed.json").read_text())
    assert done.collection.model.name == given["model"] == "local-dir:openclip"
    assert list(rows_of(done.collection)) == [path_to_uri(folder / path) for path in given["embeddings"]]
    np.testing.assert_array_equal(stored(done.collection), np.array(list(given["embeddings"].values()), "f4"))
    listed: dict[str, list[dict[str, Any]]] = {}
    for each in json.loads((folder / "predict.json").read_text()):
        listed.setdefault(each["file_name"], []).append(each)
    for name in ("species.csv", "predict.json"):
        assert import_predictions(folder / name, done.collection, model="theirs").rows == 2
        for path, found in listed.items():
            row = rows_of(done.collection)[path_to_uri(folder / path)]
            best = max(found, key=lambda each: float(each["score"]))
            assert (row["predicted_species"], row["predicted_class"]) == (best["species"], best["class"])
            assert row["predicted_score"] == pytest.approx(best["score"], rel=1e-5)
            assert row["predicted_common_name"] == (best["common_name"] or None)
    assert import_predictions(folder / "family.csv", done.collection).rows == 2
    assert all(row["predicted_family"] and not row["predicted_species"] for row in rows_of(done.collection).values())
    assert import_predictions(folder / "classes.csv", done.collection).rows == 2
    assert {row["predicted_label"] for row in rows_of(done.collection).values()} <= {"owl", "badger"}
    with pytest.raises(ConfigError, match="log of bioclip predict"):
        import_predictions(folder / "log.json", done.collection)
    for number, text in enumerate(("[]", "[1]", '[{"file_name": "a"}]', "[")):
        (tmp_path / f"{number}.json").write_text(text)
        with pytest.raises(ConfigError):
            import_predictions(tmp_path / f"{number}.json", done.collection)
