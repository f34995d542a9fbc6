"""Against what birder/eval/_embeddings.py of the published package does with the file; tests/peers runs that itself."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from birder.errors import ConfigError, UnknownNameError
from birder.formats.export import export
from tests.formats.conftest import Make


def test_samples_labels_and_embeddings_are_as_the_published_package_writes_them(make: Make, tmp_path: Path) -> None:
    rows = {
        "file:///a/owl%201.jpg": {"label": "owl"},
        "https://a.org/2.jpg": {"label": "ant"},
        "file:///a/3.jpg": {"label": "owl"},
        "file:///a/4.jpg": {},
    }
    collection = make(rows)
    report = export(collection, tmp_path / "e.parquet", "birder-eval")
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.column_names == ["sample", "label", "embedding"]
    assert table.schema.types == [pa.string(), pa.int64(), pa.list_(pa.float32(), 4)]
    assert table["sample"].to_pylist() == ["/a/owl 1.jpg", "https://a.org/2.jpg", "/a/3.jpg", "/a/4.jpg"]
    assert table["label"].to_pylist() == [1, 0, 1, -1]
    assert table["embedding"].to_pylist() == collection.to_arrow()["embedding"].to_pylist()
    assert json.loads(table.schema.metadata[b"class_to_idx"]) == {"ant": 0, "owl": 1}
    assert str(report).splitlines()[1:] == ["1 row has no label: its label is -1."]


def test_any_column_of_text_names_the_classes(make: Make, tmp_path: Path) -> None:
    rows = {"file:///a": {"label": "owl", "site": "north"}, "file:///b": {"label": "owl", "site": "east", "depth": 2}}
    collection = make(rows, {"site": pa.string(), "depth": pa.int64()})
    export(collection, tmp_path / "e.parquet", "birder-eval", by="site")
    assert pq.read_table(tmp_path / "e.parquet")["label"].to_pylist() == [1, 0]
    with pytest.raises(ConfigError, match="Choose a text column"):
        export(collection, tmp_path / "f.parquet", "birder-eval", by="depth")
    with pytest.raises(UnknownNameError, match="sites"):
        export(collection, tmp_path / "f.parquet", "birder-eval", by="sites")
    assert not (tmp_path / "f.parquet").exists()


def test_images_that_their_file_name_does_not_tell_apart_are_counted(make: Make, tmp_path: Path) -> None:
    collection = make({"file:///a/1.jpg": {"label": "x"}, "file:///b/1.png": {"label": "y"}, "file:///b/2.png": {}})
    report = export(collection, tmp_path / "e.parquet", "birder-eval")
    assert "1 row has the file name of another" in str(report)
