"""The table of formats: what it promises of each, the modules do."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from birder.collection.storage import Storage
from birder.errors import ConfigError, UnknownNameError
from birder.formats.export import ExportOptions, export
from birder.formats.table import (
    FORMATS,
    ExportFormat,
    Format,
    as_markdown,
    export_formats,
    format_to_import,
    formats_that_read,
)
from birder.sources.find import ImageList
from tests.formats.conftest import Make

ROWS = pytest.mark.parametrize("row", FORMATS.values(), ids=FORMATS)


@pytest.fixture
def collection(make: Make) -> Storage:
    return make({"file:///photos/a.jpg": {"label": "owl"}})


@ROWS
def test_a_module_reads_and_writes_what_its_row_says(row: Format) -> None:
    module = row.load()
    reading = {"boxes": "read_boxes", "embeddings": "read_embeddings", "predictions": "read_predictions"}
    for kind, function in reading.items():
        assert hasattr(module, function) == (kind in row.reads), function
    assert isinstance(getattr(module, "IMAGES", None), ImageList) == ("images" in row.reads)
    assert hasattr(module, "export") == bool(row.writes)
    if row.writes:
        parameters = inspect.signature(module.export).parameters
        assert list(parameters) == ["collection", "rows", "to", "force", *row.options]


def test_every_option_of_export_belongs_to_a_format() -> None:
    assert ExportOptions.__annotations__.keys() == {option for row in FORMATS.values() for option in row.options}


def test_the_type_of_formats_that_can_be_written_lists_them_all() -> None:
    assert list(get_args(ExportFormat)) == export_formats()


def test_formats_that_share_an_ending_and_are_imported_tell_their_files_apart(tmp_path: Path) -> None:
    shared: dict[str, list[Format]] = {}
    for row in formats_that_read("embeddings", "predictions"):
        for ending in row.endings:
            shared.setdefault(ending, []).append(row)
    for rows in shared.values():
        assert all(hasattr(row.load(), "recognizes") for row in rows[:-1]), rows
    (tmp_path / "a.json").write_text('{"predictions": []}')
    (tmp_path / "b.json").write_text('{"model": "m", "embeddings": {}}')
    (tmp_path / "parts").mkdir()
    names = {name: format_to_import(tmp_path / name).name for name in ("a.json", "b.json", "parts", "c.csv", "d.npy")}
    assert names == {
        "a.json": "speciesnet",
        "b.json": "bioclip-embed",
        "parts": "parquet",
        "c.csv": "bioclip-predict",
        "d.npy": "npy",
    }


def test_an_option_of_another_format_is_refused_with_the_formats_it_belongs_to(
    collection: Storage, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="parquet has no option link; it is one of: folders"):
        export(collection, tmp_path / "a.parquet", link=True)
    with pytest.raises(ConfigError, match="csv has no option by; it is one of: birder-eval, xmp, folders"):
        export(collection, tmp_path / "a.csv", by="label")
    assert list(tmp_path.glob("a.*")) == []
    assert str(export(collection, tmp_path / "a.csv", link=False, by=None)).startswith("1 row in")


def test_an_unknown_format_and_an_ending_of_another_are_refused(collection: Storage, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="parquet"):
        export(collection, tmp_path / "a", "parqet")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError):
        export(collection, tmp_path / "a.json", "speciesnet")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"does not end in \.parquet\. For emb-explorer, name it a\.parquet"):
        export(collection, tmp_path / "a.csv", "emb-explorer")


def test_the_table_loads_no_format_and_nothing_heavy() -> None:
    script = "import sys, birder.formats.table; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if name.startswith("birder.formats.")] == ["birder.formats.table"]
    assert not {"pyarrow", "numpy", "lancedb"} & set(loaded)


def test_sources_know_no_foreign_format() -> None:
    package = Path(__file__).parents[2] / "birder" / "sources"
    for file in package.glob("*.py"):
        text = file.read_text("utf-8").lower()
        assert "megadetector" not in text and "datapackage.json" not in text, file.name


def test_the_documentation_shows_the_table_of_formats() -> None:
    page = (Path(__file__).parents[2] / "docs" / "exchange.md").read_text("utf-8")
    assert "\n".join(as_markdown()) in page
