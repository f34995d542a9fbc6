"""Batches for training CLIP: read from shards in worker processes, ahead of the network, and from any batch on.

Each process of a training has some workers, each with a stream of the shards of its own. A batch has the same share of
every stream, so that which samples come follows from the number of all streams, not from who reads them or how fast.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from birder.errors import BirderError, ConfigError
from birder.images.apart import end_process, read_answer
from birder.learning.clip_process import REMEMBERED, Asked
from birder.learning.parallel import Parallel
from birder.learning.training_data import processors
from birder.net.tokenizer import ClipTokenizer

MOST_WORKERS = 8
"""Workers of a process, unless another number is asked for."""
_AHEAD = 2  # shares of batches that a worker has made before they are asked for; and batches that are put together
assert 3 * _AHEAD + 3 < REMEMBERED, "a worker remembers where it was after every batch that was not yet used"


@dataclass
class ClipBatch:
    """Some samples.

    Attributes
    ----------
    keys, texts
        Of N samples.
    pixels
        uint8 (N, H, W, 3).
    tokens
        int64 (N, L).
    """

    keys: list[str]
    texts: list[str]
    pixels: torch.Tensor
    tokens: torch.Tensor


@dataclass
class DataReport:
    """What was not as it should be in the shards.

    Attributes
    ----------
    failed
        What could not be read -> why: shards, places in them, and samples.
    more_failed
        How many failures came after the first 10,000 of a stream.
    replaced
        (Text that was asked for, text that was taken) -> how often.
    """

    failed: dict[str, str] = field(default_factory=dict)
    more_failed: int = 0
    replaced: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, states: Sequence[Mapping[str, Any]]) -> DataReport:
        """What the states of some streams tell."""
        found = cls()
        for state in states:
            found.failed |= state["stream"]["failed"]
            found.more_failed += state["stream"]["more_failed"]
            found.replaced.update({(asked, taken): count for asked, taken, count in state["replaced"]})
        return found


def text_of_step(texts: Sequence[str], step: int) -> str:
    """The text that a batch is trained with, the same in every process: as in BioCLIP's training."""
    return random.Random(step).choice(texts)


