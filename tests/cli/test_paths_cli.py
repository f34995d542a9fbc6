"""Paths as users write them: the user's folder, and endings of files that Birder does not write."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import birder
from tests.cli.running import Session
from tests.factory import collection_of_images


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def session(home: Path) -> Iterator[Session]:
    """Birder for a user with this folder; the commands run in a folder below it."""
    collection_of_images(home, 3)
    (home / "here").mkdir()
    running = Session(f"import os; os.environ['HOME'] = {str(home)!r}", cwd=home / "here")
    yield running
    running.close()


@pytest.mark.slow
def test_a_tilde_that_the_shell_left_is_the_users_folder_in_every_path(session: Session, home: Path) -> None:
    """LanceDB and pyarrow expand it themselves, Python does not: a collection would lie in two places."""
    session.run("export", "~/c.birder", "--to=~/rows.csv")
    session.run("export", "~/c.birder", "--to=~/new/rows.parquet")
    session.run("stats", "~/c.birder", "--to=~/stats.csv", "--format", "csv")
    done = session.run("embed", "~/photos", "--in=~/c.birder", code=2)
    assert f"0 already in {home}/c.birder, 3 to do." in done.stderr, done.stderr
    session.run("backup", "~/c.birder", "~/copy")
    assert sorted(each.name for each in home.iterdir()) == [
        "c.birder",
        "copy",
        "here",
        "new",
        "photos",
        "rows.csv",
        "stats.csv",
    ]
    assert not list((home / "here").iterdir())
    assert not list(home.rglob("*.part"))


def test_python_understands_the_users_folder_as_the_command_line_does(
    home: Path, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(home / "c.birder", tmp_path / "c.birder")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    collection = birder.open_collection("~/c.birder")
    collection.label(collection.ids("true"), "owl")
    collection.export("~/rows.csv")
    assert not list((tmp_path / "here").iterdir())
    assert (tmp_path / "c.birder" / "labels.jsonl").stat().st_size and (tmp_path / "rows.csv").stat().st_size


@pytest.mark.parametrize(
    ("to", "options", "told"),
    [
        ("x.xlsx", [], "would be a spreadsheet, which Birder does not write: use .csv"),
        ("x.xlsx", ["--format", "csv"], "would be a spreadsheet, which Birder does not write: use .csv"),
        ("x.json", ["--format", "csv"], "ends like json, but --format is csv"),
        ("x.parquet", ["--format", "table"], "ends like parquet, but --format is table"),
    ],
)
def test_a_file_is_what_its_ending_says_or_refused(
    session: Session, home: Path, to: str, options: list[str], told: str
) -> None:
    done = session.run("search", "~/c.birder", "--where", "true", "--to", to, *options, code=2)
    assert told in done.stderr
    assert not (home / "here" / to).exists()
