"""Sequences in a collection, and clocks set right: what follows, what is refused, and what a crash leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import birder
from birder.collection.sequencing import clock_error, duration, sequences_follow
from birder.collection.storage import Storage
from birder.collection.times import read_times
from birder.errors import CollectionError, ConfigError
from tests.factory import collection_of_columns

NOON = datetime(2024, 5, 1, 12)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def collection(tmp_path: Path) -> birder.Collection:
    rows: dict[str, dict[str, Any]] = {
        f"file:///{place}/{number}.jpg": {"deployment": place, "taken_at": at(second)}
        for place in ("A4", "B1")
        for number, second in enumerate((0, 30, 90, 500))
    }
    rows["file:///x.jpg"] = {"taken_at": None}
    collection_of_columns(tmp_path / "c.birder", rows)
    return birder.open_collection(tmp_path / "c.birder")


def state(collection: birder.Collection) -> dict[str, Any]:
    opened = birder.open_collection(collection.path)
    return {row["uri"]: row for row in opened.to_arrow(["uri", "taken_at", "sequence"]).to_pylist()}


def ids(collection: birder.Collection) -> dict[str, str]:
    return {row["uri"]: row["id"] for row in collection.to_arrow(["uri", "id"]).to_pylist()}


def test_rows_get_the_id_of_the_first_of_their_sequence(collection: birder.Collection) -> None:
    found = collection.sequences()
    assert (len(found), found.changed, found.untimed, found.gap) == (5, 9, 1, 60)
    of, row = ids(collection), state(collection)
    assert {row[f"file:///A4/{n}.jpg"]["sequence"] for n in range(3)} == {of["file:///A4/0.jpg"]}
    assert row["file:///A4/3.jpg"]["sequence"] == of["file:///A4/3.jpg"]
    assert row["file:///x.jpg"]["sequence"] == of["file:///x.jpg"]
    assert [(each["deployment"], each["images"]) for each in found] == [
        ("A4", 3), ("A4", 1), ("B1", 3), ("B1", 1), (None, 1)
    ]  # fmt: skip
    version = Storage.open(collection.path).version
    assert collection.sequences().changed == 0
    assert Storage.open(collection.path).version == version, "nothing is written where nothing changes"


def test_the_gap_is_kept_for_the_runs_that_follow(collection: birder.Collection) -> None:
    assert len(collection.sequences(gap=30)) == 7
    again = sequences_follow(Storage.open(collection.path))
    assert again is not None and (again.gap, again.changed) == (30, 0)
    assert len(collection.sequences()) == 7
    with pytest.raises(ConfigError, match="0 seconds or more"):
        collection.sequences(gap=-1)


def test_a_persons_sequence_stays_and_so_do_those_of_a_table_after_a_run(collection: birder.Collection) -> None:
    assert sequences_follow(Storage.open(collection.path)) is not None
    collection.label(["file:///B1/3.jpg"], "visit 1", column="sequence")
    collection.sequences()
    assert state(collection)["file:///B1/3.jpg"]["sequence"] == "visit 1"


def test_sequences_that_a_table_gave_are_kept_by_a_run(tmp_path: Path) -> None:
    rows = {"file:///1.jpg": {"taken_at": NOON, "sequence": "mine"}}
    storage = collection_of_columns(tmp_path / "c.birder", rows)
    assert sequences_follow(storage) is None
    assert storage.to_arrow()["sequence"].to_pylist() == ["mine"]


def test_deployments_of_former_collections_fill_the_column(tmp_path: Path) -> None:
    rows = {f"file:///{n}.jpg": {"taken_at": NOON, "deploymentID": "d1" if n < 2 else None} for n in range(3)}
    collection_of_columns(tmp_path / "c.birder", rows, {"deploymentID": pa.string()})
    opened = birder.open_collection(tmp_path / "c.birder")
    assert len(opened.sequences()) == 2
    assert opened.to_arrow(["deployment"])["deployment"].to_pylist() == ["d1", "d1", None]


def test_a_shift_changes_the_times_of_matching_rows_and_the_sequences_follow(collection: birder.Collection) -> None:
    collection.sequences()
    before, of = state(collection), ids(collection)
    done = collection.shift_time("-470s", where="uri LIKE '%A4/3.jpg' OR taken_at IS NULL", author="Ann")
    assert (done.rows, done.untimed, done.sequences) == (1, 1, 1)
    after = state(collection)
    assert after["file:///A4/3.jpg"]["taken_at"] == at(30)
    assert after["file:///A4/3.jpg"]["sequence"] == of["file:///A4/0.jpg"]
    assert {uri for uri in after if after[uri] != before[uri]} == {"file:///A4/3.jpg"}
    (shift,) = read_times(collection.path).shifts
    assert (shift.act, shift.by, shift.microseconds, shift.rows) == (done.act, "Ann", -470_000_000, 1)
    undone = collection.undo(done)
    assert (undone.restored, undone.skipped) == (1, 0)
    assert state(collection) == before, "the original times are back"
    with pytest.raises(CollectionError, match="already been undone"):
        collection.undo(done.act)
    with pytest.raises(CollectionError, match="could be undone"):
        collection.undo(read_times(collection.path).shifts[-1].act)


def test_rows_whose_time_has_changed_since_stay_as_they_are(collection: birder.Collection) -> None:
    first = collection.shift_time("+1h", where="deployment = 'A4'")
    second = collection.shift_time("+1h", where="uri LIKE '%A4/0.jpg'")
    undone = collection.undo(first)
    assert (undone.restored, undone.skipped) == (3, 1)
    assert state(collection)["file:///A4/0.jpg"]["taken_at"] == at(7200)
    assert collection.undo(second).restored == 1


def test_a_clock_is_set_right_by_one_image(collection: birder.Collection) -> None:
    done = collection.shift_time(where="deployment = 'A4'", true="2024-05-01T12:00", shown="2023-01-01T00:04")
    assert done.delta == datetime(2024, 5, 1, 12) - datetime(2023, 1, 1, 0, 4)
    assert state(collection)["file:///A4/0.jpg"]["taken_at"] == NOON + done.delta
    assert state(collection)["file:///A4/0.jpg"]["sequence"] is None, "sequences are made only when asked for"


def test_nothing_changes_where_a_shift_is_refused(collection: birder.Collection) -> None:
    before = state(collection)
    for by, where, message in (
        ("+1h", "deployment = 'C'", "of 0 rows that match, none has a time"),
        ("+1h", "taken_at IS NULL", "of 1 row that matches, none has a time"),
        ("+450000w", None, "out of the years"),
        ("0s", None, "changes nothing"),
    ):
        with pytest.raises((CollectionError, ConfigError), match=message):
            collection.shift_time(by, where=where)
    with pytest.raises(ConfigError, match="how far"):
        collection.shift_time("+1h", true="2024-05-01T12:00", shown="2024-05-01T12:00")
    with pytest.raises(ConfigError, match="how far"):
        collection.shift_time(true="2024-05-01T12:00")
    assert state(collection) == before and read_times(collection.path).shifts == ()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("+1h", 3600),
        ("1h", 3600),
        ("-2d3h", -(2 * 86400 + 3 * 3600)),
        ("+00:30:00", 1800),
        ("-01:00", -3600),
        ("1w", 604800),
        ("1.5s", 1.5),
        ("90s", 90),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "1", "h", "+-1h", "1h1h", "3h2d", "1:99", "1 hour", "9e9h", "99999999999w"])
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a duration"):
        duration(text)


def test_times_of_a_clock_must_be_times() -> None:
    with pytest.raises(ConfigError, match="is not a time"):
        clock_error("noon", "2024-05-01")
    with pytest.raises(ConfigError, match="without a zone"):
        clock_error("2024-05-01T12:00Z", "2024-05-01T12:00")


CRASH = """
import os, sys
from datetime import timedelta
from birder.collection import times as module
from birder.collection.sequencing import shift_time
from birder.collection.storage import Storage
step, path = sys.argv[1:]
storage = Storage.open(path)
def die(*args, **kwargs):
    os._exit(9)
