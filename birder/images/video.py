"""Video files read in separate processes with limits of memory and time: what they are, and their frames as images."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any, NamedTuple

from birder.errors import ImageError
from birder.extras import need
from birder.images.apart import SIGXCPU, START_SECONDS, at_most, end_process, read_answer

MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
}
"""What files with an extension of a video are called on the web."""
VIDEO_EXTENSIONS = frozenset(MEDIA_TYPES)

SECONDS = 60.0
"""Of processor time that opening a video, or finding a frame of it, may take."""
IDLE_SECONDS = 10.0
"""After so long, processes are ended, and with them the files that they have open."""

_PROCESSES = max(2, min(os.cpu_count() or 1, 4))
_ENDED = 2
"""So many processes may end over one video; then it is left alone."""
_KEPT = 32
_KEPT_BYTES = 192 << 20
"""Frames that were passed on the way to a later one, of each process."""
_REMEMBERED = 10_000


class VideoInfo(NamedTuple):
    """What a video is: width and height in pixels, upright; seconds; frames a second; when it was filmed, if known."""

    width: int
    height: int
    duration: Fraction
    rate: Fraction
    created: datetime | None


def container_of(head: bytes) -> str | None:
    """The container that the first 12 bytes of a file begin, by FFmpeg's name: mov, avi, matroska; None for others."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return "mov"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    return "matroska" if head.startswith(b"\x1a\x45\xdf\xa3") else None


class _Stamp(NamedTuple):
    """A video as it is now."""

    path: str
    size: int
    modified: int


