"""`birder sequences` and `birder shift-time` at the command line: what they print, and how they refuse."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.running import Session, shared_session
from tests.factory import collection_of_columns

pytestmark = pytest.mark.slow
NOON = datetime(2024, 5, 1, 12)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return shared_session().at(tmp_path_factory.mktemp("here"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows = {
        f"file:///A4/{n}.jpg": {"deployment": "A4", "taken_at": NOON + timedelta(seconds=50 * n), "label": "fox"}
        for n in range(3)
    }
    return collection_of_columns(tmp_path / "c.birder", rows | {"file:///x.jpg": {"taken_at": None}}).path


def test_sequences_are_listed_shifted_and_shifted_back(session: Session, path: Path) -> None:
    done = session.run("sequences", path, "--format", "csv")
    first, alone = list(csv.DictReader(done.stdout.splitlines()))
    assert (first["deployment"], first["images"], first["labels"]) == ("A4", "3", "fox")
    assert (first["start"], first["end"]) == ("2024-05-01T12:00:00", "2024-05-01T12:01:40")
    assert (alone["start"], alone["images"]) == ("", "1")
    assert "2 sequences, with gaps of at most 60 seconds; 1 row has no time: each image stays alone." in done.stderr
    assert "4 rows are in other sequences than before." in done.stderr
    shifted = session.run("shift-time", path, "--where", "uri LIKE '%2.jpg'", "--by", "-1d")
    assert "the times of 1 row shifted by -1 day, 0:00:00; 1 are in other sequences." in shifted.stderr
    act = shifted.stderr.split("--act ")[1].strip()
    assert "1 row restored" in session.run("undo", path, "--act", act).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "+1h"], "Say which rows to shift"),
        (["--where", "true"], "Say how far the clock was wrong"),
        (["--where", "true", "--true", "2024-05-01T12:00"], "Say how far the clock was wrong"),
        (["--where", "true", "--by", "soon"], "is not a duration"),
    ],
)
def test_a_shift_that_says_too_little_is_refused(
    session: Session, path: Path, arguments: list[str], message: str
) -> None:
    done = session.run("shift-time", path, *arguments, code=2)
    assert message in " ".join(done.stderr.split())
