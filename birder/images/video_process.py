"""`python -m birder.images.video_process`: decode frames of one video after another, in a process that may be ended.

First it says R: ready. What comes in on standard input then, again and again: the length of a request (4 bytes,
big-endian) and the request as JSON: `open` (a path), or `frame` (milliseconds since the first frame), and `seconds`
of processor time that it may take. What goes out: an object of JSON after its length, and behind that of a frame its
bytes, a BMP. Instead of either, the reason why not.

The frame of a time is the first in order of presentation that is shown at that time or later; the last frame also
answers for the time for which it is shown. That does not depend on where decoding began: after a jump, it begins at a
frame that is certainly before.
"""

from __future__ import annotations

import io
import json
import os
import stat
import struct
import sys
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from birder.errors import ImageError
from birder.images.decoding_process import allow_any_memory, limit, say
from birder.images.guard import MAX_PIXELS, QUARTER
from birder.images.video import container_of

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

_HEADER = 256 << 20
"""Bytes of memory that a container's header and index may take: 12 hours at 60 frames a second take some 100 MB."""
_BYTES_PER_PIXEL = 48
"""Of memory: a decoder keeps up to 16 frames to refer to, each thread has one, and the frame itself becomes RGB."""
_THREADS = 2
_AHEAD = Fraction(10)
"""Seconds from which on jumping ahead is faster than decoding what lies between."""
_MARGINS = (Fraction(1, 2), Fraction(10))
"""Seconds before a time at which decoding begins after a jump; where that is too late, at the beginning."""
_REST = Fraction(1, 2)
"""Seconds for which the last frame answers at most beyond its own time: sound may outlast the frames."""
_NEVER = Fraction(-1)
"""Before the first frame."""
_CREATED = ("com.apple.quicktime.creationdate", "creation_time", "date", "IDIT")
_EPOCHS = (1904, 1970)
"""What clocks say that were never set."""


class _Video:
    """An open video, and the frame at which its decoder is."""

    def __init__(self, path: str) -> None:
        self._file = _opened(path)
        try:
            self.container, self.stream = _open(self._file)
            context = self.stream.codec_context
            if not context.width or not context.height:  # FFmpeg takes a size of more than 16,255 squared for none
                raise ImageError("its frames have no size, or one that is too large: refused as a decompression bomb")
            _check_pixels(context.width, context.height)
            amount = _BYTES_PER_PIXEL * context.width * context.height
            if amount > QUARTER:
                raise ImageError(f"decoding its frames takes {amount / 1e6:,.0f} MB, more than a quarter of the memory")
            self.amount = amount
            _prepare(self.stream)
        except BaseException:
            self._file.close()
            raise

    def begin(self) -> None:
        """Decode the first frame, which is at 0 seconds."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        self.rate = Fraction(rate) if rate else Fraction(25)
        self._origin = Fraction(0)
        self._current: tuple[Fraction, VideoFrame] | None = None
        self._before: Fraction | None = None
        self._restart()
        if self._current is None:
            raise ImageError("none of its frames can be decoded: it is damaged or truncated")
        self._origin = self._current[0]
        self._current = (Fraction(0), self._current[1])

    def close(self) -> None:
        self.container.close()
        self._file.close()

    def described(self) -> dict[str, Any]:
        """What the header says; `duration` in seconds and `rate` in frames a second as fractions."""
        assert self._current is not None
        width, height = self._current[1].width, self._current[1].height
        if self._current[1].rotation % 180:
            width, height = height, width
        return {
            "width": width,
            "height": height,
            "duration": str(self._duration()),
            "rate": str(self.rate),
            "created": _created(self.container, self.stream),
        }

    def frame(self, milliseconds: int) -> bytes:
        """The frame of a time, upright, as a BMP."""
        time = Fraction(milliseconds, 1000)
        if not self._is_ahead(time):
            self._jump(time)
        while self._current is not None and self._current[0] < time and self._advance():
            pass
        if self._current is None:
            raise ImageError("none of its frames can be decoded: it is damaged or truncated")
        at, frame = self._current
        if at < time and time > at + max(_length(frame, self.rate), _REST):
            raise ImageError(f"the video ends after {float(at + _length(frame, self.rate)):.2f} seconds")
        return _bmp(frame)

    def _is_ahead(self, time: Fraction) -> bool:
        """Whether the frame of a time is the current one, or comes not long after it."""
        if self._current is None or time - self._current[0] > _AHEAD:
            return False
        return self._current[0] < time or (self._before is not None and self._before < time)

    def _jump(self, time: Fraction) -> None:
        for margin in _MARGINS:
            if time < margin:
                break
            target = int((time - margin + self._origin) / _base(self.stream))
            try:
                self.container.seek(target, stream=self.stream, backward=True)
            except (av.FFmpegError, OverflowError):
                break
            self._restart(again=False)
            # A first frame at this time or later: there may be another one before it.
            if self._current is not None and self._current[0] < time:
                return
        self._restart()

    def _restart(self, *, again: bool = True) -> None:
        """Decode the first frame from here, or from the beginning."""
        if again:
            # As by opening it again: an index that is damaged says nothing about the beginning.
            self.container.close()
            self._file.seek(0)
            self.container, self.stream = _open(self._file)
            _prepare(self.stream)
        self._frames = self._decoded()
        self._current = next(self._frames, None)
        self._before = _NEVER if again else None

    def _advance(self) -> bool:
        following = next(self._frames, None)
        if following is None:
            return False
        assert self._current is not None
        self._before, self._current = self._current[0], following
        return True

    def _decoded(self) -> Iterator[tuple[Fraction, VideoFrame]]:
        """Frames in order of presentation, with their times; packets that are damaged are left out."""
        last: Fraction | None = None
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                return
            except (av.error.InvalidDataError, av.error.EOFError):
                continue
            except av.FFmpegError as error:
                if error.errno in (12, -12):
                    raise MemoryError from None
                continue
            for frame in frames:
                if not isinstance(frame, VideoFrame):
                    continue
                _check_pixels(frame.width, frame.height)
                stamp = frame.pts if frame.pts is not None else frame.dts
                if stamp is not None:
                    last = stamp * _base(self.stream) - self._origin
                else:
                    last = Fraction(0) if last is None else last + 1 / self.rate
                yield last, frame

    def _duration(self) -> Fraction:
        if self.stream.duration:
            return Fraction(self.stream.duration) * _base(self.stream)
        told = _seconds(self.stream.metadata.get("DURATION", ""))
        if told is None and self.container.duration:
            told = Fraction(self.container.duration, av.time_base)
        # Matroska counts from 0, not from the first frame.
        return self._measured() if told is None else told - self._origin

    def _measured(self) -> Fraction:
        """The end of the last packet, of a container that does not say how long it is."""
        end = self._origin
        self.container.seek(0)
        try:
            for packet in self.container.demux(self.stream):
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None:
                    length = packet.duration * _base(self.stream) if packet.duration else 1 / self.rate
                    end = max(end, stamp * _base(self.stream) + length)
        except av.FFmpegError:
            pass  # truncated: what comes before counts
        self._restart()
        return end - self._origin


def _opened(path: str) -> BinaryIO:
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
        raise ImageError("not a regular file")
    return open(path, "rb")  # noqa: PTH123


def _open(file: BinaryIO) -> tuple[av.container.InputContainer, VideoStream]:
    """Open a container by its first bytes: what FFmpeg guesses may be a list of other files and URLs."""
    head = file.read(12)
    file.seek(0)
    if not head:
        raise ImageError("the file is empty")
    format = container_of(head)
    if format is None and not any(head):
        raise ImageError("the file begins with zeros: it is not a video, or was not written completely")
    if format is None:
        raise ImageError("it is not a video in an MP4, QuickTime, AVI or Matroska container")
    try:
        container = av.open(file, "r", format=format, buffer_size=1 << 18, metadata_errors="replace")
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise ImageError(
            f"the video is damaged or incomplete ({getattr(error, 'strerror', None) or error}): its header or index "
            "cannot be read"
        ) from error
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if getattr(stream, "codec_context", None) is None:
                container.close()
                raise ImageError("its codec is unknown")
            return container, stream
    sound = len(container.streams.audio) > 0
    container.close()
    raise ImageError("it has sound and no video" if sound else "it has no video")


def _prepare(stream: VideoStream) -> None:
    context = stream.codec_context
    context.options = {"max_pixels": str(MAX_PIXELS)}
    context.thread_type = "AUTO"
    context.thread_count = _THREADS


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"frames of {width} x {height} pixels, more than {MAX_PIXELS:,}: refused as a decompression bomb"
        )


def _base(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, av.time_base)


def _length(frame: VideoFrame, rate: Fraction) -> Fraction:
    """Seconds for which a frame is shown."""
    if frame.duration and frame.time_base:
        return Fraction(frame.duration) * frame.time_base
    return 1 / rate


def _seconds(text: str) -> Fraction | None:
    """Seconds of Matroska's "00:00:10.040000000"."""
    try:
        hours, minutes, seconds = text.strip("\0 ").split(":")
        return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    except (ValueError, ZeroDivisionError):
        return None