if step == "before it is written down":
    module.write_times = die
elif step == "before the rows":
    module.finish_shift = die
elif step == "after the rows":
    write = module.write_times
    module.write_times = lambda path, times: write(path, times) if times.pending else die()
shift_time(storage, timedelta(hours=1), "deployment = 'A4'")
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", ["before it is written down", "before the rows", "after the rows"])
def test_a_crash_leaves_old_times_or_new_ones_and_the_next_writer_finishes(
    collection: birder.Collection, step: str
) -> None:
    collection.sequences()
    before = state(collection)
    assert subprocess.run([sys.executable, "-c", CRASH, step, str(collection.path)]).returncode == 9
    shifted = {
        uri: row["taken_at"] + timedelta(hours=1) if "A4" in uri else row["taken_at"] for uri, row in before.items()
    }
    now = {uri: row["taken_at"] for uri, row in state(collection).items()}
    assert now == (shifted if step == "after the rows" else {uri: row["taken_at"] for uri, row in before.items()})
    with Storage.open(collection.path).writing():
        pass
    times = read_times(collection.path)
    assert times.pending is None
    if step == "before it is written down":
        assert times.shifts == () and state(collection) == before
        return
    assert {uri: row["taken_at"] for uri, row in state(collection).items()} == shifted
    birder.open_collection(collection.path).undo(times.shifts[0].act)
    assert state(collection) == before


def test_a_damaged_file_of_times_is_reported(collection: birder.Collection) -> None:
    (collection.path / "times.json").write_text(json.dumps({"gap": 60}))
    with pytest.raises(CollectionError, match=r"times\.json cannot be read.*Restore it"):
        collection.sequences()
