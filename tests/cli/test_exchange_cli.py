from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from birder.cli.export import export
from birder.cli.import_ import import_
from birder.errors import ConfigError, FileExistsError

REFERENCE = Path(__file__).parents[1] / "data" / "bioclip2-tol200m-1030.parquet"

app = typer.Typer()
app.command("export")(export)
app.command("import")(import_)


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.replace("│", " ").split())  # errors stand in a box


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "tol.birder"
    said = run("import", folder, REFERENCE, "--model", "imageomics/bioclip-2")
    assert "1,030 new rows; 768-dimensional embeddings of imageomics/bioclip-2." in said
    return folder


def test_second_import_finds_all_rows_there(collection: Path) -> None:
    assert "0 new rows, 1,030 already there" in run("import", collection, REFERENCE)


def test_export_format_follows_the_ending(collection: Path, tmp_path: Path) -> None:
    assert "rows in" in run("export", collection, "--to", tmp_path / "a.csv", "--where", "family = 'Orchidaceae'")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as text:
        families = {row["family"] for row in csv.DictReader(text)}
    assert families == {"Orchidaceae"}
    assert "1,030 rows" in run("export", collection, "--to", tmp_path / "e.parquet", "--format", "emb-explorer")
    given = pq.read_table(REFERENCE)
    assert pq.read_table(tmp_path / "e.parquet").select(given.column_names).equals(given.replace_schema_metadata(None))
    result = CliRunner().invoke(app, ["export", str(collection), "--to", str(tmp_path / "a.csv")])
    assert isinstance(result.exception, ConfigError | FileExistsError)
    assert "--force" in str(result.exception)
    assert "1,030 rows" in run("export", collection, "--to", tmp_path / "a.csv", "--force")


def test_values_outside_their_range_are_refused(collection: Path, tmp_path: Path) -> None:
    run("export", collection, "--to", tmp_path / "a", "--format", "camtrap-dp", "--latitude", "91", code=2)
    run("export", collection, "--to", tmp_path / "a", "--format", "nothing", code=2)
    run("export", collection, code=2)


def test_export_to_folders_and_sidecars(tmp_path: Path) -> None:
    from tests.factory import collection_of_images

    collection = collection_of_images(tmp_path, 8, labelled=5)
    photos = tmp_path / "photos"
    said = run("export", collection.path, "--to", tmp_path / "sorted", "--format", "folders")
    assert "5 copies in" in said and "3 rows have no label" in said
    assert len(list((tmp_path / "sorted").rglob("*.jpg"))) == 5
    assert "0 copies in" in run("export", collection.path, "--to", tmp_path / "sorted", "--format", "folders")
    assert "5 sidecars written" in run("export", collection.path, "--to", photos, "--format", "xmp")
    assert len(list(photos.glob("*.jpg.xmp"))) == 5
    min(photos.glob("*.jpg")).unlink()
    again = ["export", str(collection.path), "--to", str(tmp_path / "again"), "--format", "folders"]
    result = CliRunner().invoke(app, again)
    assert result.exit_code == 1 and "1 failed" in result.output and "4 copies" in result.output


@pytest.mark.parametrize(
    "options",
    [
        ["--results", "x.json"],
        ["--classifier", "x"],
        ["--latitude", "0"],
        ["--link"],
        ["--by", "species"],
        ["--images-at", "http://x"],
        ["--folder-labels"],
        ["--format", "xmp", "--link"],
        ["--format", "folders", "--results", "x.json"],
    ],
    ids=" ".join,
)
def test_options_of_another_format_are_refused(collection: Path, tmp_path: Path, options: list[str]) -> None:
    result = CliRunner().invoke(app, ["export", str(collection), "--to", str(tmp_path / "out.parquet"), *options])
    assert isinstance(result.exception, ConfigError)
    assert list(tmp_path.iterdir()) == []
