"""Sequences: against the events of a package that Agouti exported, and what must hold whatever the rows are."""

from __future__ import annotations

import csv
import itertools
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.analysis.sequences import count_animals, find_sequences, sequence_ids, summarise_sequences
from birder.collection.storage import Storage
from birder.sources import image_of
from tests.factory import collection_of_columns

DATA = Path(__file__).parents[1] / "data" / "camtrap-dp"
NOON = datetime(2024, 5, 1, 12)
ROW = st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 600)), st.integers(0, 10**6))


def lines(name: str) -> list[dict[str, str]]:
    with (DATA / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table_of(rows: list[tuple[Any, Any, str]]) -> pa.Table:
    """Rows of (deployment, time, uri); a row's id is its uri."""
    deployments, moments, uris = (list(column) for column in zip(*rows, strict=True))
    return pa.table(
        {
            "id": pa.array(uris, pa.string()),
            "uri": pa.array(uris, pa.string()),
            "taken_at": pa.array(moments, pa.timestamp("us")),
            "deployment": pa.array(deployments, pa.string()),
        }
    )


def test_sequences_do_not_cross_the_events_of_a_package_that_agouti_exported() -> None:
    media = lines("media")
    rows = [
        (line["deploymentID"], datetime.fromisoformat(line["timestamp"]).replace(tzinfo=None), line["mediaID"])
        for line in media
    ]
    found = dict(zip([row[2] for row in rows], sequence_ids(table_of(rows)).to_pylist(), strict=True))
    event_of: dict[str, str] = {line["mediaID"]: line["eventID"] for line in lines("observations") if line["mediaID"]}
    events: dict[str, set[str]] = defaultdict(set)
    for medium, event in event_of.items():
        events[found[medium]].add(event)
    assert len(event_of) > 100 and all(len(each) == 1 for each in events.values())
    by_event = [{found[m] for m, e in event_of.items() if e == event} for event in set(event_of.values())]
    assert all(len(each) == 1 for each in by_event), "an event is one sequence"


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=30, unique_by=lambda row: row[2]), st.integers(0, 120), st.randoms())
def test_what_holds_for_all_sequences(rows: list[tuple[int, int | None, int]], gap: int, random: Any) -> None:
    given_rows: list[tuple[Any, Any, str]] = [
        (f"d{place}", None if second is None else NOON + timedelta(seconds=second), f"file:///{name:07d}.jpg")
        for place, second, name in rows
    ]
    of = dict(zip([row[2] for row in given_rows], sequence_ids(table_of(given_rows), gap).to_pylist(), strict=True))
    members: dict[str, list[tuple[Any, Any, str]]] = defaultdict(list)
    for row in given_rows:
        members[of[row[2]]].append(row)
    last: dict[str, list[datetime]] = defaultdict(list)
    for name, some in members.items():
        assert len({row[0] for row in some}) == 1, "one deployment"
        if some[0][1] is None:
            assert [row[2] for row in some] == [name], "without a time: alone"
            continue
        some.sort(key=lambda row: (row[1], row[2]))
        assert some[0][2] == name, "its id is that of the first"
        assert all((b[1] - a[1]).total_seconds() <= gap for a, b in itertools.pairwise(some))
        last[some[0][0]] += [some[0][1], some[-1][1]]
    for ends in last.values():
        ordered = sorted(zip(ends[::2], ends[1::2], strict=True))
        assert all((b[0] - a[1]).total_seconds() > gap for a, b in itertools.pairwise(ordered))
    shuffled = given_rows.copy()
    random.shuffle(shuffled)
    assert dict(zip([row[2] for row in shuffled], sequence_ids(table_of(shuffled), gap).to_pylist(), strict=True)) == of
    timed = sorted((row for row in given_rows if row[1] is not None), key=lambda row: (row[1], row[2]))
    if timed:  # without the latest image, the others keep their sequences
        rest = [row for row in given_rows if row is not timed[-1]]
        if rest:
            ids = sequence_ids(table_of(rest), gap).to_pylist()
            assert ids == [of[row[2]] for row in rest]


def test_boxes_and_frames_belong_to_their_image() -> None:
    assert image_of("file:///a.jpg") == "file:///a.jpg"
    assert image_of("file:///a.jpg#xywh=percent:1,2,3,4") == "file:///a.jpg"
    assert image_of("file:///a.mp4#t=npt:12.5&xywh=percent:1,2,3,4") == "file:///a.mp4#t=npt:12.5"
    assert image_of("file:///a.tar#one.jpg") == "file:///a.tar#one.jpg"
    boxes = [(None, None, f"file:///x/a.jpg#xywh=percent:{n},0,1,1") for n in range(3)]
    found = sequence_ids(table_of([*boxes, (None, None, "file:///x/b.jpg")])).to_pylist()
    assert found == [boxes[0][2]] * 3 + ["file:///x/b.jpg"], "the boxes of an image without a time stay together"


def test_images_without_a_deployment_are_those_of_their_folder() -> None:
    rows = [(None, NOON, "file:///x/1.jpg"), (None, NOON, "file:///y/2.jpg"), (None, NOON, "file:///x/3.jpg")]
    assert sequence_ids(table_of([*rows, ("file:///x", NOON, "file:///x/4.jpg")])).to_pylist() == [
        "file:///x/1.jpg", "file:///y/2.jpg", "file:///x/1.jpg", "file:///x/4.jpg"
    ]  # fmt: skip


def test_no_rows_make_no_sequences() -> None:
    none = np.zeros(0, np.int64)
    assert len(find_sequences(none, none, none.astype(bool), none, none)) == 0
    assert len(count_animals(none, none, none.astype(bool))) == 0


def of_rows(path: Path, rows: dict[str, dict[str, Any]]) -> Storage:
    types = {"category": pa.string(), "count": pa.string()}
    return collection_of_columns(path, {f"file:///{name}": row for name, row in rows.items()}, types)


def test_a_count_is_the_most_animals_on_one_image_unless_a_person_gave_one(tmp_path: Path) -> None:
    box = {"sequence": "s1", "category": "animal"}
    rows: dict[str, dict[str, Any]] = {
        "a.jpg#xywh=percent:0,0,1,1": box | {"label": "fox", "deployment": "A4"},
        "a.jpg#xywh=percent:1,0,1,1": box | {"label": "hare", "taken_at": NOON + timedelta(seconds=5)},
        "a.jpg#xywh=percent:2,0,1,1": box | {"category": "person"},
        "b.jpg#xywh=percent:0,0,1,1": box | {"label": "fox"},
        "c.jpg": {"sequence": "s2", "category": "animal", "count": "7"},
        "d.jpg": {"sequence": "s3"},
        "e.jpg": {"sequence": "s4", "category": "person"},
        "f.jpg": {"sequence": None, "category": "animal"},
    }
    found = {row["sequence"]: row for row in summarise_sequences(of_rows(tmp_path / "c.birder", rows)).to_pylist()}
    assert {name: row["count"] for name, row in found.items()} == {"s1": 2, "s2": 7, "s3": None, "s4": 0}
    assert found["s1"]["images"] == 2 and found["s1"]["labels"] == "fox; hare" and found["s1"]["deployment"] == "A4"
    assert found["s1"]["end"] == NOON + timedelta(seconds=5)
