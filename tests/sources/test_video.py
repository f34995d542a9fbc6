"""Videos: which frames are listed, which frame a time names, and what damaged and hostile files cost."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from birder.errors import ConfigError, ImageError, MissingExtraError
from birder.images import video
from birder.images.video import VideoReaders
from birder.sources import Source, load_source, path_to_uri
from birder.sources.find import find_sources
from birder.sources.row_images import Place, RowImages, place_of, shrunk
from birder.sources.source import Box
from birder.sources.thumbnails import thumbnails
from birder.sources.video import FrameChoice, frame_of
from tests.sources.videos import grey_of, write_sound, write_video


@pytest.fixture
def readers() -> Iterator[VideoReaders]:
    """Readers that have not seen any video."""
    made = VideoReaders(1)
    yield made
    made.stop()


def listed(path: Path, **choice: Any) -> list[Source]:
    (found,) = find_sources([path], frames=FrameChoice(**choice))
    assert found.members is not None
    return list(found.members.sources())


def fragments(path: Path, **choice: Any) -> list[str]:
    return [source.uri.partition("#")[2] for source in listed(path, **choice)]


def decoded_here(path: Path) -> list[tuple[Fraction, bytes]]:
    """All frames of a video by PyAV alone, from its beginning, with their times since the first."""
    frames = []
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            assert frame.pts is not None and frame.time_base is not None
            written = io.BytesIO()
            image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
            image.rotate(frame.rotation, expand=True).save(written, "BMP")
            frames.append((frame.pts * frame.time_base, written.getvalue()))
    return [(at - frames[0][0], data) for at, data in frames]


def expected(frames: list[tuple[Fraction, bytes]], milliseconds: int) -> bytes:
    return next((data for at, data in frames if at * 1000 >= milliseconds), frames[-1][1])


def brightness(data: bytes) -> int:
    image = Image.open(io.BytesIO(data)).convert("L")
    return int(image.getpixel((image.width - 2, image.height - 2)))  # type: ignore[arg-type]


def test_one_frame_a_second_from_the_first(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a b#1.mp4", 75)
    assert fragments(path) == ["t=npt:0", "t=npt:1", "t=npt:2"]
    assert listed(path)[1].uri == f"file://{tmp_path}/a%20b%231.mp4#t=npt:1"
    assert fragments(path, fps=2.0) == ["t=npt:0", "t=npt:0.5", "t=npt:1", "t=npt:1.5", "t=npt:2", "t=npt:2.5"]
    assert fragments(path, fps=3.0, most=3) == ["t=npt:0", "t=npt:0.333", "t=npt:0.666"]
    assert len(fragments(path, fps=1000.0)) == 75  # no more than it has
    assert fragments(write_video(tmp_path / "one.mkv", 1)) == ["t=npt:0"]


def test_slow_videos_are_not_embedded_twice_a_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "slow.mp4", 4, rate=Fraction(1, 5), stamps=range(4), base=Fraction(5))
    assert fragments(path) == ["t=npt:0", "t=npt:5", "t=npt:10", "t=npt:15"]


@pytest.mark.parametrize(("fps", "most"), [(0.0, None), (-1.0, None), (float("nan"), None), (1.0, 0)])
def test_choices_that_make_no_sense_are_refused(fps: float, most: int | None) -> None:
    with pytest.raises(ConfigError, match="give a number"):
        FrameChoice(fps, most)


B_FRAMES = {"bf": "3", "g": "12"}
KINDS: dict[str, dict[str, Any]] = {
    "b-frames.mp4": {"options": B_FRAMES},
    "long-gop.mov": {"options": {"bf": "2", "g": "500"}},
    "hevc.mkv": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=15"}},
    "motion-jpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "vp9.mkv": {"codec": "libvpx-vp9"},
    "odd.mp4": {"size": (63, 47), "pixels": "yuv444p", "options": B_FRAMES},
    "ten-bit.mkv": {"pixels": "yuv420p10le", "options": B_FRAMES},
    "turned.mp4": {"rotation": 90, "options": B_FRAMES},
    "variable.mp4": {
        "stamps": sorted({0, 1, 2, 40, 700, 701, *range(900, 1900, 37), *range(2000, 9000, 400)})[:50],
        "frames": 45,
        "base": Fraction(1, 1000),
        "options": B_FRAMES,
    },
    "fragmented.mp4": {"options": B_FRAMES, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "live.mkv": {"container_options": {"live": "1"}},
}


@pytest.mark.parametrize("name", KINDS)
def test_frame_of_a_time_is_the_same_however_it_is_reached(name: str, tmp_path: Path, readers: VideoReaders) -> None:
    path = write_video(tmp_path / name, **KINDS[name])
    here = decoded_here(path)
    sources = listed(path, fps=5.0)
    # FFmpeg's MP4 says too little of variable frame rates with B-frames.
    assert abs(len(sources) - 1 - here[-1][0] // Fraction(1, 5)) <= (4 if name == "variable.mp4" else 0)
    in_order = {}
    for source in sources:
        assert source.part is not None
        milliseconds = source.part.milliseconds  # type: ignore[attr-defined]
        in_order[milliseconds] = load_source(source).data
        assert in_order[milliseconds] == expected(here, milliseconds), milliseconds
    for milliseconds in [*sorted(in_order, key=lambda each: hashlib.md5(str(each).encode()).digest()), 0]:
        assert readers.frame(str(path), milliseconds) == in_order[milliseconds], milliseconds


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gaps=st.lists(st.integers(1, 3000), min_size=1, max_size=20),
    times=st.lists(st.integers(0, 30_000), min_size=1, max_size=10),
    start=st.integers(0, 5000),
    codec=st.sampled_from(["libx264", "mpeg4"]),
)
def test_frame_of_any_time_follows_the_rule(
    gaps: list[int], times: list[int], start: int, codec: str, tmp_path: Path, readers: VideoReaders
) -> None:
    stamps = [start]
    for gap in gaps:
        stamps.append(stamps[-1] + gap)
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.mkv"
    write_video(path, len(stamps), stamps=stamps, base=Fraction(1, 1000), codec=codec, options={"g": "5", "bf": "2"})
    here = decoded_here(path)
    for milliseconds in times:
        if milliseconds <= here[-1][0] * 1000:
            assert readers.frame(str(path), milliseconds) == expected(here, milliseconds), milliseconds


def test_videos_are_shown_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "turned.mp4", 3, size=(64, 32), rotation=90)
    image = Image.open(io.BytesIO(load_source(listed(path)[0]).data)).convert("L")
    assert image.size == (32, 64)
    bright = [point for point in ((2, 2), (29, 2), (2, 61), (29, 61)) if image.getpixel(point) > 230]  # type: ignore[operator]
    assert bright == [(2, 61)], "turned counter-clockwise, its upper left corner is at the lower left"


def test_time_comes_from_the_container_else_from_the_file(tmp_path: Path) -> None:
    told = write_video(tmp_path / "told.mp4", 50, metadata={"creation_time": "2024-05-01T23:59:59.000000Z"})
    frame = load_source(listed(told)[1])
    assert dict(frame.columns) == {"taken_at": datetime(2024, 5, 2), "video_seconds": 1.0}
    silent = write_video(tmp_path / "silent.avi", 50, codec="mpeg4")
    os.utime(silent, (1_700_000_000, 1_700_000_000.25))
    frame = load_source(listed(silent)[1])
    assert frame.columns["taken_at"] == datetime.fromtimestamp(1_700_000_001.25)
    unset = write_video(tmp_path / "unset.mp4", 5, metadata={"creation_time": "1970-01-01T00:00:00Z"})
    assert load_source(listed(unset)[0]).columns["taken_at"].year == datetime.now().year


def test_rows_of_frames_and_of_their_boxes_open(tmp_path: Path) -> None:
    path = write_video(tmp_path / "owl.mp4", 75)
    frame = listed(path)[2]
    place = place_of(frame.uri)
    assert place == Place(str(path), "t=npt:2")
    assert RowImages().read(place) == load_source(frame).data
    boxed = frame_of(str(path), f"t=npt:2&{Box(0.0, 0.0, 0.25, 0.25).fragment}")
    assert boxed is not None and boxed.box == Box(0.0, 0.0, 0.25, 0.25)
    assert boxed.uri == f"{frame.uri}&xywh=percent:0,0,25,25"
    assert boxed.image == frame.uri
    place = place_of(boxed.uri)
    assert place is not None
    corner = shrunk(RowImages().read(place), place.fragment, 512)
    assert corner.size == (16, 12)
    assert corner.convert("L").getextrema()[0] > 230  # type: ignore[operator]
    made = thumbnails([frame.uri, boxed.uri, f"{path_to_uri(path)}#t=npt:99"], 32)
    assert [type(each) for each in made.values()] == [bytes, bytes, str]
    assert made[f"{path_to_uri(path)}#t=npt:99"] == "the video ends after 3.00 seconds"


@pytest.mark.parametrize("fragment", ["t=npt:", "t=npt:-1", "t=npt:1.2345", "t=npt:1,2", "t=1", "t=npt:9999999999", ""])
def test_fragments_that_name_no_frame(fragment: str) -> None:
    assert frame_of("/a.mp4", fragment) is None


def problem_of(path: Path) -> str:
    *frames, last = listed(path)
    assert not frames and last.part is None
    return str(last.problem)


def test_files_that_are_not_videos_are_failures_with_a_reason(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 50).read_bytes()
    files = {
        "empty.mp4": (b"", "the file is empty"),
        "zeros.mp4": (bytes(5000), "begins with zeros"),
        "text.mov": (b"no video at all, only words", "it is not a video in an MP4"),
        "list.mkv": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "it is not a video in an MP4"),
        "cut.mp4": (whole[:-400], "damaged or incomplete"),
        "half.m4v": (whole[: len(whole) // 2], "damaged or incomplete"),
        "header.mkv": (b"\x1a\x45\xdf\xa3" + bytes(100), "damaged or incomplete"),
        "riff.avi": (b"RIFF\xff\xff\xff\xffAVI LIST", "damaged or incomplete|has no video"),
    }
    for name, (data, reason) in files.items():
        (tmp_path / name).write_bytes(data)
        found = problem_of(tmp_path / name)
        assert any(part in found for part in reason.split("|")), (name, found)
    assert problem_of(write_sound(tmp_path / "sound.mp4")) == "it has sound and no video"


def test_truncated_video_gives_the_frames_before_the_cut(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.mkv", 250, codec="mjpeg", pixels="yuvj420p")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    sources = listed(path)
    assert len(sources) == 10, "as the header says"
    assert [brightness(load_source(each).data) for each in sources[:4]] == pytest.approx(
        [grey_of(n) for n in (0, 25, 50, 75)], abs=5
    )
    for late in sources[6:]:
        with pytest.raises(ImageError, match=r"the video ends after [45]\.\d\d seconds"):
            load_source(late)


def test_damage_in_the_middle_costs_only_what_it_hits(tmp_path: Path) -> None:
    path = write_video(tmp_path / "hit.mp4", 250, options={"g": "25", "bf": "0"})
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    middle = start + (data.index(b"moov") - start) // 2
    data[middle : middle + 300] = bytes(300)
    path.write_bytes(data)
    frames = [load_source(each).data for each in listed(path)]
    assert [brightness(frames[n]) for n in (0, 1, 9)] == pytest.approx([grey_of(n) for n in (0, 25, 225)], abs=6)


@pytest.mark.parametrize(
    ("side", "reason"), [(16_000, "frames of 16000 x 16000 pixels, more than 178,956,970"), (16_384, "too large")]
)
def test_bomb_is_refused_by_its_size(side: int, reason: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "bomb.avi", 3, codec="ffv1")
    size = (64).to_bytes(4, "little") + (48).to_bytes(4, "little")
    data = path.read_bytes()
    assert size in data
    path.write_bytes(data.replace(size, 2 * side.to_bytes(4, "little")))
    begun = time.perf_counter()
    found = problem_of(path)
    assert reason in found
    assert found.endswith("refused as a decompression bomb")
    assert time.perf_counter() - begun < 5


def test_frames_that_grow_inside_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "bomb.avi", 3, codec="mjpeg", pixels="yuvj420p")
    small = b"\xff\xc0\x00\x11\x08\x00\x30\x00\x40"
    data = path.read_bytes()
    assert data.count(small) == 3
    path.write_bytes(data.replace(small, b"\xff\xc0\x00\x11\x08\x40\x00\x40\x00"))
    assert problem_of(path) == "none of its frames can be decoded: it is damaged or truncated"


def test_header_that_claims_days_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.avi", 3, codec="mpeg4")
    data = bytearray(path.read_bytes())
    length = data.index(b"strh") + 8 + 32  # of the stream, in frames
    data[length : length + 4] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(data)
    found = listed(path)
    assert len(found) <= 32 or "it claims to last" in str(found[-1].problem)
    assert len(found) < 100


@pytest.mark.slow
def test_ten_hours_are_listed_at_once(tmp_path: Path) -> None:
    seconds = 36_000
    path = write_video(
        tmp_path / "night.mp4",
        seconds // 4,
        rate=Fraction(1, 4),
        base=Fraction(4),
        size=(32, 32),
        codec="libx264",
        options={"preset": "ultrafast", "g": "100000"},
    )
    begun = time.perf_counter()
    sources = listed(path)
    assert len(sources) == seconds // 4
    assert time.perf_counter() - begun < 5
    assert sources[-1].uri.endswith("#t=npt:35996")
    assert brightness(load_source(sources[-1]).data) == pytest.approx(grey_of(seconds // 4 - 1), abs=6)


@pytest.mark.slow
def test_video_that_takes_too_long_costs_two_processes_and_no_other_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readers: VideoReaders
) -> None:
    fine = write_video(tmp_path / "fine.mp4", 50)
    slow = write_video(
        tmp_path / "slow.mp4", 400, size=(640, 480), options={"preset": "ultrafast", "g": "1000", "qp": "40"}
    )
    readers.info(str(slow))
    monkeypatch.setattr(video, "SECONDS", 0.001)
    for _ in range(2):
        with pytest.raises(ImageError, match=r"more than 0\.001 seconds"):
            readers.frame(str(slow), 15_900)
    monkeypatch.setattr(video, "SECONDS", 60.0)
    with pytest.raises(ImageError, match=r"more than 0\.001 seconds"):
        readers.frame(str(slow), 0)
    assert readers.frame(str(fine), 1000)


def test_idle_processes_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readers: VideoReaders) -> None:
    monkeypatch.setattr(video, "IDLE_SECONDS", 0.2)
    path = str(write_video(tmp_path / "a.mp4", 50))
    first = readers.frame(path, 0)
    (reader,) = readers._readers
    for _ in range(100):
        if not reader.runs:
            break
        time.sleep(0.05)
    assert not reader.runs
    assert readers.frame(path, 0) == first


def test_video_that_changes_is_opened_again(tmp_path: Path, readers: VideoReaders) -> None:
    path = write_video(tmp_path / "a.mp4", 50)
    before = readers.frame(str(path), 0)
    write_video(path, 50, size=(32, 32))
    assert readers.frame(str(path), 0) != before
    path.unlink()
    with pytest.raises(FileNotFoundError):
        readers.frame(str(path), 0)


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", 5)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"\.\[video\]"):
        find_sources([path])
    found = {Path(each.path).name: each for each in find_sources([tmp_path])}
    assert found["b.png"].members is None
    assert found["a.mp4"].members is not None
    (told,) = found["a.mp4"].members.sources()
    assert 'pip install ".[video]"' in str(told.problem)


def test_urls_of_videos_are_refused_with_what_to_do() -> None:
    (source,) = find_sources(["https://example.org/owl.mp4"])
    assert source.problem is not None and "download it first" in source.problem
