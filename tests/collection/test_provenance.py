"""Labels know where they came from: the name of a folder, a table, a person, a model."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from birder.cli import app
from birder.collection.labels import give_label, undo
from birder.collection.provenance import Source, folder_of, sources_of
from birder.collection.storage import Storage
from birder.errors import UnknownNameError
from tests.factory import collection_of_columns


def embedded(folder: Path, *options: str) -> Storage:
    run = CliRunner().invoke(app, ["embed", str(folder / "photos"), "--in", str(folder / "c.birder"), *options])
    assert run.exit_code == 0, run.output
    return Storage.open(folder / "c.birder")


def told(collection: Storage, column: str = "label") -> dict[str, Source]:
    return {uri.rsplit("/", 1)[1]: source for uri, source in sources_of(collection, column).items()}


@pytest.mark.slow
def test_embed_records_where_labels_came_from_and_people_take_precedence(tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "photos" / "trap"
    folder.mkdir(parents=True)
    for name, photo in zip("abc", sorted(photos.glob("*/*.jpg")), strict=False):
        shutil.copy(photo, folder / f"{name}.jpg")
    table = tmp_path / "t.csv"
    table.write_text("file_name,label,site\nb.jpg,owl,N\nc.jpg,,S\n")
    collection = embedded(tmp_path, "--table", str(table))
    assert told(collection) == {"a.jpg": Source("folder"), "b.jpg": Source("table")}
    assert told(collection, "site") == {"b.jpg": Source("table"), "c.jpg": Source("table")}
    ids = {row["uri"].rsplit("/", 1)[1]: row["id"] for row in collection.to_arrow().to_pylist()}
    change = give_label(collection, [ids["a.jpg"]], "label", "lynx", by="Ada")
    give_label(collection, [ids["a.jpg"]], "site", "Z")
    table.write_text("file_name,label\na.jpg,fox\nc.jpg,hare\n")
    collection = embedded(tmp_path, "--table", str(table))
    labels = {row["uri"].rsplit("/", 1)[1]: row["label"] for row in collection.to_arrow().to_pylist()}
    assert labels == {"a.jpg": "lynx", "b.jpg": "owl", "c.jpg": "hare"}, "a person's label is not overwritten"
    assert told(collection)["a.jpg"] == Source("person", "Ada", change.at)
    assert told(collection)["c.jpg"] == Source("table")
    assert told(collection, "site")["a.jpg"].kind == "person"
    (uri,) = (uri for uri in collection.to_arrow()["uri"].to_pylist() if uri.endswith("a.jpg"))
    assert sources_of(collection, "label", [uri]) == {uri: Source("person", "Ada", change.at)}


@pytest.mark.slow
def test_a_table_that_repeats_the_folders_label_becomes_its_source(tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "photos" / "owl"
    folder.mkdir(parents=True)
    shutil.copy(min(photos.glob("*/*.jpg")), folder / "a.jpg")
    assert told(embedded(tmp_path)) == {"a.jpg": Source("folder")}
    table = tmp_path / "t.csv"
    table.write_text("file_name,label\na.jpg,owl\n")
    assert told(embedded(tmp_path, "--table", str(table))) == {"a.jpg": Source("table")}


@pytest.mark.slow
def test_an_older_collection_gets_the_column_at_the_next_write(tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "photos" / "trap"
    folder.mkdir(parents=True)
    some = sorted(photos.glob("*/*.jpg"))
    shutil.copy(some[0], folder / "a.jpg")
    collection = embedded(tmp_path)
    lancedb.connect(collection.path).open_table("images").drop_columns(["label_source"])
    assert told(Storage.open(collection.path)) == {"a.jpg": Source("folder")}
    shutil.copy(some[1], folder / "b.jpg")
    collection = embedded(tmp_path)
    rows = collection.to_arrow().sort_by("uri").to_pylist()
    assert [row["label_source"] for row in rows] == [None, "folder"]
    assert told(collection) == {"a.jpg": Source("folder"), "b.jpg": Source("folder")}


def test_predictions_have_a_model_as_source_and_an_undone_label_its_former_one(tmp_path: Path) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    predicted = {"predicted_label": "owl", "predicted_by": "net 2", "predicted_at": at}
    types = {"predicted_label": pa.string(), "predicted_by": pa.string(), "predicted_at": pa.timestamp("us", "UTC")}
    rows: dict[str, dict[str, Any]] = {
        "file:///p/a%20b/1.jpg": {"label": "a b", **predicted},
        "file:///p/x/2.jpg": {"label": "y"},
        "urn:x": {},
    }
    collection = collection_of_columns(tmp_path / "c.birder", rows, types)
    first, second = "file:///p/a%20b/1.jpg", "file:///p/x/2.jpg"
    assert sources_of(collection, "predicted_label") == {first: Source("model", "net 2", at)}
    assert sources_of(collection, "label") == {first: Source("folder"), second: Source("table")}
    ids = dict(zip(collection.to_arrow()["uri"].to_pylist(), collection.to_arrow()["id"].to_pylist(), strict=True))
    for value, by in (("lynx", "Ada"), ("wolf", "Ben"), ("lynx", None)):
        give_label(collection, [ids[second]], "label", value, by=by)
    undo(collection)
    collection.see_latest()
    assert sources_of(collection, "label")[second].by == "Ben"
    undo(collection, whose=("Ben",))
    collection.see_latest()
    assert sources_of(collection, "label")[second].by == "Ada"
    undo(collection)
    collection.see_latest()
    assert sources_of(collection, "label")[second] == Source("table")
    with pytest.raises(UnknownNameError):
        sources_of(collection, "labl")


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("file:///a/b/c.jpg", "b"),
        ("file:///a/Gr%C3%B6%C3%9Fe/c.jpg#xywh=percent:1,2,3,4", "Größe"),
        ("https://x.org/c.jpg", None),
        ("urn:birder:id:3", None),
    ],
)
def test_the_folder_of_a_uri(uri: str, folder: str | None) -> None:
    assert folder_of(uri) == folder
