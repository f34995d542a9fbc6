from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from birder.cli.export import export
from birder.cli.import_ import import_
from birder.errors import ConfigError

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
    said = run("import", REFERENCE, "--to", folder, "--model", "imageomics/bioclip-2")
    assert "1,030 new rows; 768 numbers each, made by imageomics/bioclip-2." in said
    return folder


def test_a_second_import_says_that_all_is_there(collection: Path) -> None:
    assert "0 new rows, 1,030 already there" in run("import", REFERENCE, "--to", collection)


def test_export_writes_what_the_ending_says(collection: Path, tmp_path: Path) -> None:
    assert "rows in" in run("export", collection, tmp_path / "a.csv", "--where", "family = 'Orchidaceae'")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as text:
        families = {row["family"] for row in csv.DictReader(text)}
    assert families == {"Orchidaceae"}
    assert "1,030 rows" in run("export", collection, tmp_path / "e.parquet", "--for", "emb-explorer")
    given = pq.read_table(REFERENCE)
    assert pq.read_table(tmp_path / "e.parquet").select(given.column_names).equals(given.replace_schema_metadata(None))
    result = CliRunner().invoke(app, ["export", str(collection), str(tmp_path / "a.csv")])
    assert isinstance(result.exception, ConfigError)
    assert "--force" in str(result.exception)
    assert "1,030 rows" in run("export", collection, tmp_path / "a.csv", "--force")


def test_options_of_another_format_are_refused(collection: Path, tmp_path: Path) -> None:
    assert "only with --for" in run("export", collection, tmp_path / "a.csv", "--results", "x.json", code=2)
    assert "only with --for" in run("export", collection, tmp_path / "a.csv", "--classifier", "x", code=2)
    assert "only with --for" in run("export", collection, tmp_path / "a.csv", "--latitude", "0", code=2)
    run("export", collection, tmp_path / "a", "--for", "camtrap-dp", "--latitude", "91", code=2)
    run("export", collection, tmp_path / "a", "--for", "nothing", code=2)
