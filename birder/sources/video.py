"""Videos: a file is a shard whose images are frames, named by their time as W3C's media fragments write it.

    file:///card/IMG_0042.MP4#t=npt:12.5

The header tells how many frames there are to be; what is decoded decides which there are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import pyarrow as pa

from birder.errors import ConfigError, ImageError, MissingExtraError
from birder.images.video import VIDEO_EXTENSIONS, VideoInfo, video_readers
from birder.sources.source import NO_COLUMNS, Loaded, Source, box_of

_TYPES: Mapping[str, pa.DataType] = {"taken_at": pa.timestamp("us"), "video_seconds": pa.float64()}
_TIME = re.compile(r"t=npt:(\d{1,9})(?:\.(\d{1,3}))?")
_MOST = 1_000_000
"""Frames of one video."""
_FEWEST_BYTES = 8
"""That a frame takes in its file."""
_AT_ONCE = 8
"""Frames before one that other threads may ask for at the same time."""


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a video are images: `fps` a second, never more than it has, and at most the first `most`."""

    fps: float = 1.0
    most: int | None = None

    def __post_init__(self) -> None:
        if not 0.001 <= self.fps <= 1000:
            raise ConfigError(f"{self.fps} frames a second: give a number between 0.001 and 1000.")
        if self.most is not None and self.most < 1:
            raise ConfigError(f"At most {self.most} frames of a video: give a number of at least 1.")


@dataclass(slots=True)
class VideoShard:
    """A video file; its header is read once.

    `told` has columns of its frames, by the second of the video that they are in.
    """

    path: str
    choice: FrameChoice = field(default_factory=FrameChoice)
    told: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    types: Mapping[str, pa.DataType] = field(default_factory=lambda: _TYPES)
    _filmed: datetime | None = None

    @property
    def settled(self) -> bool:
        """False: the frames that are asked for may be others each time."""
        return False

    def sources(self) -> Iterator[Source]:
        """One source a frame; only the first frame is decoded."""
        try:
            info = video_readers.info(self.path)
            status = os.stat(self.path)  # noqa: PTH116 - the path may not be text
        except (ImageError, MissingExtraError) as error:
            yield Source(self.path, problem=str(error))
            return
        except OSError as error:
            yield Source(self.path, problem=_why(error))
            return
        self._filmed = info.created or _local(status.st_mtime)
        step = max(1 / Fraction(self.choice.fps).limit_denominator(1000), 1 / info.rate)
        count = max(1, -(-info.duration // step))
        if self.choice.most is not None:
            count = min(count, self.choice.most)
        if count > max(32, status.st_size // _FEWEST_BYTES):
            problem = f"it claims to last {float(info.duration):,.0f} seconds in {status.st_size:,} bytes"
            yield Source(self.path, problem=problem)
            return
        if count > _MOST:
            problem = f"{count:,} frames, more than {_MOST:,}: embed fewer a second, or at most so many"
            yield Source(self.path, problem=problem)
            return
        size = 3 * info.width * info.height
        for number in range(count):
            at = _milliseconds(number, step)
            columns = self.told.get(at // 1000, NO_COLUMNS)
            yield Source(self.path, part=VideoFrame(self, at, size, step, number), columns=columns)

    def load(self, milliseconds: int, before: list[int]) -> Loaded:
        """The frame of a time as a BMP file, and its columns; raises `OSError` or `ImageError`."""
        data = video_readers.frame(self.path, milliseconds, before)
        return Loaded(data, self.columns(milliseconds))

    def columns(self, milliseconds: int) -> dict[str, Any]:
        """When a frame was taken, as the clock of the camera says, and its time in the video in seconds."""
        if self._filmed is None:
            info: VideoInfo = video_readers.info(self.path)
            self._filmed = info.created or _local(os.stat(self.path).st_mtime)  # noqa: PTH116
        taken_at = self._filmed + timedelta(milliseconds=milliseconds)
        return {"taken_at": taken_at, "video_seconds": milliseconds / 1000}


@dataclass(slots=True)
class VideoFrame:
    """A frame of a video: the first that is shown so many milliseconds after the video's first frame, or later."""

    shard: VideoShard
    milliseconds: int
    size: int | None = None
    step: Fraction | None = None
    number: int = 0

    @property
    def fragment(self) -> str:
        """As W3C's media fragments write it: seconds, up to three decimals."""
        return f"t=npt:{self.milliseconds / 1000:.3f}".rstrip("0").rstrip(".")

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Arrow types of the columns of its video."""
        return self.shard.types

    def load(self) -> Loaded:
        """Decode it; raises `OSError` or `ImageError`."""
        before: list[int] = []
        if self.step is not None:
            before = [_milliseconds(n, self.step) for n in range(max(0, self.number - _AT_ONCE), self.number)]
        return self.shard.load(self.milliseconds, before)


def is_video(path: str) -> bool:
    """Whether a file's name says that it is a video."""
    if path.endswith((".jpg", ".JPG", ".png")):  # most of a million files
        return False
    return os.path.splitext(path)[1].lower() in VIDEO_EXTENSIONS  # noqa: PTH122


def frame_of(path: str, fragment: str) -> Source | None:
    """The frame, or the box of one, that a row's uri names behind #; None for other fragments."""
    time, _, box = fragment.partition("&")
    found = _TIME.fullmatch(time)
    if found is None:
        return None
    return Source(path, part=VideoFrame(VideoShard(path), _read_milliseconds(found)), box=box_of(box))


def time_in_video(uri: str) -> timedelta | None:
    """How long after its video's first frame a frame is, by the row's uri; None for other images."""
    found = _TIME.fullmatch(uri.partition("#")[2].partition("&")[0])
    return None if found is None else timedelta(milliseconds=_read_milliseconds(found))


def _read_milliseconds(found: re.Match[str]) -> int:
    return 1000 * int(found[1]) + int((found[2] or "").ljust(3, "0"))


def _milliseconds(number: int, step: Fraction) -> int:
    """The time of a frame, never later than it is: rounded up, it would be that of the next one."""
    return int(number * step * 1000)


def _local(seconds: float) -> datetime:
    """When a file was written, on the clock of this machine; a camera's clock says local time, too."""
    return datetime.fromtimestamp(seconds)


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    return f"it cannot be read ({error.strerror or error})"
