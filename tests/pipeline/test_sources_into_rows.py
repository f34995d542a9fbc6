"""Every kind of source through the pipeline, into one collection, with the same promises."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from birder.collection.storage import Storage
from birder.errors import CollectionError
from birder.formats.megadetector import read_boxes
from birder.formats.sources import find_sources
from birder.images.open import decoded_photo
from birder.images.transform import ClassificationTransform
from birder.pipeline.decode import Decoded, Unreadable, read_group, read_one
from birder.pipeline.embed import Plan, Summary, embed_images, plan
from birder.pipeline.known import Pending
from birder.sources import Box, Source, sources_again
from birder.sources.table import join_table, read_table
from tests.pipeline.means import TRANSFORM, Means, collection_in
from tests.pipeline.sourced import png, rows_of, run
from tests.sources.shards import write_tar

DATA = Path(__file__).parents[1] / "data"


def by_hand(data: bytes) -> npt.NDArray[np.float32]:
    vector: npt.NDArray[np.float32] = Means().embed(TRANSFORM.to_uint8(Image.open(io.BytesIO(data)))[None])[0]
    return vector


def shard(folder: Path, count: int, start: int = 0) -> Path:
    members = []
    for i in range(start, start + count):
        members += [(f"{i}.png", png(i)), (f"{i}.common_name.txt", f"owl {i}".encode())]
    return write_tar(folder / f"{start}.tar", members)


def test_shards_become_rows_once(tmp_path: Path) -> None:
    tar = shard(tmp_path, 5)
    type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": png(i), "path": f"{i}.png"} for i in range(3, 8)] + [None], type_)
    pq.write_table(pa.table({"image": images, "common_name": list("abcdef")}), tmp_path / "x.parquet")
    sources = find_sources([tar, tmp_path / "x.parquet"])
    engine = Means()
    todo, summary = run(tmp_path, sources, engine, batch_size=2, threads=3)
    assert (todo.total, summary.embedded, summary.reused, engine.images) == (11, 10, 2, 8)
    assert summary.failed == [(f"file://{tmp_path}/x.parquet#row=5", "it cannot be read (its row has no image)")]
    rows = rows_of(tmp_path)
    for i in range(5):
        row = rows[f"file://{tar}#{i}.png"]
        assert np.array_equal(np.array(row["embedding"], "f4"), by_hand(png(i)))
        assert (row["common_name"], row["label"], row["sha256"]) == (
            f"owl {i}",
            f"owl {i}",
            hashlib.sha256(png(i)).hexdigest(),
        )
        assert row["bytes"] == tar.stat().st_size
    assert rows[f"file://{tmp_path}/x.parquet#row=4"]["common_name"] == "e"


def test_a_finished_shard_is_not_even_listed_again(tmp_path: Path) -> None:
    tar = shard(tmp_path, 4)
    run(tmp_path, find_sources([tar]))
    status = tar.stat()
    tar.write_bytes(b"x" * status.st_size)  # nothing in it can be read any more, and its stamp does not tell
    os.utime(tar, ns=(status.st_atime_ns, status.st_mtime_ns))
    todo = plan(collection_in(tmp_path), find_sources([tar]))
    assert (todo.done, todo.pending) == (4, [])
    os.utime(tar, (1, 1))
    todo = plan(collection_in(tmp_path), find_sources([tar]))
    assert [item.source.problem is not None for item in todo.pending] == [True]


def test_a_shard_that_grew_embeds_what_is_new(tmp_path: Path) -> None:
    run(tmp_path, find_sources([shard(tmp_path, 3)]))
    engine = Means()
    os.utime(shard(tmp_path, 5), (1, 1))
    _, summary = run(tmp_path, find_sources([tmp_path / "0.tar"]), engine)
    assert (engine.images, summary.embedded, summary.reused) == (2, 5, 3)
    assert len(rows_of(tmp_path)) == 5


def test_a_half_done_shard_is_continued(tmp_path: Path) -> None:
    sources = find_sources([shard(tmp_path, 6)])
    todo = plan(collection_in(tmp_path), sources)
    del todo.pending[2:]
    embed_images(collection_in(tmp_path), Means(), TRANSFORM, todo, draft=False)
    todo, summary = run(tmp_path, sources)
    assert (todo.done, summary.embedded) == (2, 4)
    assert len(rows_of(tmp_path)) == 6


def test_a_failure_in_a_shard_is_reported_once_and_tried_again_when_asked(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", [("1.png", png(1)), ("2.png", b"x")])
    run(tmp_path, find_sources([tar]))
    collection = collection_in(tmp_path)
    assert [f["uri"] for f in collection.failures()] == [f"file://{tar}#2.png"]
    todo = plan(collection, find_sources([tar]))
    assert (todo.done, todo.failed_before, todo.pending) == (1, 1, [])
    again, boxes = sources_again([f["uri"] for f in collection.failures()])
    todo = plan(collection, again, retry_failed=True)
    assert ([item.uri for item in todo.pending], boxes) == ([f"file://{tar}#2.png"], [])


def test_types_of_columns_are_common_to_all_shards(tmp_path: Path) -> None:
    a = write_tar(tmp_path / "a.tar", [("1.png", png(1)), ("1.json", b'{"n": 1, "m": 1}')])
    b = write_tar(tmp_path / "b.tar", [("2.png", png(2)), ("2.json", b'{"n": 1.5, "m": "x"}')])
    run(tmp_path, find_sources([a, b]))
    rows = rows_of(tmp_path)
    assert [(row["n"], row["m"]) for _, row in sorted(rows.items())] == [(1.0, "1"), (1.5, "x")]


def test_a_later_table_changes_the_columns_of_existing_rows(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(4):
        (tmp_path / "photos" / f"{i}.png").write_bytes(png(i))

    def with_table(text: str) -> tuple[Plan, Summary]:
        (tmp_path / "t.csv").write_text(text)
        sources = find_sources([tmp_path / "photos"])
        join_table(sources, read_table(tmp_path / "t.csv"))
        return run(tmp_path, sources, engine)

    engine = Means()
    run(tmp_path, find_sources([tmp_path / "photos"]), engine)
    todo, summary = with_table("file_name,trap,label\n0.png,7,owl\n1.png,8,\n")
    assert (todo.pending, summary.embedded, summary.updated, engine.images) == ([], 0, 2, 4)
    values = [(row["trap"], row["label"]) for _, row in sorted(rows_of(tmp_path).items())]
    assert values == [(7, "owl"), (8, "photos"), (None, "photos"), (None, "photos")]
    before = collection_in(tmp_path).version
    assert with_table("file_name,trap,label\n0.png,7,owl\n1.png,8,\n")[1].updated == 0
    assert collection_in(tmp_path).version == before
    assert with_table("file_name,trap\n0.png,9\n1.png,\n")[1].updated == 1
    assert [row["trap"] for _, row in sorted(rows_of(tmp_path).items())] == [9, 8, None, None]
    with pytest.raises(CollectionError, match="column trap"):
        with_table("file_name,trap\n0.png,north\n")
    vectors = [np.array(row["embedding"], "f4") for _, row in sorted(rows_of(tmp_path).items())]
    assert np.array_equal(vectors, [by_hand(png(i)) for i in range(4)])


def test_a_camtrap_package_becomes_rows_and_its_missing_media_failures(tmp_path: Path) -> None:
    sources = [source for source in find_sources([DATA / "camtrap-dp"]) if source.path.startswith("/")]
    _, summary = run(tmp_path, sources)
    assert (summary.embedded, len(summary.failed)) == (3, 7)
    row = rows_of(tmp_path)[sources[0].uri]
    # the deployment's place and the medium's local time, and the label that observations agree on
    assert (row["locationName"], row["latitude"], row["longitude"]) == ("B_DM_val 4_'t WAD", 50.699, 4.013)
    assert str(row["taken_at"]).startswith("2021-")
    assert row["deployment"] == "62c200a9"


def detections(folder: Path, boxes: Sequence[tuple[float, ...]], *, conf: float = 0.9) -> Path:
    found = [{"category": "1", "conf": conf, "bbox": list(box)} for box in boxes]
    path = folder / "results.json"
    images = [{"file": "a.png", "detections": found}]
    path.write_text(json.dumps({"detection_categories": {"1": "animal"}, "images": images}))
    return path


def test_each_box_is_a_row_with_its_crop(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").write_bytes(png(1, (200, 400)))
    boxes = [(0.25, 0.5, 0.5, 0.25), (0.0, 0.0, 1.0, 1.0), (0.9, 0.9, 0.5, 0.5), (0.5, 0.5, 0.0, 0.1)]
    sources = read_boxes(detections(tmp_path, boxes), tmp_path / "p")
    engine = Means()
    _, summary = run(tmp_path, sources, engine)
    assert (summary.embedded, engine.images, len(summary.failed)) == (3, 3, 1)
    assert "no area" in summary.failed[0][1] and "#xywh=percent:50,50,0,10" in summary.failed[0][0]
    whole = Image.open(tmp_path / "p" / "a.png")
    rows = rows_of(tmp_path)
    for box, pixels in (("25,50,50,25", (100, 100, 300, 150)), ("90,90,10,10", (360, 180, 400, 200))):
        row = rows[f"file://{tmp_path}/p/a.png#xywh=percent:{box}"]
        crop = whole.crop(pixels)
        assert (row["width"], row["height"]) == crop.size
        assert np.array_equal(np.array(row["embedding"], "f4"), Means().embed(TRANSFORM.to_uint8(crop)[None])[0])
        assert (row["confidence"], row["category"], row["label"]) == (0.9, "animal", "p")
    todo, summary = run(tmp_path, sources)
    assert (todo.done, todo.failed_before, summary.finished) == (3, 1, 0)


def test_positions_of_shards_off_the_earth_are_counted_and_not_stored(tmp_path: Path) -> None:
    places = [
        {"latitude": -999, "longitude": -999},
        {"latitude": 51.5, "longitude": 7.0},
        {"latitude": 10.0, "longitude": 200},
    ]
    members = []
    for i, place in enumerate(places):
        members += [(f"{i}.png", png(i)), (f"{i}.json", json.dumps(place).encode())]
    _, summary = run(tmp_path, find_sources([write_tar(tmp_path / "x.tar", members)]))
    assert (summary.embedded, summary.off_earth) == (3, 2)
    rows = [row for _, row in sorted(rows_of(tmp_path).items())]
    assert [(row["latitude"], row["longitude"]) for row in rows] == [(None, None), (51.5, 7.0), (None, None)]


def test_impossible_file_names_do_not_end_a_run(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "l.csv").write_text("path,n\na.png,1\nb\0.png,2\nzip://x::file://,3\nmemory://\0,4\n")
    _, summary = run(tmp_path, find_sources([tmp_path / "l.csv"]))
    assert (summary.embedded, len(summary.failed)) == (1, 3)
    assert len(Storage.open(tmp_path / "c.birder").failures()) == 3
    again, summary = run(tmp_path, find_sources([tmp_path / "l.csv"]))
    assert (again.done, summary.embedded) == (1, 0)


def test_an_image_is_decoded_once_for_all_its_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(1, (200, 400)))
    opened = []
    original = decoded_photo

    def counted(data: bytes, **options: object) -> object:
        opened.append(len(data))
        return original(data, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("birder.pipeline.decode.decoded_photo", counted)
    boxes = [(i / 10, i / 10, 0.2, 0.2) for i in range(8)]
    _, summary = run(tmp_path, read_boxes(detections(tmp_path, boxes), tmp_path), threads=4)
    assert (summary.embedded, len(opened)) == (8, 1)


def test_the_same_box_of_a_copied_image_is_not_embedded_again(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(1, (200, 400)))
    box, engine = Box(0.1, 0.1, 0.5, 0.5), Means()
    sources = [Source(str(tmp_path / name), box=box) for name in ("a.png", "b.png")]
    _, summary = run(tmp_path, [*sources, Source(str(tmp_path / "a.png"))], engine)
    assert (summary.embedded, summary.reused, engine.images) == (3, 1, 2)


@pytest.mark.parametrize("turned", [False, True])
def test_a_drafted_crop_still_covers_the_network(tmp_path: Path, turned: bool) -> None:
    photo = Image.open(DATA / "camtrap-dp" / "media" / "20210531082538-RCNX0031.JPG")
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    path = tmp_path / "a.jpg"
    photo.save(path, exif=exif, quality=95)
    transform = ClassificationTransform((64, 64), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    for box in (Box(0, 0, 1, 1), Box(0.2, 0.3, 0.4, 0.3), Box(0.41, 0.37, 0.05, 0.04), Box(0.99, 0.99, 0.01, 0.01)):
        pending = Pending(Source(str(path), box=box), None)
        exact, drafted = (read_one(pending, transform, draft) for draft in (False, True))
        assert isinstance(exact, Decoded) and isinstance(drafted, Decoded)
        assert exact.pixels is not None and drafted.pixels is not None
        assert (exact.width, exact.height, exact.sha256) == (drafted.width, drafted.height, drafted.sha256)
        difference = np.abs(exact.pixels.astype(int) - drafted.pixels)
        assert difference.mean() < 3.0  # of 255


def test_a_missing_file_is_the_reason_for_all_its_boxes(tmp_path: Path) -> None:
    items = [Pending(Source(str(tmp_path / "no.jpg"), box=Box(0, 0, 0.5, w)), None) for w in (0.5, 0.6)]
    outcomes = read_group(items, TRANSFORM, True)
    assert outcomes == [Unreadable(item, None, "the file does not exist") for item in items]


@pytest.mark.slow
def test_ten_thousand_members_take_little_memory(tmp_path: Path) -> None:
    members = [(f"{i}.jpg", b"") for i in range(10_000)]
    (source,) = find_sources([write_tar(tmp_path / "x.tar", members)])
    tracemalloc.start()
    todo = plan(None, [source])
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(todo.pending) == 10_000
    assert size / 10_000 < 600 and peak < 2 * size  # bytes an image


@pytest.mark.slow
def test_killed_within_shards_the_next_run_ends_with_every_image_once(tmp_path: Path) -> None:
    for start in (0, 20, 40):
        shard(tmp_path, 20, start)
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from birder.formats.sources import find_sources
from tests.pipeline.means import Means
from tests.pipeline.sourced import run
print("ready", flush=True)
run(Path({str(tmp_path)!r}), find_sources([{str(tmp_path)!r} + "/*.tar"]), Means(0.02), batch_size=4, commit_rows=4)
"""
    chance = random.Random(5)
    killed = 0
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.02, 0.5))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 3
    run(tmp_path, find_sources([f"{tmp_path}/*.tar"]))
    rows = rows_of(tmp_path)
    assert len(rows) == 60
    for i in range(60):
        row = rows[f"file://{tmp_path}/{i // 20 * 20}.tar#{i}.png"]
        assert np.array_equal(np.array(row["embedding"], "f4"), by_hand(png(i)))
    assert Storage.open(tmp_path / "c.birder").failures() == []
