from __future__ import annotations

import io
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from birder.analysis.projection import compute_map
from birder.cli.export import export
from birder.collection.storage import Storage
from birder.errors import CollectionError
from birder.formats.export import export as write
from tests.factory import collection_of_images

app = typer.Typer()
app.command()(export)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return collection_of_images(tmp_path_factory.mktemp("atlas"), 12)


def test_a_collection_without_a_map_says_how_to_make_one(tmp_path: Path) -> None:
    bare = collection_of_images(tmp_path, 3)
    result = CliRunner().invoke(
        app, [str(bare.path), "--to", str(tmp_path / "a.parquet"), "--format", "embedding-atlas"]
    )
    assert isinstance(result.exception, CollectionError) and "birder map" in str(result.exception)


@pytest.mark.slow
def test_embedding_atlas_gets_the_map_and_thumbnails(collection: Storage, tmp_path: Path) -> None:
    points = compute_map(collection)
    photos = collection.path.parent / "photos"
    broken = sorted(photos.iterdir())[3]
    broken.write_bytes(b"no picture")
    arguments = [str(collection.path), "--to", str(tmp_path / "a.parquet"), "--format", "embedding-atlas"]
    arguments += ["--where", "night"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    table = pq.read_table(tmp_path / "a.parquet")
    places = dict(zip(points.ids, points.xy.tolist(), strict=True))
    rows = table.to_pylist()
    assert [[row["x"], row["y"]] for row in rows] == [places[row["id"]] for row in rows]
    assert len(rows) == collection.count("night") and f"{len(rows)} rows" in result.output
    for row in rows:
        with Image.open(io.BytesIO(row["image"]["bytes"])) as picture:
            assert picture.format == "JPEG" and max(picture.size) <= 128
    assert rows[0]["file"] == str(sorted(photos.iterdir())[0])
    assert {"label", "site", "Temp C"} < set(table.column_names)
    assert not {"embedding", "uri", "sha256", "patches"} & set(table.column_names)
    CliRunner().invoke(app, [*arguments[:5], "--where", "NOT night", "--force"])
    others = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["image"] is None for row in others] == [row["file"] == str(broken) for row in others]
    assert any(row["image"] is None for row in others)


def test_rows_that_are_not_on_the_map_are_reported(collection: Storage, tmp_path: Path) -> None:
    ids = collection.to_arrow()["id"].to_pylist()
    shutil.rmtree(collection.path.parent / "photos")
    said = write(
        collection,
        tmp_path / "a.parquet",
        "embedding-atlas",
        points={ids[0]: (1.0, 2.0)},
    ).summary
    assert (
        said.startswith("1 row in") and f"{len(ids) - 1} are not on the map" in said and "1 have no thumbnail" in said
    )
    with pytest.raises(CollectionError, match="--recompute"):
        write(collection, tmp_path / "b.parquet", "embedding-atlas", points={})
    assert not (tmp_path / "b.parquet").exists()
