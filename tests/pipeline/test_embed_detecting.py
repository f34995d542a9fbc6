"""Detection within `embed`: every animal is a row once, and every image is accounted for, whatever happens between."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import birder
from birder.collection.detection import NO_ANIMAL
from birder.collection.labels import give_label
from birder.collection.relocate import contents_of
from birder.collection.schema import Former
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError
from birder.formats.megadetector import read_boxes
from birder.formats.sources import find_sources
from birder.inference.detector import Detector
from birder.pipeline.boxes import Detecting
from birder.pipeline.embed import plan
from birder.pipeline.plan import Plan
from birder.sources import find_images, image_of, path_to_uri
from birder.sources.row_images import RowImages, place_of, shrunk
from birder.weights.detector import resolve_detector
from tests.pipeline.detecting import (
    BRIGHTNESS,
    animals_at,
    detecting,
    draw_greys,
    grey,
    rows_in,
    run_detecting,
    write_detector,
)
from tests.pipeline.means import Means, collection_in
from tests.pipeline.sourced import run
from tests.sources.videos import write_video


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("detector") / "by_brightness.onnx")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model, which loads at once."""
    path = tmp_path_factory.mktemp("model") / "vit_b16_pn_tiny.pt"
    shutil.copy(Path(__file__).parents[1] / "data" / "birder" / "vit_tiny_p16_pn_test.pt", path)
    return str(path)


def made_from(rows: list[dict[str, Any]]) -> Counter[str]:
    """How many rows each image has, by its uri."""
    return Counter(image_of(row["uri"]) for row in rows)


def left_of(folder: Path, photos: Path, how: Detecting) -> Plan:
    return plan(collection_in(folder), find_images([photos]), detecting=how)


