"""`birder activity` at the command line: what it prints and writes, and how it refuses."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from birder.cli import app
from birder.errors import FileExistsError, UnknownNameError
from tests.factory import collection_of_columns


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["activity", *map(str, arguments)])


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    days = [datetime(2024, 5, 1, 6) + timedelta(days=number) for number in range(11)]
    rows = {f"file:///{n}.jpg": {"deployment": "A4", "label": "fox", "taken_at": day} for n, day in enumerate(days)}
    return collection_of_columns(tmp_path / "c.birder", rows).path


def test_captures_are_printed_for_people_and_programs(collection: Path, tmp_path: Path) -> None:
    done = run(collection, "--format", "csv")
    assert done.exit_code == 0, done.output
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (row["deployment"], row["species"], row["captures"], row["nights"]) == ("A4", "fox", "11", "10.0")
    assert float(row["per_100_nights"]) == pytest.approx(110)
    assert "11 events, 11 captures of 1 species, 1 deployment, 10.0 trap nights." in done.stderr
    assert "dates of 1 deployments are not known" in done.stderr
    page = run(collection, "--to", tmp_path / "a.html", "--species", "fox")
    assert page.exit_code == 0 and "Wrote" in page.stderr and page.stdout == ""
    assert isinstance(run(collection, "--to", tmp_path / "a.html").exception, FileExistsError)
    assert isinstance(run(collection, "--species", "fix").exception, UnknownNameError)
    assert run(collection, "--to", tmp_path / "a.xyz").exit_code == 2