class _Reader:
    """A process that has a video open, or will have one. Used by one thread at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stamp: _Stamp | None = None
        self.users = 0
        self.used = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._info: VideoInfo | None = None
        self._last: int | None = None
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    @property
    def runs(self) -> bool:
        """Whether its process does."""
        return self._process is not None

    def assign(self, stamp: _Stamp) -> None:
        """Read another video from now on."""
        self.stamp, self._info, self._last = stamp, None, None
        self._kept.clear()

    def info(self) -> VideoInfo:
        if self._info is None:
            assert self.stamp is not None
            answer, _ = self._ask({"open": self.stamp.path})
            created = answer["created"] and datetime.fromisoformat(answer["created"])
            self._info = VideoInfo(
                answer["width"], answer["height"], Fraction(answer["duration"]), Fraction(answer["rate"]), created
            )
        return self._info

    def frame(self, milliseconds: int, before: Sequence[int]) -> bytes:
        self.info()
        found = self._kept.pop(milliseconds, None)
        if found is not None:
            return found
        # Threads ask nearly in order: what lies between is on the way, and will be asked for next.
        if before and self._last is not None and self._last >= before[0]:
            for each in before:
                if self._last < each < milliseconds:
                    with contextlib.suppress(ImageError):  # whoever asks for it is told
                        self._kept[each] = self._decode(each)
        data = self._decode(milliseconds)
        while len(self._kept) > _KEPT or sum(map(len, self._kept.values())) > _KEPT_BYTES:
            self._kept.popitem(last=False)
        return data

    def _decode(self, milliseconds: int) -> bytes:
        self.info()
        _, data = self._ask({"frame": milliseconds})
        self._last = milliseconds
        return data

    def _ask(self, wanted: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._start()
        assert process.stdin is not None and process.stdout is not None
        request = json.dumps({**wanted, "seconds": SECONDS}).encode()
        late = threading.Event()
        finished = False
        try:
            with at_most(process, SECONDS, late):
                process.stdin.write(struct.pack(">I", len(request)) + request)
                process.stdin.flush()
                answer = read_answer(process.stdout)
                size = answer.get("bytes", 0)
                data = process.stdout.read(size)
            if len(data) < size:
                raise EOFError
            finished = True
        except (OSError, EOFError, struct.error, ValueError):
            pass  # the process has ended in the middle
        finally:
            if not finished:
                self.end()
        if not finished:
            if late.is_set() or process.returncode == -SIGXCPU:
                raise _ProcessEndedError(f"decoding it took more than {SECONDS:.3g} seconds")
            raise _ProcessEndedError("decoding it took more memory than its frames may take, or crashed the decoder")
        if "reason" in answer:
            raise ImageError(answer["reason"])
        return answer, data

    def _start(self) -> subprocess.Popen[bytes]:
        self._info, self._last = None, None
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "birder.images.video_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
            start_new_session=True,  # Ctrl+C is for the run, which ends after what it has begun
        )
        self._process = process
        assert process.stdout is not None
        with at_most(process, START_SECONDS, threading.Event()):
            ready = process.stdout.read(1)
        if not ready:  # what it takes to start is not the video's fault
            self.end()
            raise ImageError("the decoding process did not start")
        return process

    def end(self) -> None:
        """End its process; the next question starts another one."""
        process, self._process = self._process, None
        self._info, self._last = None, None
        self._kept.clear()
        if process is not None:
            end_process(process)


class _ProcessEndedError(ImageError):
    """A video that cost a process."""


class VideoReaders:
    """Processes that read videos, each one video at a time; any thread may ask, fastest for times in order.

    Parameters
    ----------
    processes
        The most processes.
    """

    def __init__(self, processes: int = _PROCESSES) -> None:
        self._count = processes
        self.forget()
        atexit.register(self.stop)

    def forget(self) -> None:
        """Start over without ending any process: after a fork, they belong to the parent."""
        self._others = getattr(self, "_readers", None)
        self._changed = threading.Condition()
        self._readers = [_Reader() for _ in range(self._count)]
        self._ended: OrderedDict[_Stamp, tuple[int, str]] = OrderedDict()
        self._timer: threading.Timer | None = None

    def info(self, path: str) -> VideoInfo:
        """What a video is, after its first frame was decoded.

        Raises
        ------
        ImageError
            With a short reason: damaged, without video, frames that are too large, ...
        OSError
            The file cannot be read.
        MissingExtraError
            The extra `video` is not installed.
        """
        with self._reading(path) as reader:
            return reader.info()

    def frame(self, path: str, milliseconds: int, before: Sequence[int] = ()) -> bytes:
        """A frame as an upright BMP file.

        Parameters
        ----------
        milliseconds
            Since the first frame; the first frame that is shown then or later.
        before
            Times that other threads will ask for at about the same time, ascending.

        Raises
        ------
        ImageError, OSError, MissingExtraError
            As `info`; also if the video ends before.
        """
        with self._reading(path) as reader:
            return reader.frame(milliseconds, before)

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[_Reader]:
        need("video", "Reading video")
        status = os.stat(path)  # noqa: PTH116 - the path may not be text
        stamp = _Stamp(path, status.st_size, status.st_mtime_ns)
        reader = self._take(stamp)
        try:
            with reader.lock:
                count, reason = self._ended.get(stamp, (0, ""))
                if count >= _ENDED:
                    raise ImageError(reason)
                try:
                    yield reader
                except _ProcessEndedError as error:
                    self._ended[stamp] = (count + 1, str(error))
                    if len(self._ended) > _REMEMBERED:
                        self._ended.popitem(last=False)
                    raise
        finally:
            with self._changed:
                reader.users -= 1
                reader.used = time.monotonic()
                self._end_later()
                self._changed.notify_all()

    def _take(self, stamp: _Stamp) -> _Reader:
        """The reader that has this video, else the one that has been idle longest; callers wait while all are busy."""
        with self._changed:
            while True:
                reader = next((each for each in self._readers if each.stamp == stamp), None)
                if reader is None:
                    free = [each for each in self._readers if not each.users]
                    reader = min(free, key=lambda each: each.used, default=None)
                    if reader is not None:
                        reader.assign(stamp)
                if reader is not None:
                    reader.users += 1
                    return reader
                self._changed.wait()

    def _end_later(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(IDLE_SECONDS, self._end_idle)
            self._timer.daemon = True
            self._timer.start()

    def _end_idle(self) -> None:
        with self._changed:
            self._timer = None
            before = time.monotonic() - IDLE_SECONDS + 0.1
            for reader in self._readers:
                if not reader.users and reader.used < before:
                    reader.end()
                    reader.stamp = None
            if any(reader.runs for reader in self._readers):
                self._end_later()

    def stop(self) -> None:
        """End the processes."""
        with self._changed:
            for reader in self._readers:
                reader.end()


video_readers = VideoReaders()
"""Those of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=video_readers.forget)
