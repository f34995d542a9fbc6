"""Images for a training: which, in what order, and their pixels, decoded in worker processes ahead of the network.

An image that cannot be read is a failure, which is kept with its reason; neither it nor a decoder that crashes ends the
training.
"""

from __future__ import annotations

import json
import os
import queue
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from birder.images.apart import end_process, read_answer

Codes = npt.NDArray[np.int64]

_MOST_WORKERS = 8
_AHEAD = 2  # batches that each worker has made before they are asked for
_WHOLE = -1  # in place of the epoch: the image as a collection embeds it


@dataclass(frozen=True)
class TrainingImages:
    """Images with a class.

    Attributes
    ----------
    uris
        Of N images, as a collection has them.
    codes
        int64 (N,): their classes, 0 to C - 1.
    """

    uris: Sequence[str]
    codes: Codes

    def __len__(self) -> int:
        return len(self.uris)

    def take(self, rows: Codes) -> TrainingImages:
        """Some of them, by their positions."""
        return TrainingImages([self.uris[row] for row in rows], self.codes[rows])


class Batch(NamedTuple):
    """The images of a batch that could be read: positions (B,), pixels (B, H, W, 3) uint8, colour factors (B, 3)."""

    rows: Codes
    pixels: npt.NDArray[np.uint8]
    colour: npt.NDArray[np.float32]


def epoch_order(codes: Codes, seed: int, epoch: int, *, balance: bool) -> Codes:
    """The positions of an epoch's N images in the order in which they are learned; of the same arguments the same.

    With `balance`, they are drawn with replacement so that every class comes as often as every other.
    """
    random = np.random.default_rng([seed, epoch])
    if not balance:
        return random.permutation(len(codes))
    counts = np.bincount(codes)
    chances = 1.0 / counts[codes]
    return random.choice(len(codes), len(codes), p=chances / chances.sum())


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Views:
    """Makes views of images in worker processes; to be closed.

    Parameters
    ----------
    images
        The images.
    transform
        A collection's card's: size, mean, std, center_crop, simple_crop.
    seed
        What is drawn depends on it, the epoch and the image alone, not on the worker or the batch.
    share
        How many trainings share this machine's processors.

    Attributes
    ----------
    failures
        uri -> why the image could not be read, of all that failed so far.
    """

    def __init__(self, images: TrainingImages, transform: Mapping[str, Any], seed: int, *, share: int = 1) -> None:
        self._images, self._transform, self._seed = images, dict(transform), seed
        self._size: tuple[int, int] = (int(transform["size"][0]), int(transform["size"][1]))
        self.failures: dict[str, str] = {}
        count = max(1, min(_MOST_WORKERS, processors() // share - 1))
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="birder-views")
        self._free: queue.LifoQueue[subprocess.Popen[bytes] | None] = queue.LifoQueue()
        self._ahead = _AHEAD * count
        for _ in range(count):
            self._free.put(None)

    def __enter__(self) -> Views:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        while not self._free.empty():
            if (process := self._free.get()) is not None:
                end_process(process)

    def random(self, epoch: int, batches: Sequence[Codes]) -> Iterator[Batch]:
        """Random views of batches of images, in their order."""
        return self._made(epoch, batches)

    def whole(self, batches: Sequence[Codes]) -> Iterator[Batch]:
        """The images as a collection embeds them, in batches, in their order."""
        return self._made(_WHOLE, batches)

    def _made(self, epoch: int, batches: Sequence[Codes]) -> Iterator[Batch]:
        waiting: deque[Future[tuple[Batch, dict[str, str]]]] = deque()
        coming = iter(batches)
        try:
            while True:
                while len(waiting) < self._ahead and (rows := next(coming, None)) is not None:
                    waiting.append(self._pool.submit(self._make, epoch, rows))
                if not waiting:
                    return
                batch, failures = waiting.popleft().result()
                self.failures |= failures
                yield batch
        finally:
            for each in waiting:
                each.cancel()

    def _make(self, epoch: int, rows: Codes) -> tuple[Batch, dict[str, str]]:
        """Ask a worker for a batch; one that it crashes on is asked for image by image."""
        found = self._ask(epoch, rows)
        if found is None:
            each = [self._ask(epoch, rows[place : place + 1]) for place in range(len(rows))]
            told = [answer or ([{"reason": "decoding it crashed"}], []) for answer in each]
            found = [line for lines, _ in told for line in lines], [view for _, views in told for view in views]
        lines, views = found
        read = [place for place, line in enumerate(lines) if "reason" not in line]
        failures = {
            self._images.uris[row]: line["reason"] for row, line in zip(rows, lines, strict=True) if "reason" in line
        }
        pixels = np.stack(views) if views else np.zeros((0, *self._size, 3), np.uint8)
        colour = np.array([lines[place]["colour"] for place in read], np.float32).reshape(-1, 3)
        return Batch(rows[read], pixels, colour), failures

    def _ask(self, epoch: int, rows: Codes) -> tuple[list[dict[str, Any]], list[npt.NDArray[np.uint8]]] | None:
        """The lines of a worker's answer, and the pixels; None if the worker ended."""
        request = {
            "uris": [self._images.uris[row] for row in rows],
            "seeds": [None if epoch == _WHOLE else [self._seed, epoch, int(row)] for row in rows],
            "transform": self._transform,
        }
        process = self._free.get()
        try:
            if process is None:
                process = _start()
            assert process.stdin is not None and process.stdout is not None
            text = json.dumps(request).encode()
            process.stdin.write(struct.pack(">I", len(text)) + text)
            process.stdin.flush()
            lines: list[dict[str, Any]] = read_answer(process.stdout)["images"]
            count = 3 * self._size[0] * self._size[1]
            views = []
            for line in lines:
                if "reason" not in line:
                    data = process.stdout.read(count)
                    views.append(np.frombuffer(data, np.uint8).reshape(*self._size, 3))
            return lines, views
        except (OSError, struct.error, ValueError):  # it has ended in the middle
            if process is not None:
                end_process(process)
            process = None
            return None
        finally:
            self._free.put(process)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "birder.learning.view_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        start_new_session=True,  # Ctrl+C is for the training, which ends after what it has begun
    )