def _created(container: av.container.InputContainer, stream: VideoStream) -> str | None:
    """When it was filmed, as its clock says: ISO 8601 without a zone."""
    for told in (container.metadata, stream.metadata):
        for name in _CREATED:
            try:
                moment = datetime.fromisoformat(told.get(name, "").strip("\0 "))
            except ValueError:
                continue
            if moment.year not in _EPOCHS:
                return moment.replace(tzinfo=None).isoformat()
    return None


_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


def _bmp(frame: VideoFrame) -> bytes:
    """A frame, turned as its display matrix says, as an image file that is written without loss and at once."""
    image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    turn = _TURNS.get(frame.rotation % 360)
    if turn is not None:
        image = image.transpose(turn)
    written = io.BytesIO()
    image.save(written, "BMP")
    return written.getvalue()


def main() -> None:
    """Answer until standard input ends."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(None)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not corrupt the stream
    answers.write(b"R")
    answers.flush()
    video: _Video | None = None
    while len(length := requests.read(4)) == 4:
        wanted = json.loads(requests.read(struct.unpack(">I", length)[0]))
        data = b""
        try:
            if "open" in wanted:
                if video is not None:
                    video.close()
                    video = None
                allow_any_memory()
                limit(_HEADER, wanted["seconds"])
                opened = _Video(wanted["open"])
                allow_any_memory()
                limit(_HEADER + opened.amount, wanted["seconds"])
                opened.begin()
                video = opened
                answer = video.described()
            else:
                assert video is not None
                limit(_HEADER + video.amount, wanted["seconds"])
                data = video.frame(wanted["frame"])
                answer = {"bytes": len(data)}
        except ImageError as error:
            answer = {"reason": str(error)}
        except MemoryError:
            answer = {"reason": "decoding it takes more memory than frames of its size may"}
        except FileNotFoundError:
            answer = {"reason": "the file does not exist"}
        except PermissionError:
            answer = {"reason": "no permission to read the file"}
        except (OSError, ValueError, ArithmeticError) as error:  # FFmpeg's errors are of these kinds, too
            answer = {"reason": f"it cannot be decoded ({getattr(error, 'strerror', None) or error})"}
        say(answers, answer)
        answers.write(data)
        answers.flush()


if __name__ == "__main__":
    main()
