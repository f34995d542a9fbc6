"""Videos become rows, a frame each, once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from birder.collection.relocate import contents_of
from birder.pipeline.embed import Summary
from birder.sources import Box, sources_again
from birder.sources.find import find_sources
from birder.sources.row_images import RowImages, place_of
from birder.sources.table import join_table, read_table
from birder.sources.video import FrameChoice
from tests.pipeline.means import Means, collection_in
from tests.pipeline.sourced import png, rows_of, run
from tests.sources.videos import write_video


def embed(folder: Path, paths: list[Path], engine: Means | None = None, **choice: Any) -> Summary:
    return run(folder, find_sources(paths, frames=FrameChoice(**choice)), engine, threads=4, batch_size=4)[1]


def test_folder_of_images_and_videos(tmp_path: Path) -> None:
    card = tmp_path / "card"
    card.mkdir()
    (card / "still.png").write_bytes(png(1))
    write_video(card / "a.mp4", 250, metadata={"creation_time": "2024-05-01T12:00:00Z"})
    write_video(card / "b.MKV", 60, size=(48, 64))
    (card / "broken.avi").write_bytes(b"RIFF")
    folder = tmp_path / "card.birder"
    summary = embed(folder, [card])
    assert summary.embedded == 1 + 10 + 3
    assert [Path(name).name for name, _ in summary.failed] == ["broken.avi"]
    rows = rows_of(folder)
    frame = rows[f"file://{card}/a.mp4#t=npt:9"]
    assert frame["taken_at"] == datetime(2024, 5, 1, 12, 0, 9)
    assert (frame["video_seconds"], frame["label"], frame["width"], frame["height"]) == (9.0, "card", 64, 48)
    opened = RowImages()
    for uri, row in rows.items():
        place = place_of(uri)
        assert place is not None
        assert hashlib.sha256(opened.read(place)).hexdigest() == row["sha256"], uri
    engine = Means()
    assert embed(folder, [card], engine).embedded == 0
    assert embed(folder, [card], engine, fps=2.0).embedded == 10 + 2, "only the frames between"
    assert embed(folder, [card], engine, fps=0.5, most=2).embedded == 0
    assert len(rows_of(folder)) == 14 + 12


def test_failed_frames_are_tried_again_by_their_uris(tmp_path: Path) -> None:
    (tmp_path / "card").mkdir()
    path = write_video(tmp_path / "card" / "a.mkv", 250, codec="mjpeg", pixels="yuvj420p")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    folder = tmp_path / "card.birder"
    summary = embed(folder, [path])
    assert 4 <= summary.embedded <= 6
    assert summary.embedded + len(summary.failed) == 10
    assert "the video ends after" in summary.failed[0][1]
    path.write_bytes(data)
    uris = [failure["uri"] for failure in collection_in(folder).failures()]
    again, boxes = sources_again(uris)
    assert not boxes
    assert [source.uri for source in again] == uris
    assert {source.label for source in again} == {"card"}
    assert run(folder, again)[1].embedded == len(uris)
    assert not collection_in(folder).failures()


def test_boxes_of_frames_share_one_decoded_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 75)
    (video,) = find_sources([path])
    assert video.members is not None
    boxes = [Box(0.0, 0.0, 0.25, 0.25), Box(0.5, 0.5, 0.5, 0.5)]
    sources = [replace(frame, box=box) for frame in video.members.sources() for box in boxes]
    folder = tmp_path / "a.birder"
    assert run(folder, sources)[1].embedded == 6
    rows = rows_of(folder)
    assert sorted(rows) == sorted(f"file://{path}#t=npt:{n}&{box.fragment}" for n in range(3) for box in boxes)
    assert contents_of(f"file://{path}", list(rows)) == {uri: row["sha256"] for uri, row in rows.items()}


def test_table_describes_all_frames_of_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 75)
    (tmp_path / "about.csv").write_text("file_name,station,taken_at\na.mp4,A4,2024-05-01T12:00:00\n", "utf-8")
    sources = find_sources([path])
    join_table(sources, read_table(tmp_path / "about.csv"))
    folder = tmp_path / "a.birder"
    run(folder, sources)
    rows = sorted(rows_of(folder).values(), key=lambda row: str(row["uri"]))
    assert [row["station"] for row in rows] == ["A4"] * 3
    assert [row["taken_at"] for row in rows] == [datetime(2024, 5, 1, 12, 0, n) for n in range(3)]


def test_image_and_frame_of_one_folder_do_not_mix(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "white").save(tmp_path / "a.jpg")
    write_video(tmp_path / "a.mp4", 26)
    folder = tmp_path / "c.birder"
    assert embed(folder, [tmp_path]).embedded == 3
    assert sorted(uri.rpartition("/")[2] for uri in rows_of(folder)) == ["a.jpg", "a.mp4#t=npt:0", "a.mp4#t=npt:1"]