def test_rows_are_those_of_a_file_of_boxes_and_no_image_is_gone(detector: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw_greys(photos, 10)
    (photos / "broken.png").write_bytes(b"x")
    birder.detect(photos, model=detector, to=tmp_path / "boxes.json", progress=None)
    run(tmp_path / "file", read_boxes(tmp_path / "boxes.json", photos))
    engine = Means()
    summary = run_detecting(tmp_path / "once", find_images([photos]), detecting(detector), engine, batch_size=3)
    assert (summary.embedded, summary.finished, summary.without_animal, len(summary.failed)) == (16, 11, 4, 1)
    assert engine.images == 16 and not summary.stopped
    rows = rows_in(tmp_path / "once")
    told = {path_to_uri(photos / f"{i:03}.png"): animals_at(BRIGHTNESS[i % 5]) for i in range(10)}
    assert made_from(rows) == {uri: max(1, animals) for uri, animals in told.items()}
    assert all(row["detections"] == told[image_of(row["uri"])] for row in rows)
    boxes = [{name: row[name] for name in row if name != "detections"} for row in rows if row["detections"]]
    assert boxes == [{name: row[name] for name in boxes[0]} for row in rows_in(tmp_path / "file")]
    whole = [(row["category"], row["confidence"], row["box_x"]) for row in rows if not row["detections"]]
    assert Counter(whole) == {("empty", None, None): 2, ("person", 0.9, None): 2}
    (failure,) = collection_in(tmp_path / "once").failures()
    assert failure["uri"] == path_to_uri(photos / "broken.png")
    todo = left_of(tmp_path / "once", photos, detecting(detector))
    assert (todo.pending, todo.done, todo.failed_before) == ([], 10, 1)


@pytest.mark.slow
def test_noted_images_are_failures_that_are_no_failures(detector: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw_greys(photos, 10)
    note, keep = detecting(detector, "note"), detecting(detector, "keep")
    summary = run_detecting(tmp_path, find_images([photos]), note)
    assert (summary.embedded, summary.without_animal, summary.failed) == (12, 4, [])
    noted = {each["uri"] for each in collection_in(tmp_path).failures() if each["reason"] == NO_ANIMAL}
    assert noted == {path_to_uri(photos / f"{i:03}.png") for i in (0, 1, 5, 6)}
    assert (left_of(tmp_path, photos, note).pending, left_of(tmp_path, photos, note).done) == ([], 10)
    assert run_detecting(tmp_path, find_images([photos]), note, retry_failed=True).finished == 0
    # who wants them as rows after all gets them, and the notes go
    assert run_detecting(tmp_path, find_images([photos]), keep).embedded == 4
    assert len(made_from(rows_in(tmp_path))) == 10 and collection_in(tmp_path).failures() == []
    # and one who embeds whole images is not told that they failed
    plain = tmp_path / "plain"
    run_detecting(plain, find_images([photos]), note)
    assert len(plan(collection_in(plain), find_images([photos])).pending) == 10


@pytest.mark.slow
def test_changed_images_lose_their_former_boxes_and_copies_are_not_embedded_again(
    detector: Path, tmp_path: Path
) -> None:
    photos, how = tmp_path / "photos", detecting(detector)
    photos.mkdir()
    for i, brightness in enumerate((0.8, 0.02, 0.5, 0.3)):
        grey(photos / f"{i}.png", brightness, i)
    run_detecting(tmp_path, find_images([photos]), how)
    assert len(rows_in(tmp_path)) == 3 + 1 + 2 + 1
    grey(photos / "0.png", 0.3, 10)  # from three animals to one
    grey(photos / "1.png", 0.8, 11)  # from none to three
    grey(photos / "2.png", 0.02, 12)  # from two to none
    (photos / "3.png").write_bytes(b"x")  # and one that cannot be read any more
    shutil.copy(photos / "1.png", photos / "copy.png")
    for i in range(4):
        os.utime(photos / f"{i}.png", (i + 1, i + 1))
    engine = Means()
    run_detecting(tmp_path, find_images([photos]), how, engine, threads=1)
    found = {Path(uri).name: count for uri, count in made_from(rows_in(tmp_path)).items()}
    assert found == {"0.png": 1, "1.png": 3, "2.png": 1, "copy.png": 3}
    assert engine.images == 1 + 3 + 1
    assert [Path(each["uri"]).name for each in collection_in(tmp_path).failures()] == ["3.png"]
    grey(photos / "3.png", 0.5, 13)
    run_detecting(tmp_path, find_images([photos]), how)
    assert collection_in(tmp_path).failures() == [] and len(rows_in(tmp_path)) == 10


def test_a_box_that_a_person_has_labelled_stays_when_its_file_changes(detector: Path, tmp_path: Path) -> None:
    photos, how = tmp_path / "photos", detecting(detector)
    photos.mkdir()
    grey(photos / "0.png", 0.8, 1)
    run_detecting(tmp_path, find_images([photos]), how)
    first, last = (row["id"] for row in sorted(rows_in(tmp_path), key=lambda row: -row["box_y"])[::2])
    give_label(collection_in(tmp_path), [first, last], "label", "owl", by="Ada")
    give_label(collection_in(tmp_path), [last], "label", None, by="Ada")  # taken back: no label any more
    grey(photos / "0.png", 0.02, 9)  # on which nothing is found
    os.utime(photos / "0.png", (1, 1))
    run_detecting(tmp_path, find_images([photos]), how)
    labels = {row["id"]: (row["label"], row["detections"]) for row in rows_in(tmp_path)}
    assert labels.pop(first) == ("owl", 3) and list(labels.values()) == [("photos", 0)]
    assert left_of(tmp_path, photos, how).pending == []


def test_columns_that_come_later_reach_all_boxes_of_an_image(detector: Path, tmp_path: Path) -> None:
    photos, how = tmp_path / "photos", detecting(detector)
    draw_greys(photos, 5)
    run_detecting(tmp_path, find_images([photos]), how)
    sources = find_images([photos])
    for source in sources:
        source.columns = {"trap": Path(source.path).stem}
    assert run_detecting(tmp_path, sources, how).updated == 8
    assert all(row["trap"] == Path(image_of(row["uri"])).stem for row in rows_in(tmp_path))
    sources[0].columns = {"confidence": "high"}
    with pytest.raises(CollectionError, match="The column confidence must be double, for detection fills it"):
        run_detecting(tmp_path / "other", sources, how)


@pytest.fixture(scope="module")
def whole(detector: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of ten images, which tests copy."""
    folder = tmp_path_factory.mktemp("whole")
    draw_greys(folder / "photos", 10)
    run_detecting(folder, find_images([folder / "photos"]), detecting(detector))
    return folder


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(lost=st.sets(st.integers(0, 15), min_size=1))
def test_whatever_rows_a_killed_run_had_not_written_the_next_one_writes_them_alone(
    whole: Path, detector: Path, lost: set[int]
) -> None:
    expected = rows_in(whole)
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(whole / "c.birder", Path(name, "c.birder"))
        gone = [expected[i] for i in sorted(lost)]
        collection = collection_in(Path(name))
        with collection.writing():
            collection.write([], [], Former([row["uri"] for row in gone]))
        engine = Means()
        summary = run_detecting(Path(name), find_images([whole / "photos"]), detecting(detector), engine)
        assert engine.images == summary.embedded == len(lost)
        assert summary.finished == len(made_from(gone))
        assert rows_in(Path(name)) == expected


def test_members_of_shards_and_frames_of_videos(detector: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw_greys(photos, 5)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for file in sorted(photos.iterdir()):
            archive.add(file, file.name)
    video = write_video(tmp_path / "a.mp4", 75)  # its frames become brighter
    sources, how = [str(tmp_path / "x.tar"), str(video)], detecting(detector)
    found = birder.detect(sources, model=detector, min_conf=0.2, progress=None)
    animals = {each.name: [b for b in each.detections or () if b.category == "animal"] for each in found.images}
    run_detecting(tmp_path, find_sources(sources), how)
    rows = rows_in(tmp_path)
    assert made_from(rows) == {name: max(1, len(boxes)) for name, boxes in animals.items()}
    assert len(animals) == 5 + 3 and {len(boxes) for boxes in animals.values()} > {0, 1}
    for row in rows:
        assert ("&xywh=percent:" in row["uri"]) == bool(row["detections"])
        if row["detections"]:
            wanted = [(box.x, box.y) for box in animals[image_of(row["uri"])]]
            assert any(np.allclose((row["box_x"], row["box_y"]), each, atol=1e-6) for each in wanted)
    assert {row["video_seconds"] for row in rows if ".mp4#" in row["uri"]} == {0.0, 1.0, 2.0}
    for file_name in ("x.tar", "a.mp4"):  # what the page shows, and what a moved file is recognised by
        of_file = {row["uri"]: row for row in rows if f"/{file_name}#" in row["uri"]}
        contents = contents_of(path_to_uri(tmp_path / file_name), list(of_file))
        assert contents == {uri: row["sha256"] for uri, row in of_file.items()}
        for uri, row in of_file.items():
            place = place_of(uri)
            assert place is not None
            shown = shrunk(RowImages().read(place), place.fragment, 64)
            assert max(shown.size) == pytest.approx(max(row["width"], row["height"]), abs=1)
    todo = plan(collection_in(tmp_path), find_sources(sources), detecting=how)
    assert (todo.pending, todo.done) == ([], 8)
    whole = plan(collection_in(tmp_path), find_sources(sources))  # boxes are not the whole images
    assert len(whole.pending) == 8 - sum(not boxes for boxes in animals.values())


@pytest.mark.slow
def test_detector_runs_in_many_threads_at_once() -> None:
    detector = Detector(resolve_detector().path)
    with Image.open(Path(__file__).parents[1] / "data" / "chelsea.png") as opened:
        images = [opened.convert("RGB").rotate(20 * turn) for turn in range(4)]
    alone = [detector.find(image) for image in images]
    for image, found in zip(images, alone, strict=True):
        pixels, place = detector.prepare(image)
        assert detector.detect([pixels], [place]) == [found]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.find, images * 2)) == alone * 2


@pytest.mark.slow
def test_facade_detects_and_remembers_by_what(detector: Path, model: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw_greys(photos, 5)
    to, options = tmp_path / "c.birder", {"progress": None, "detect": detector}
    collection, report = birder.embed(photos, to, model, **options)  # type: ignore[arg-type]
    assert (report.total, report.embedded, report.without_animal, report.left) == (5, 8, 2, 0)
    again = collection.embed(photos, **options)  # type: ignore[arg-type]
    assert (again.already, again.embedded, again.total) == (5, 0, 5)
    with pytest.raises(CollectionError, match=r"by_brightness .*confidence of 0\.2, not by by_brightness .*of 0\.3"):
        collection.embed(photos, min_confidence=0.3, **options)  # type: ignore[arg-type]
    with pytest.raises(CollectionError, match="not by nanodet"):
        collection.embed(photos, detect=True, progress=None)
    with pytest.raises(ConfigError, match="detect in the same way to retry"):
        collection.embed(retry_failed=True, progress=None)
    with pytest.raises(ConfigError, match="leave out one"):
        collection.embed(photos, crops=tmp_path / "b.json", **options)  # type: ignore[arg-type]
    (photos / "broken.png").write_bytes(b"x")
    assert len(collection.embed(photos, **options).failed) == 1  # type: ignore[arg-type]
    shutil.copy(photos / "004.png", photos / "broken.png")
    assert collection.embed(retry_failed=True, **options).embedded == 3  # type: ignore[arg-type]
    copied = birder.open_collection(to).backup(tmp_path / "copy")
    assert copied and Storage.open(tmp_path / "copy").detection == Storage.open(to).detection is not None


@pytest.mark.slow
def test_images_of_a_collection(detector: Path, model: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw_greys(photos, 5)
    options: dict[str, Any] = {"model": detector, "progress": None}
    collection, _ = birder.embed(photos, tmp_path / "c.birder", model, progress=None)
    (photos / "002.png").unlink()
    labels = collection.to_arrow().sort_by("uri").select(["label", "label_source"])
    found = collection.detect(to=tmp_path / "boxes.json", **options)
    assert (len(found.images), len(found.failed), found.updated, found.folder) == (5, 1, 4, photos)
    table = collection.to_arrow().sort_by("uri")
    assert table["category"].to_pylist() == ["empty", "person", None, "animal", "animal"]
    assert table["confidence"].to_pylist() == [None, 0.9, None, 0.9, 0.9]
    assert table.select(["label", "label_source"]).equals(labels)
    assert collection.detect(**options).updated == 0
    options |= {"crops": tmp_path / "boxes.json"}
    del options["model"]
    kept, report = birder.embed(photos, tmp_path / "d.birder", model, **options)
    assert (report.embedded, len(report.failed)) == (2 + 3 + 2, 1)
    rows = kept.to_arrow().to_pylist()
    whole = [(row["category"], row["confidence"]) for row in rows if row["box_x"] is None]
    assert sorted(whole, key=str) == [("empty", None), ("person", 0.9)]
    left_out = birder.embed(photos, tmp_path / "f.birder", model, empty="note", **options)[1]
    assert (left_out.embedded, len(left_out.failed)) == (2 + 3, 1)
    own = tmp_path / "own.csv"
    own.write_text("file_name,category\n000.png,night\n", "utf-8")
    other, _ = birder.embed(photos, tmp_path / "e.birder", model, table=own, progress=None)
    with pytest.raises(ConfigError, match="it has night"):
        other.detect(model=detector, progress=None)


@pytest.mark.slow
def test_killed_at_random_moments_the_next_run_ends_with_every_box_once(detector: Path, tmp_path: Path) -> None:
    draw_greys(tmp_path / "photos", 150)
    for i in range(20):
        shutil.copy(tmp_path / f"photos/{i:03}.png", tmp_path / f"photos/copy{i:02}.png")
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
import lancedb  # its import takes longer than the run shall live
from birder.sources import find_images
from tests.pipeline.detecting import detecting, run_detecting
from tests.pipeline.means import Means
folder = Path({str(tmp_path)!r})
how = detecting(Path({str(detector)!r}))
how.load()
print("ready", flush=True)
run_detecting(folder, find_images([folder / "photos"]), how, Means(0.01), batch_size=4, threads=2, commit_rows=4)
"""
    chance = random.Random(4)
    counts = [0]
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.05, 0.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it was indeed killed while it worked
        counts.append(collection_in(tmp_path).count())
    assert counts == sorted(counts) and counts[-1] > 0
    partly = made_from(rows_in(tmp_path))
    run_detecting(tmp_path, find_images([tmp_path / "photos"]), detecting(detector))
    other = tmp_path / "uninterrupted"
    other.mkdir()
    run_detecting(other, find_images([tmp_path / "photos"]), detecting(detector))
    assert rows_in(tmp_path) == rows_in(other) and len(made_from(rows_in(other))) == 170
    assert partly != made_from(rows_in(other))
    assert collection_in(tmp_path).failures() == []