def workers_here(parallel: Parallel, batch_size: int) -> int:
    """How many workers each process has by default: a processor less than there are, shared with the others here."""
    return max(1, min(MOST_WORKERS, processors() // parallel.on_machine - 1, batch_size))


class ClipBatches:
    """The batches of one process, made ahead; to be closed.

    Parameters
    ----------
    shards
        As `birder.sources.shard_names.expand_shards` gives them.
    transform
        A collection's card's: size, mean, std, center_crop, simple_crop.
    tokenizer
        Of the text encoder.
    batch_size
        Samples of a batch of this process.
    texts
        From the number of a batch, from 0, to the names of the texts of which each sample gets one.
    parallel
        The processes that share the shards.
    workers
        Worker processes of each of them, at most `batch_size`.
    seed
        Of the order and of the crops.
    crop
        Whether images are cropped at random; else they are seen whole.
    resample
        Draw shards with replacement instead of going through them pass after pass.
    once
        End after one pass over the shards; the last batches may be smaller.
    first, states
        The number of the first batch, and where the streams of all processes were before it (`states_after`).
    pinned
        Put pixels and tokens where a GPU can fetch them.
    """

    def __init__(
        self,
        shards: Sequence[str],
        transform: Mapping[str, Any],
        tokenizer: ClipTokenizer,
        batch_size: int,
        texts: Callable[[int], Sequence[str]],
        parallel: Parallel,
        *,
        workers: int,
        seed: int = 0,
        crop: bool = True,
        resample: bool = False,
        once: bool = False,
        first: int = 0,
        states: Sequence[dict[str, Any]] | None = None,
        pinned: bool = False,
    ) -> None:
        if not 1 <= workers <= batch_size:
            raise ConfigError(f"{workers} workers cannot share batches of {batch_size} images.")
        self._tokenizer, self._pinned = tokenizer, pinned
        self._end = threading.Event()
        self._made: queue.Queue[ClipBatch | BaseException | None] = queue.Queue(_AHEAD)
        self._workers = []
        for number in range(workers):
            stream = parallel.rank * workers + number
            asked: Asked = {
                "stream": {
                    "shards": list(shards),
                    "seed": seed,
                    "resample": resample,
                    "once": once,
                    "stream": stream,
                    "streams": parallel.processes * workers,
                    **({"shuffle": 0} if once else {}),
                },
                "transform": dict(transform),
                "crop": crop,
                "state": None if states is None else states[stream],
            }
            count = batch_size // workers + (number < batch_size % workers)
            self._workers.append(_Worker(asked, count, texts, first, self._end))
        self._assembler = threading.Thread(target=self._assemble, name="birder-clip-batches", daemon=True)
        self._assembler.start()

    def __enter__(self) -> ClipBatches:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for worker in self._workers:
            worker.close()
        self._assembler.join()

    def __iter__(self) -> Iterator[ClipBatch]:
        """The batches in their order."""
        while True:
            made = self._made.get()
            if isinstance(made, BaseException):
                raise made
            if made is None:
                return
            yield made

    def states_after(self, number: int) -> list[dict[str, Any]]:
        """Where each stream of this process was after the batch of this number, the last one that was taken."""
        return [worker.state_after(number) for worker in self._workers]

    def _assemble(self) -> None:
        """Put the batches together from the workers' shares."""
        try:
            while not self._end.is_set():
                shares = [worker.next() for worker in self._workers]
                texts = [text for share in shares for text in share.texts]
                if not texts:
                    self._put(None)
                    return
                pixels = torch.from_numpy(np.concatenate([share.pixels for share in shares]))
                tokens = self._tokenizer(texts)
                if self._pinned:
                    pixels, tokens = pixels.pin_memory(), tokens.pin_memory()
                self._put(ClipBatch([key for share in shares for key in share.keys], texts, pixels, tokens))
        except _Ended:
            return
        except BaseException as error:  # told to who takes the batches
            with contextlib.suppress(_Ended):
                self._put(error)

    def _put(self, made: ClipBatch | BaseException | None) -> None:
        _put(self._made, made, self._end)


@dataclass
class _Share:
    keys: list[str]
    texts: list[str]
    pixels: npt.NDArray[np.uint8]


class _Ended(Exception):
    """The batches are closed."""


class _Worker:
    """A worker process, and the thread that asks it for shares of batches, ahead."""

    def __init__(
        self,
        asked: Asked,
        count: int,
        texts: Callable[[int], Sequence[str]],
        first: int,
        end: threading.Event,
    ) -> None:
        self._count, self._texts, self._number, self._end = count, texts, first, end
        height, width = asked["transform"]["size"]
        self._shape = (int(height), int(width), 3)
        self._shares: queue.Queue[_Share | BaseException] = queue.Queue(_AHEAD)
        self._one_at_a_time = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "birder.learning.clip_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
            start_new_session=True,  # Ctrl+C is for the training, which ends after what it has begun
        )
        self._say(asked)
        self._thread = threading.Thread(target=self._run, name="birder-clip-worker", daemon=True)
        self._thread.start()

    def next(self) -> _Share:
        """The next share."""
        share: _Share | BaseException = _get(self._shares, self._end)
        if isinstance(share, BaseException):
            raise share
        return share

    def state_after(self, number: int) -> dict[str, Any]:
        """Where the stream was after the share of this number."""
        with self._one_at_a_time:
            self._say({"after": number})
            return self._answer()

    def close(self) -> None:
        end_process(self._process)
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                with self._one_at_a_time:
                    share = self._ask()
                _put(self._shares, share, self._end)
                self._number += 1
        except _Ended:
            return
        except BaseException as error:  # told to who takes the shares
            with contextlib.suppress(_Ended):
                _put(self._shares, error, self._end)

    def _ask(self) -> _Share:
        self._say({"number": self._number, "count": self._count, "texts": list(self._texts(self._number))})
        told = self._answer()
        if "error" in told:
            raise ConfigError(told["error"])
        assert self._process.stdout is not None
        pixels = np.empty((len(told["texts"]), *self._shape), np.uint8)
        if self._process.stdout.readinto(pixels.reshape(-1)) != pixels.nbytes:  # type: ignore[attr-defined]
            raise self._lost()
        return _Share(told["keys"], told["texts"], pixels)

    def _say(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        text = json.dumps(request).encode()
        try:
            self._process.stdin.write(struct.pack(">I", len(text)) + text)
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._lost() from error

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            found: dict[str, Any] = read_answer(self._process.stdout)
        except (OSError, struct.error, ValueError) as error:
            raise self._lost() from error
        return found

    def _lost(self) -> BaseException:
        if self._end.is_set():
            return _Ended()
        return BirderError(
            "A process that reads the shards has ended, perhaps for lack of memory: go on with --resume, or with fewer "
            "--workers."
        )


def _put(to: queue.Queue[Any], item: object, end: threading.Event) -> None:
    """Put into a queue when there is room, unless the end comes first."""
    while not end.is_set():
        with contextlib.suppress(queue.Full):
            to.put(item, timeout=0.1)
            return
    raise _Ended


def _get(source: queue.Queue[Any], end: threading.Event) -> Any:
    """The next item of a queue, unless the end comes first."""
    while not end.is_set():
        with contextlib.suppress(queue.Empty):
            return source.get(timeout=0.1)
    raise _Ended
