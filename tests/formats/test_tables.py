from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError, FileExistsError, FilterError, WriteError
from birder.formats.export import export
from birder.formats.import_embeddings import import_embeddings
from birder.formats.snapshot import Snapshot
from tests.formats.conftest import Make

ROWS = {
    "file:///a/owl.jpg": {"label": "owl", "seen": 3, "sure": True, "latitude": 51.5},
    "file:///a/wren,%20%22x%22.jpg": {"label": 'wren, "x"\nline', "seen": None, "sure": False},
    "file:///b/none.jpg": {"label": None, "seen": 2**60 + 1, "sure": None, "taken_at": datetime(2021, 1, 2, 3, 4, 5)},
}
TYPES = {"seen": pa.int64(), "sure": pa.bool_()}


@pytest.fixture
def collection(make: Make) -> Storage:
    return make(ROWS, TYPES)


def test_parquet_has_every_column_and_row_as_the_collection_with_its_card(collection: Storage, tmp_path: Path) -> None:
    said = str(export(collection, tmp_path / "out" / "a.parquet"))
    assert said.startswith("3 rows")
    file = pq.ParquetFile(tmp_path / "out" / "a.parquet")
    assert file.read().equals(collection.to_arrow())
    assert file.schema_arrow.metadata == collection.to_arrow().schema.metadata
    assert file.schema_arrow.field("embedding").type == pa.list_(pa.float32(), 4)
    assert {file.metadata.row_group(0).column(i).compression for i in range(file.metadata.num_columns)} == {"ZSTD"}
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["a.parquet"]  # no .part


def test_csv_has_all_but_the_embedding_and_reads_back(collection: Storage, tmp_path: Path) -> None:
    export(collection, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as text:
        lines = list(csv.DictReader(text))
    assert list(lines[0]) == [name for name in collection.columns if name != "embedding"]
    assert [line["label"] for line in lines] == ["owl", 'wren, "x"\nline', ""]
    assert [line["seen"] for line in lines] == ["3", "", str(2**60 + 1)]
    assert [line["sure"] for line in lines] == ["true", "false", ""]
    assert lines[2]["taken_at"] == "2021-01-02T03:04:05"
    assert lines[0]["modified"] == "2020-09-13T12:26:40+00:00"
    frame = pd.read_csv(tmp_path / "a.csv", parse_dates=["taken_at"])
    assert frame["latitude"].tolist()[0] == 51.5


def test_npz_is_read_without_pickle_and_marks_nulls(collection: Storage, tmp_path: Path) -> None:
    export(collection, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert {name for name in arrays.files if "." not in name} == set(collection.columns)
        assert arrays["embedding"].dtype == np.float32
        vectors = np.array(collection.to_arrow()["embedding"].to_pylist(), "f4")
        assert np.array_equal(arrays["embedding"], vectors)
        assert arrays["uri"].tolist() == list(ROWS)
        assert arrays["label"].tolist() == ["owl", 'wren, "x"\nline', ""]
        assert arrays["label.is_null"].tolist() == [False, False, True]
        assert arrays["seen"].tolist() == [3, 0, 2**60 + 1]
        assert arrays["seen.is_null"].tolist() == [False, True, False]
        assert arrays["sure"].dtype == bool
        assert np.isnan(arrays["latitude"][1])
        assert arrays["taken_at"][2] == np.datetime64("2021-01-02T03:04:05")
        assert arrays["modified"][0].item() == datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC).replace(tzinfo=None)
        assert "uri.is_null" not in arrays.files
        assert '"name": "tiny"' in str(arrays["birder.model"])


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.npz"])
def test_a_filter_chooses_exported_rows(collection: Storage, tmp_path: Path, name: str) -> None:
    report = export(collection, tmp_path / name, where="label = 'owl' OR label IS NULL")
    assert report.summary.startswith("2 rows") and report.failed == ()
    with pytest.raises(CollectionError, match="No rows match the filter"):
        export(collection, tmp_path / f"b{name}", where="label = 'swan'")
    with pytest.raises(FilterError, match="Invalid filter"):
        export(collection, tmp_path / f"b{name}", where="labl ===")
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == [name]


def test_existing_files_are_replaced_only_by_force_and_stay_on_errors(collection: Storage, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="--force"):
        export(collection, file)
    with pytest.raises(FilterError):
        export(collection, file, where="nonsense(", force=True)
    assert file.read_text() == "mine"
    export(collection, file, force=True)
    assert file.read_text().startswith('"id"')
    with pytest.raises(ConfigError, match="Use .parquet, .csv, .npz"):
        export(collection, tmp_path / "a.xlsx")
    (tmp_path / "locked").write_text("")
    with pytest.raises(WriteError, match="Cannot write"):
        export(collection, tmp_path / "locked" / "a.csv")


def test_a_snapshot_does_not_see_what_is_written_after_it(make: Make) -> None:
    collection = make({"file:///a": {}})
    snapshot = Snapshot(collection)
    make({"file:///b": {}})
    assert snapshot.count() == 1
    assert [row["uri"] for table in snapshot.batches(["uri"]) for row in table.to_pylist()] == ["file:///a"]
    assert Snapshot(collection).count() == 2


@pytest.mark.slow
def test_many_rows_are_exported_in_batches(tmp_path: Path) -> None:
    size, rows = 256, 60_000
    vectors = np.random.default_rng(0).normal(size=(rows, size)).astype("f4")
    table = pa.table(
        {
            "uuid": [f"{i:032x}" for i in range(rows)],
            "emb": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), size),
        }
    )
    pq.write_table(table, tmp_path / "theirs.parquet")
    del table
    collection = import_embeddings(tmp_path / "theirs.parquet", tmp_path / "c.birder", model="wide").collection
    seen = 0
    for part in Snapshot(collection).batches():
        assert part.num_rows <= 2 * 8192
        seen += part.num_rows
    assert seen == rows
    export(collection, tmp_path / "ours.parquet")
    file = pq.ParquetFile(tmp_path / "ours.parquet")
    assert file.num_row_groups > 3
    back = file.read(columns=["embedding"])["embedding"].combine_chunks().flatten().to_numpy()
    assert np.array_equal(back.reshape(-1, size), vectors)
