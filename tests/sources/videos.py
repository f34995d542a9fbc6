"""Small videos, made as they are needed; each frame is grey of another brightness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream


def grey_of(number: int) -> int:
    """The brightness of a frame."""
    return 20 + number * 5 % 200


def write_video(
    path: Path,
    frames: int = 50,
    *,
    rate: int | Fraction = 25,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    stamps: Sequence[int] | None = None,
    base: Fraction | None = None,
    options: Mapping[str, str] | None = None,
    rotation: int = 0,
    metadata: Mapping[str, str] | None = None,
    **container: Any,
) -> Path:
    """A video of some frames, at `stamps` in units of `base` seconds; each has a bright corner at its upper left."""
    with av.open(str(path), "w", **container) as file:
        file.metadata.update(metadata or {})
        stream = file.add_stream(codec, rate=rate, options=dict(options or {}))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        if base is not None:
            stream.codec_context.time_base = base
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(frames):
            grey = np.full((size[1], size[0], 3), grey_of(number), np.uint8)
            grey[: size[1] // 4, : size[0] // 4] = 255
            frame = av.VideoFrame.from_ndarray(grey, "rgb24")
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = base or 1 / Fraction(rate)
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)
    return path


def write_sound(path: Path) -> Path:
    """A second of silence in a video's container."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    return path
