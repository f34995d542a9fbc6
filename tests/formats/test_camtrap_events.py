"""Event-based observations: facts worked out by hand, what must hold whatever the rows are, and the way back."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.analysis.sequences import summarise_sequences
from birder.collection.predictions import SEQUENCE_COLUMNS
from birder.collection.provenance import Source
from birder.formats.camtrap.events import events_of, observed
from birder.formats.camtrap.observations import Classifiers, observations
from birder.formats.export import export
from birder.formats.sources import find_sources
from birder.pipeline.plan import plan
from birder.sources import path_to_uri
from tests.formats.camtrap import BOX, PREDICTED, PROJECT, Lines, check, lines
from tests.formats.conftest import Make
from tests.sources.videos import write_video

NOON = datetime(2024, 5, 1, 12)
TYPES = (
    BOX
    | PREDICTED
    | {"category": pa.string(), "count": pa.string()}
    | {name: pa.float32() if name.endswith("score") else pa.string() for name in SEQUENCE_COLUMNS}
)
FACTS = ("observationType", "scientificName", "count", "classificationMethod", "classificationProbability")


def row(second: int = 0, **columns: Any) -> dict[str, Any]:
    moment = NOON + timedelta(seconds=second)
    return {"taken_at": moment, "deployment": "A4", "label_source": "table", **columns}


def image(name: str) -> str:
    return path_to_uri(f"/card/{name}.jpg")


def box(name: str, number: int) -> str:
    return f"{image(name)}#xywh=percent:{10 * number},0,10,50"


def boxed(number: int) -> dict[str, Any]:
    return {"box_x": number / 10, "box_y": 0.0, "box_width": 0.1, "box_height": 0.5, "category": "animal"}


def told(found: Lines, level: str, *names: str) -> list[tuple[str, ...]]:
    return [tuple(line[name] for name in names or FACTS) for line in found if line["observationLevel"] == level]


def test_sequences_give_events_and_media_give_boxes(make: Make, tmp_path: Path) -> None:
    rows = {
        # one fox, labelled on one image; a model takes it for a wolf on another, which has two boxes
        box("a1", 0): row(0, sequence="a", label="Vulpes vulpes", **boxed(0)),
        box("a2", 0): row(5, sequence="a", predicted_label="Canis lupus", predicted_score=0.75, **boxed(0)),
        box("a2", 1): row(5, sequence="a", **boxed(1)),
        image("a3"): row(9, sequence="a", label="blank"),
        # two deer and a boar on one image, by box; a person has named only the boar
        box("b1", 0): row(100, sequence="b", label="Sus scrofa", **boxed(0)),
        box("b1", 1): row(100, sequence="b", predicted_label="Capreolus capreolus", predicted_score=0.5, **boxed(1)),
        box("b1", 2): row(100, sequence="b", predicted_label="Capreolus capreolus", predicted_score=0.875, **boxed(2)),
        box("b2", 0): row(130, sequence="b", predicted_label="Vulpes vulpes", predicted_score=0.5, **boxed(0)),
        # nobody
        image("c1"): row(300, sequence="c", label="blank"),
        image("c2"): row(301, sequence="c", predicted_label="blank", predicted_score=0.5),
        # half of it is not known to be blank
        image("d1"): row(400, sequence="d", label="blank"),
        image("d2"): row(401, sequence="d"),
        # a person counted, in a column of text
        image("e1"): row(500, sequence="e", label="Meles meles", count="3"),
        image("e2"): row(501, sequence="e", label="Meles meles", count="2"),
        # one answer for the visit, beside those of its images
        image("f1"): row(600, sequence="f", predicted_label="Lynx lynx", predicted_score=0.5)
        | {"predicted_sequence_label": "Felis silvestris", "predicted_sequence_score": 0.75},
        image("f2"): row(601, sequence="f", predicted_sequence_label="Felis silvestris", predicted_sequence_score=0.75),
        # in no sequence
        image("g"): row(700, label="Lepus europaeus"),
        # nothing is known
        box("h", 0): row(800, sequence="h", **boxed(0)),
    }
    collection = make(rows, TYPES)
    said = str(export(collection, tmp_path / "out", format="camtrap-dp", project=PROJECT))
    package = check(tmp_path / "out", tmp_path)
    assert said.startswith("22 observations (6 of events) of 15 media in 1 deployments")
    assert package["project"]["observationLevel"] == ["media", "event"]
    found = lines(tmp_path / "out", "observations")
    assert told(found, "event", "eventID", *FACTS) == [
        ("a", "animal", "Vulpes vulpes", "2", "human", ""),
        ("b", "animal", "Capreolus capreolus", "2", "machine", "0.875"),
        ("b", "animal", "Sus scrofa", "1", "human", ""),
        ("c", "blank", "", "", "human", ""),
        ("e", "animal", "Meles meles", "3", "human", ""),
        ("f", "animal", "Felis silvestris", "", "machine", "0.75"),
    ]
    assert told(found, "event", "eventStart", "eventEnd", "mediaID")[0] == (
        "2024-05-01T12:00:00+02:00",
        "2024-05-01T12:00:09+02:00",
        "",
    )
    media = {line["mediaID"]: line["fileName"] for line in lines(tmp_path / "out", "media")}
    of_media = [line for line in found if line["observationLevel"] == "media"]
    assert Counter((media[line["mediaID"]], line["eventID"]) for line in of_media) == Counter(
        (uri.rpartition("/")[2].partition("#")[0], columns.get("sequence") or "")
        for uri, columns in rows.items()
        for _ in range(1 if {"label", "predicted_label", "box_x"} & columns.keys() else 0)
    ), "each row that says something is one observation of its medium"
    assert {line["bboxX"] for line in found if line["observationLevel"] == "event"} == {""}
    assert [line["scientificName"] for line in of_media if not line["eventID"]] == ["Lepus europaeus"]

    # the way back: every label where it was, none more; predictions are predictions
    back = {Path(each.path).stem: each.columns for each in find_sources([tmp_path / "out"])}
    named = {Path(uri.partition("#")[0]).stem: columns["label"] for uri, columns in rows.items() if "label" in columns}
    assert {name: columns["label"] for name, columns in back.items() if columns["label"]} == {
        name: label for name, label in named.items() if label != "blank"
    }
    assert {name for name, columns in back.items() if columns["observationType"] == "blank"} == {"a3", "c1", "d1"}
    assert {name: columns["predicted_label"] for name, columns in back.items() if columns["predicted_label"]} == {
        "a2": "Canis lupus",
        "b1": "Capreolus capreolus",
        "b2": "Vulpes vulpes",
        "c2": "blank",
        "f1": "Lynx lynx",
    }
    assert (back["e1"]["count"], back["e2"]["count"]) == (3, 2)


NAMES = st.sampled_from([None, "fox", "owl", "blank", "person"])
ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), NAMES, NAMES), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_events_exclude_one_another_and_lose_no_label(drawn: list[tuple[int, int, str | None, str | None]]) -> None:
    """Rows of one sequence: image, box (0 is the whole image), label, prediction."""
    unique = {(name, number): (label, guess) for name, number, label, guess in drawn}
    rows = []
    by = Classifiers("Ada", "net", lambda row: Source("person"))
    for number, ((name, place), (label, guess)) in enumerate(unique.items()):
        uri = box(f"{name}", place) if place else image(f"{name}")
        columns: dict[str, Any] = {
            "id": f"{number}",
            "uri": uri,
            "label": label,
            "category": "animal" if place else None,
        }
        columns |= {"predicted_label": guess, "predicted_score": 0.5 if guess else None}
        rows.append(observed(columns, observations(columns, by)))
    events = events_of(rows, "net")
    facts = [(event.line["observationType"], event.line["scientificName"]) for event in events]
    assert len(set(facts)) == len(facts), "a species once"
    kinds = {"person": "human", "blank": "blank"}
    labels = {(kinds.get(label, "animal"), None if label in kinds else label) for label, _ in unique.values() if label}
    assert {fact for fact in labels if fact[0] != "blank"} <= set(facts), "every label appears"
    if ("blank", None) in facts:
        assert facts == [("blank", None)] and all("blank" in pair for pair in unique.values())
    boxes: dict[int, int] = defaultdict(int)
    for name, place in unique:
        boxes[name] += place > 0
    for event in events:
        count = event.line.get("count")
        assert count is None or (event.line["observationType"] == "animal" and 1 <= count <= max(boxes.values()))
        human = {label for (label, _) in unique.values()} & {event.line["scientificName"] or "person"}
        if event.line["observationType"] != "blank":
            assert (event.line["classificationMethod"] == "human") == bool(human), (
                "a person's word stands above a model's"
            )
    per_image: dict[str, int] = Counter()
    for event in events:  # several species of one image never have more animals than boxes on it together
        for each in event.rows:
            per_image[each.image] += each.is_box
    assert all(total <= boxes[int(Path(uri).stem)] for uri, total in per_image.items())


def test_one_species_is_counted_as_the_table_of_sequences_counts(make: Make, tmp_path: Path) -> None:
    rows = {
        box(f"{sequence}{number}", place): row(100 * number, sequence=f"{sequence}", label="fox", **boxed(place))
        for sequence in range(4)
        for number in range(2)
        for place in range(1 + (sequence + number) % 3)
    }
    rows[image("9")] = row(0, sequence="3", label="fox", count="7")
    collection = make(rows, TYPES)
    export(collection, tmp_path / "out", format="camtrap-dp", project=PROJECT)
    counted = {each["sequence"]: each["count"] for each in summarise_sequences(collection).to_pylist()}
    found = lines(tmp_path / "out", "observations")
    assert {line["eventID"]: int(line["count"]) for line in found if line["observationLevel"] == "event"} == counted
    assert counted == {"0": 2, "1": 3, "2": 3, "3": 7}


def test_frames_of_a_video_are_one_medium_and_come_back_with_their_labels(make: Make, tmp_path: Path) -> None:
    video = tmp_path / "card" / "V1.mp4"
    video.parent.mkdir()
    write_video(video, 5, rate=1)
    uri = path_to_uri(video)
    frame = {**row(0), "sequence": "v", "video_seconds": 0.0}
    rows = {
        f"{uri}#t=npt:{second}": frame | {"taken_at": NOON + timedelta(seconds=second)} | more
        for second, more in enumerate([{}, {"label": "Vulpes vulpes"}, {}, {"label": "Meles meles"}])
    }
    rows[f"{uri}#t=npt:3&xywh=percent:10,0,10,50"] = rows.pop(f"{uri}#t=npt:3") | boxed(1)
    collection = make(rows, TYPES | {"video_seconds": pa.float64()})
    package = tmp_path / "card"  # beside the video, whose path is relative
    export(collection, package, format="camtrap-dp", project=PROJECT)
    check(package, tmp_path)
    (medium,) = lines(package, "media")
    assert (medium["filePath"], medium["fileMediatype"], medium["captureMethod"]) == ("V1.mp4", "video/mp4", "")
    assert medium["timestamp"] == "2024-05-01T12:00:00+02:00"
    found = lines(package, "observations")
    assert told(found, "media", "scientificName", "mediaID", "eventStart", "eventEnd", "bboxX") == [
        ("Vulpes vulpes", medium["mediaID"], "2024-05-01T12:00:01+02:00", "2024-05-01T12:00:01+02:00", ""),
        ("Meles meles", medium["mediaID"], "2024-05-01T12:00:03+02:00", "2024-05-01T12:00:03+02:00", "0.1"),
    ]
    assert told(found, "event", "scientificName", "count", "eventStart", "eventEnd") == [
        ("Meles meles", "1", "2024-05-01T12:00:00+02:00", "2024-05-01T12:00:03+02:00"),
        ("Vulpes vulpes", "", "2024-05-01T12:00:00+02:00", "2024-05-01T12:00:03+02:00"),
    ]
    (deployment,) = lines(package, "deployments")
    assert (deployment["deploymentStart"], deployment["deploymentEnd"]) == tuple(
        f"2024-05-01T12:00:0{second}+02:00" for second in (0, 3)
    )
    frames = [each.source for each in plan(None, find_sources([package])).pending]
    assert {each.uri.partition("#")[2]: each.columns["label"] for each in frames if each.columns["label"]} == {
        "t=npt:1": "Vulpes vulpes",
        "t=npt:3": "Meles meles",
    }
    assert [each.columns["taken_at"] for each in frames] == [NOON + timedelta(seconds=n) for n in range(len(frames))]


def test_each_image_of_a_shard_is_a_medium(make: Make, tmp_path: Path) -> None:
    shard = path_to_uri(tmp_path / "card" / "A1.tar")
    rows = {f"{shard}#day1/{number}.jpg": {**row(0), "label": "Vulpes vulpes"} for number in range(2)}
    rows[f"{shard}#day1/1.jpg&xywh=percent:10,0,10,50"] = {**row(0), **boxed(1)}
    export(make(rows, TYPES), tmp_path / "out", format="camtrap-dp", project=PROJECT)
    check(tmp_path / "out", tmp_path)
    media = lines(tmp_path / "out", "media")
    assert [(line["filePath"], line["fileName"], line["fileMediatype"]) for line in media] == [
        ("A1.tar#day1/0.jpg", "0.jpg", "image/jpeg"),
        ("A1.tar#day1/1.jpg", "1.jpg", "image/jpeg"),
    ]
