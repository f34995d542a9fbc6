"""From a row's uri to the video that its frame is of: what it is called, and its bytes for a player.

Bytes are given as they are, unlike those of images (`birder.sources.row_images`). So the uri must name a frame of a
file with an extension of a video, and the file must begin as one: a collection that others made cannot have other
files sent.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO, NamedTuple

from birder.errors import ImageError
from birder.images.video import MEDIA_TYPES, container_of
from birder.sources.row_images import Place
from birder.sources.source import readable
from birder.sources.video import VideoFrame, frame_of

_HEAD = 12


class RowVideo(NamedTuple):
    """The video of a row: its file's name, for display; its media type; the time of the row's frame in seconds."""

    name: str
    media_type: str
    seconds: float


def video_of(place: Place | None) -> RowVideo | None:
    """The video that a row's frame is of; None for other rows."""
    if place is None:
        return None
    media_type = MEDIA_TYPES.get(os.path.splitext(place.path)[1].lower())  # noqa: PTH122 - the path may not be text
    frame = frame_of(place.path, place.fragment)
    if media_type is None or frame is None or not isinstance(frame.part, VideoFrame):
        return None
    return RowVideo(readable(os.path.basename(place.path)), media_type, frame.part.milliseconds / 1000)  # noqa: PTH119


def open_video(place: Place) -> BinaryIO:
    """Open the file of a place whose video is known (`video_of`), for reading.

    Raises
    ------
    ImageError
        It does not exist, cannot be read, or does not begin as a video.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe would be waited for
    try:
        file = os.fdopen(os.open(place.path, flags), "rb")
        try:
            is_video = stat.S_ISREG(os.fstat(file.fileno()).st_mode) and container_of(file.read(_HEAD)) is not None
        except BaseException:
            file.close()
            raise
    except FileNotFoundError:
        raise ImageError("the file no longer exists") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not is_video:
        file.close()
        raise ImageError("the file is not a video in an MP4, QuickTime, AVI or Matroska container")
    return file
