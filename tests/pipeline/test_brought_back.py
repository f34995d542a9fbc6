"""Exported tables that come back from a spreadsheet: what was changed goes into the rows, and nothing else does."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import birder
from birder.collection.labels import give_label
from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.pipeline.run import encoder_spec, run_embed
from tests.factory import collection_of_columns
from tests.pipeline.means import draw

Edit = Callable[[dict[str, str]], None]


def edited(collection: Storage, to: Path, edit: Edit, *, without: str | None = None, separator: str = ",") -> Path:
    """The collection as CSV, each line of it changed."""
    birder.open_collection(collection.path).export(to, force=True)
    with to.open(newline="", encoding="utf-8") as text:
        lines = list(csv.DictReader(text))
    for line in lines:
        edit(line)
    names = [name for name in lines[0] if name != without]
    with to.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, names, extrasaction="ignore", delimiter=separator)
        writer.writeheader()
        writer.writerows(lines)
    return to


def rows_of(collection: Storage) -> dict[str, dict[str, Any]]:
    return {row["uri"]: row for row in Storage.open(collection.path).to_arrow().to_pylist()}


def bring(collection: Storage, table: Path, images: tuple[Path, ...] = ()) -> Any:
    opened = Storage.open(collection.path)
    return run_embed(opened.path, opened, images, encoder_spec(opened), table=table)[2]


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    """Rows of files that are not here, one of them a box; with labels by a folder and by a person, and predictions."""
    uris = [f"file:///trap/{i} ö.jpg" for i in range(5)] + ["file:///trap/0.jpg#xywh=percent:10,10,20,20"]
    rows = {
        uri: {"label": "cats", "label_source": "folder", "site": "007", "small": i / 3, "predicted_label": "owl"}
        for i, uri in enumerate(uris)
    }
    types = {"site": pa.string(), "small": pa.float32(), "predicted_label": pa.string(), "n": pa.int64()}
    made = collection_of_columns(tmp_path / "c.birder", rows, types)
    give_label(made, made.to_arrow()["id"].to_pylist()[:1], "label", "lynx", by="Ada")
    return Storage.open(made.path)


def test_a_table_that_nobody_changed_changes_nothing(collection: Storage, tmp_path: Path) -> None:
    before = rows_of(collection)
    report = bring(collection, edited(collection, tmp_path / "t.csv", lambda line: None))
    assert (report.updated, report.table.rows, report.table.without_file) == (0, 6, [])
    assert rows_of(collection) == before  # the name of a folder is still one


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("without", [None, "uri", "id"])
def test_cells_that_were_changed_come_back(
    collection: Storage, tmp_path: Path, without: str | None, separator: str
) -> None:
    before = rows_of(collection)

    def edit(line: dict[str, str]) -> None:
        number = int(line["uri"].partition("trap/")[2][0])
        line["predicted_label"] = line["sha256"] = "nonsense"
        line["checked"] = "true" if number == 1 else ""
        if number == 0:
            line["label"] = "fox"  # of a person's row too, and of the box
        if number == 2:
            line |= {"species": "Lynx lynx", "site": "8", "small": "", "n": "3", "label": ""}

    table = edited(collection, tmp_path / "t.csv", edit, without=without, separator=separator)
    report = bring(collection, table)
    assert report.table.rows == 6 and report.updated == 3
    after = rows_of(collection)
    changed = {
        uri: {name: value for name, value in row.items() if before[uri].get(name) != value}
        for uri, row in after.items()
    }
    uris = [f"file:///trap/{i} ö.jpg" for i in range(5)] + ["file:///trap/0.jpg#xywh=percent:10,10,20,20"]
    assert changed[uris[0]] == {}  # a person named it: this stays
    assert changed[uris[1]] == {"checked": True}
    assert changed[uris[2]] == {"species": "Lynx lynx", "site": "8", "n": 3}
    assert changed[uris[5]] == {"label": "fox", "label_source": "table"}
    assert changed[uris[3]] == changed[uris[4]] == {}
    assert bring(collection, table).updated == 0


@pytest.mark.slow
def test_rows_are_found_by_their_id_after_their_files_have_moved_and_new_images_by_their_uri(tmp_path: Path) -> None:
    draw(tmp_path, 3)
    shutil.copy(Path(__file__).parents[1] / "data/birder/vit_tiny_p16_pn_test.pt", tmp_path / "vit_b16_pn_tiny.pt")
    model = str(tmp_path / "vit_b16_pn_tiny.pt")
    made, _ = birder.embed(tmp_path / "photos", tmp_path / "c.birder", model, progress=None)
    storage = Storage.open(made.path)

    def edit(line: dict[str, str]) -> None:
        line["site"] = Path(line["uri"]).stem

    table = edited(storage, tmp_path / "t.csv", edit)
    (tmp_path / "photos").rename(tmp_path / "moved")
    made.relocate(tmp_path / "photos", tmp_path / "moved")
    report = birder.embed([], made.path, table=table, progress=None)[1]
    assert (report.total, report.updated, report.table and report.table.rows) == (0, 3, 3)
    rows = rows_of(storage)
    assert {Path(uri).stem: row["site"] for uri, row in rows.items()} == {f"{i:04}": f"{i:04}" for i in range(3)}
    _, report = birder.embed(tmp_path / "moved", tmp_path / "d.birder", model, table=table, progress=None)
    assert report.table is not None and len(report.table.without_file) == 3  # that folder is gone
    (tmp_path / "moved").rename(tmp_path / "photos")
    other, report = birder.embed(tmp_path / "photos", tmp_path / "e.birder", model, table=table, progress=None)
    assert report.table is not None and report.table.matched == 3
    assert sorted(other.to_arrow()["site"].to_pylist()) == ["0000", "0001", "0002"]


def test_what_does_not_fit_is_refused_and_changes_nothing(collection: Storage, tmp_path: Path) -> None:
    before = rows_of(collection)

    def words(line: dict[str, str]) -> None:
        line["n"] = "many"

    with pytest.raises(ConfigError, match="The column n of .* not of the type int64"):
        bring(collection, edited(collection, tmp_path / "words.csv", words))
    (tmp_path / "twice.csv").write_text("uri,site\nfile:///a,1\nfile:///a,2\n")
    with pytest.raises(ConfigError, match="twice, in rows 2 and 3"):
        bring(collection, tmp_path / "twice.csv")
    (tmp_path / "none.csv").write_text("id,uri,site\n,,1\n")
    with pytest.raises(ConfigError, match="does not name its rows"):
        bring(collection, tmp_path / "none.csv")
    (tmp_path / "names.csv").write_text("file_name,site\na.jpg,1\n")
    with pytest.raises(ConfigError, match="Name the files or folders"):
        bring(collection, tmp_path / "names.csv")
    (tmp_path / "others.csv").write_text("uri,site\nfile:///nowhere.jpg,1\n")
    report = bring(collection, tmp_path / "others.csv")
    assert (report.updated, report.table.rows, report.table.without_file) == (0, 0, ["/nowhere.jpg"])
    assert rows_of(collection) == before
