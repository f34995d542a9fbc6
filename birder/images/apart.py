"""Decoding in separate processes with limits of memory and time, so that a hostile file costs only such a process."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

from PIL import Image

from birder.errors import ImageError
from birder.images.decode import Photo, PhotoMetadata
from birder.images.guard import QUARTER, decoding

SECONDS = 3.0
"""What reading a header and decoding the smallest image may take."""
SECONDS_A_MEGAPIXEL = 0.5
MOST_SECONDS = 30.0
MOST_BYTES = 256 << 20
"""Of a file; it is in memory several times while it is decoded."""

START_SECONDS = 20.0
_PATIENCE = 3
"""A process ends itself after so many seconds of processor time; it is killed after so many times that by the clock."""
_STRIP = 4 << 20


class Decoders:
    """A pool of decoding processes, started on demand; callers wait while all of them are busy.

    Parameters
    ----------
    processes
        The most processes.
    seconds
        Seconds that decoding may take, whatever the size of the image.
    """

    def __init__(self, processes: int, seconds: float = MOST_SECONDS) -> None:
        self._processes = processes
        self._seconds = seconds
        self.forget()
        atexit.register(self.stop)

    def forget(self) -> None:
        """Start over without ending any process: after a fork, they belong to the parent."""
        # Kept, because a discarded pipe would flush what another thread had begun to write.
        self._others = getattr(self, "_running", None)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._free: queue.LifoQueue[subprocess.Popen[bytes] | None] = queue.LifoQueue()
        for _ in range(self._processes):
            self._free.put(None)

    def decode(
        self,
        data: bytes,
        draft: tuple[int, int] | None,
        held: contextlib.ExitStack,
        transform: dict[str, Any] | None = None,
    ) -> Photo:
        """Decode an image; see `birder.images.open.open_photo`.

        Parameters
        ----------
        data
            The file.
        draft
            (height, width) in pixels that are needed at least.
        held
            Takes the memory of `decoding` that the image takes, in the process and here.
        transform
            Of a collection's card: the image is then what the network gets, (H, W) as its size says.

        Raises
        ------
        ImageError
            With a short reason; also if it takes more memory or time than an image of its size may.
        """
        if len(data) > MOST_BYTES:
            raise ImageError(
                f"{len(data):,} bytes, more than the {MOST_BYTES:,} for formats that are decoded in a separate process"
            )
        process = self._free.get()
        try:
            if process is None or process.poll() is not None:
                process = self._start()
            return self._ask(process, data, {"draft": draft, "transform": transform}, held)
        finally:
            self._free.put(process)

    def _ask(
        self, process: subprocess.Popen[bytes], data: bytes, wanted: dict[str, Any], held: contextlib.ExitStack
    ) -> Photo:
        assert process.stdin is not None and process.stdout is not None
        seconds = min(SECONDS, self._seconds)
        head = json.dumps({**wanted, "seconds": seconds}).encode()
        late = threading.Event()
        finished = False
        try:
            with at_most(process, seconds, late):
                process.stdin.write(struct.pack(">IQ", len(head), len(data)) + head)
                process.stdin.write(data)
                process.stdin.flush()
                answer = read_answer(process.stdout)
            if "amount" in answer:
                seconds = min(SECONDS + SECONDS_A_MEGAPIXEL * answer["pixels"] / 1e6, self._seconds)
                if answer["amount"] > QUARTER:
                    raise ImageError(
                        f"decoding it takes {answer['amount'] / 1e6:,.0f} MB, more than a quarter of the memory"
                    )
                held.enter_context(decoding.hold(answer["amount"]))
                with at_most(process, seconds, late):
                    process.stdin.write(struct.pack(">d", seconds))
                    process.stdin.flush()
                    answer = read_answer(process.stdout)
                    image = _image(process.stdout, answer["size"]) if "size" in answer else None
                if image is not None:
                    finished = True
                    taken_at = answer["taken_at"] and datetime.fromisoformat(answer["taken_at"])
                    metadata = PhotoMetadata(taken_at, answer["latitude"], answer["longitude"])
                    return Photo(image, answer["width"], answer["height"], metadata)
            finished = True
            raise ImageError(answer["reason"])
        except (OSError, struct.error, ValueError, KeyError):
            pass  # its process has ended in the middle
        finally:
            if not finished:
                end_process(process)
        if late.is_set() or process.returncode == -SIGXCPU:
            raise ImageError(f"decoding it took more than {seconds:.3g} seconds")
        raise ImageError("decoding it took more memory than its size allows, or crashed the decoder")

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise ImageError("decoding is being stopped")
            self._running = {process for process in self._running if process.poll() is None}
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "birder.images.decoding_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # one thread each: a library's pool of them would take the memory that is meant for images
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
                start_new_session=True,  # Ctrl+C is for the run, which ends after what it has begun
            )
            self._running.add(process)
        assert process.stdout is not None
        with at_most(process, START_SECONDS, threading.Event()):
            ready = process.stdout.read(1)
        if not ready:  # what it takes to start is not the file's fault
            end_process(process)
            raise ImageError("the decoding process did not start")
        return process

    def stop(self) -> None:
        """End the processes."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()
            for process in self._running:
                process.wait()


SIGXCPU = 24  # Windows has none


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process, and close the pipes to it."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


@contextlib.contextmanager
def at_most(process: subprocess.Popen[bytes], seconds: float, late: threading.Event) -> Iterator[None]:
    """End a process that takes much longer than it may."""

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(_PATIENCE * seconds, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def read_answer(pipe: IO[bytes]) -> dict[str, Any]:
    """Read an object of JSON after its length."""
    (length,) = struct.unpack(">I", pipe.read(4))
    answer: dict[str, Any] = json.loads(pipe.read(length))
    return answer


def _image(pipe: IO[bytes], size: list[int]) -> Image.Image:
    """Read RGB pixels a strip at a time, so that a large image is in memory once."""
    width, height = size
    image = Image.new("RGB", (width, height))
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = (width, min(rows, height - top))
        image.paste(Image.frombytes("RGB", strip, pipe.read(3 * strip[0] * strip[1])), (0, top))
    return image
