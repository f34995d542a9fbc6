"""Uploaded pictures to pixels, in processes apart: one that hangs or takes too much is ended; the server goes on."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import struct
import subprocess
import sys
import threading
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from birder.errors import ImageError

SECONDS = 20.0
"""What decoding a picture may take; a photograph of 50 million pixels takes one or two."""
PROCESSES = 2


class Upload(NamedTuple):
    """A picture as pixels (H, W, 3) uint8 for the network; its own width and height."""

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int


class Decoder:
    """Decodes uploads; as many at once as there are processes, who else asks waits."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._free: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
        for _ in range(PROCESSES):
            self._free.put(None)

    def decode(self, data: bytes, transform: dict[str, Any]) -> Upload:
        """Decode a picture for the transform of a collection's card.

        Raises
        ------
        ImageError
            It is no picture that can be decoded, or not within bounds of time and memory.
        """
        process = self._free.get()
        try:
            if process is None or process.poll() is not None:
                process = self._start()
            return self._ask(process, data, transform)
        finally:
            self._free.put(process)

    def _ask(self, process: subprocess.Popen[bytes], data: bytes, transform: dict[str, Any]) -> Upload:
        assert process.stdin is not None and process.stdout is not None
        head = json.dumps(transform).encode()
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._seconds, end)
        timer.start()
        try:
            process.stdin.write(struct.pack(">IQ", len(head), len(data)) + head)
            process.stdin.write(data)
            process.stdin.flush()
            kind = process.stdout.read(1)
            if kind == b"P":
                height, width, *own = struct.unpack(">IIII", process.stdout.read(16))
                pixels = np.frombuffer(process.stdout.read(height * width * 3), np.uint8)
                return Upload(pixels.reshape(height, width, 3), *own)
            if kind == b"E":
                (length,) = struct.unpack(">I", process.stdout.read(4))
                raise ImageError(process.stdout.read(length).decode())
        except (OSError, struct.error, ValueError):
            pass  # its process has ended in the middle
        finally:
            timer.cancel()
            if late.is_set():
                process.wait()
        self._end(process)
        raise ImageError(
            f"it takes more than {self._seconds:g} seconds to decode" if late.is_set() else "decoding it takes too much"
        )

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise ImageError("the server is being stopped")
            self._running = {process for process in self._running if process.poll() is None}
            process = subprocess.Popen(
                [sys.executable, "-m", "birder.server.decoding_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # one thread each: a library's pool of them would take the memory that is meant for pictures
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
            self._running.add(process)
            return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def stop(self) -> None:
        """End the processes."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()
            for process in self._running:
                process.wait()
