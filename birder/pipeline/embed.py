"""The pipeline: find what a collection lacks, read and decode in threads, embed in batches, commit beside it."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.schema import LABEL_SOURCE
from birder.collection.storage import Content, Failure, Row, Storage
from birder.images.transform import ClassificationTransform
from birder.inference.engine import Engine, is_usable
from birder.pipeline.decode import Decoded, Pending, Unreadable, read_group
from birder.pipeline.plan import Plan, plan
from birder.pipeline.update import update_columns
from birder.sources import drop_off_earth, fitted, is_url

__all__ = ["Plan", "Summary", "embed_images", "plan"]

NOT_USABLE = "the model gives it an embedding that is zero or not finite"
LONG = 3600.0
"""Seconds that a run waits to commit: another process may be making an index of millions of rows."""
_BOXES_AT_ONCE = 256
_COMMIT_BYTES = 64 << 20
_REMOTE_THREADS = 16


@dataclass
class Summary:
    """What a run did: rows written (`reused` of them with an embedding that was there), failures, seconds.

    `updated` counts the rows that were there and got other values in the user's columns; `off_earth`, those whose shard
    gives a latitude or longitude that is not on the earth, and which have no place.
    """

    embedded: int = 0
    reused: int = 0
    updated: int = 0
    off_earth: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False

    @property
    def finished(self) -> int:
        """How many files were dealt with."""
        return self.embedded + len(self.failed)


def embed_images(
    collection: Storage,
    engine: Engine,
    transform: ClassificationTransform,
    todo: Plan,
    *,
    draft: bool = True,
    batch_size: int = 32,
    threads: int | None = None,
    commit_rows: int = 512,
    commit_seconds: float = 10.0,
    on_progress: Callable[[Summary], None] | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Embed the files of a plan into a collection.

    Each content is embedded once; a file with the same bytes as another gets its own row with that embedding. What
    cannot be read becomes a failure and never ends the run. At most `2 * batch_size` decoded images, `threads` files
    and a few commits wait in memory, however many files there are.

    Parameters
    ----------
    todo
        From `plan`, on this collection.
    draft
        Decode JPEGs at a reduced size where that is enough for the transform.
    threads
        That read and decode; without it as many as there are processors, or 16 if photographs come from servers.
    commit_rows, commit_seconds
        Rows are committed once that many wait, or the first of them that long.
    on_progress
        Called after each batch, with what was done so far.
    stop
        Once set, what is decoded is embedded and committed, and the run ends.

    Raises
    ------
    CollectionError
        Another process is adding images, or columns do not fit.
    """
    from birder.collection.index import (
        ensure_index,  # LanceDB comes with it: see `birder.collection.disk.connect`
    )

    summary = Summary()
    begun = time.perf_counter()
    stop = stop or threading.Event()
    types = todo.column_types()
    give_back_memory()
    with collection.running():
        summary.updated = begin(collection, todo, types)
        if engine.patches is not None:  # a row is large then
            commit_rows = min(commit_rows, max(1, _COMMIT_BYTES // patches_bytes(engine.patches)))
        writer = _Writer(collection, commit_rows, commit_seconds)
        with writer:
            reader = _Reader(transform, draft, set(todo.contents))
            encoder = _Encoder(engine, batch_size, reader, writer, summary, types)
            workers = threads or _workers(todo)
            for outcome in _in_threads(reader, todo.pending, workers, 2 * batch_size, stop):
                if encoder.take(outcome) and on_progress is not None:
                    on_progress(summary)
            encoder.flush()
        give_back_memory()
        with collection.writing(patience=LONG):
            if writer.commits > 20:
                collection.compact()
            ensure_index(collection)
    summary.stopped = summary.finished < len(todo.pending)
    summary.seconds = time.perf_counter() - begun
    if on_progress is not None:
        on_progress(summary)
    return summary


def give_back_memory() -> None:
    """Give the system what nobody holds any more; glibc keeps hundreds of megabytes that compiling a network took."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library has no such thing
        ctypes.CDLL(None).malloc_trim(0)


def _workers(todo: Plan) -> int:
    """As many threads as there are processors; more to wait for servers."""
    remote = any(is_url(item.source.path) for item in todo.pending[:1000])
    return max(os.cpu_count() or 1, _REMOTE_THREADS if remote else 1)


def patches_bytes(shape: Sequence[int]) -> int:
    """Bytes that the patch tokens (rows, columns, D) of one photograph take, in float16."""
    return 2 * math.prod(shape)


def begin(collection: Storage, todo: Plan, types: dict[str, pa.DataType]) -> int:
    """Do what comes before embedding, within `running`: new columns, new values in rows that are there; count these."""
    todo.renew(collection)
    with collection.writing():
        collection.add_own_columns()
        collection.add_columns(types)
        collection.remember_shards(todo.shards)
        collection.remember_roots(todo.roots)
        return update_columns(collection, todo.described)


def embed_pixels(
    engine: Engine, pixels: Sequence[npt.NDArray[np.uint8]]
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float16] | None]]:
    """Of each image (H, W, 3) the embedding (D,), and the patch tokens in a row if the engine gives them."""
    if not pixels:
        return []
    if engine.patches is None:
        return [(vector, None) for vector in engine.embed(np.stack(pixels))]
    vectors, patches = engine.embed_with_patches(np.stack(pixels))
    return list(zip(vectors, patches.reshape(len(patches), -1), strict=True))


def columns_of(decoded: Decoded, types: Mapping[str, pa.DataType]) -> dict[str, Any]:
    """The columns of a photograph's row: what its source says, before what its shard says."""
    told = {name: fitted(value, types[name]) if name in types else value for name, value in decoded.columns.items()}
    told |= decoded.item.source.columns
    by_folder = "label" not in told and decoded.item.source.label is not None
    source = "folder" if by_folder else "table" if told.get("label") is not None else None
    return {"label": decoded.item.source.label, LABEL_SOURCE: source, **told}


class _Reader:
    """Reads in any thread; the first to meet a content claims it, later ones need no decoding."""

    def __init__(self, transform: ClassificationTransform, draft: bool, claimed: set[bytes]) -> None:
        self._transform = transform
        self._draft = draft
        self._claimed = claimed
        self._in_flight: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, items: Sequence[Pending]) -> list[Decoded | Unreadable]:
        return read_group(items, self._transform, self._draft, self._claim)

    def _claim(self, sha256: str) -> bool:
        digest = bytes.fromhex(sha256)
        with self._lock:
            if digest in self._claimed:
                return False
            self._claimed.add(digest)
            self._in_flight.add(sha256)
            return True

    def is_in_flight(self, sha256: str) -> bool:
        """Whether a content is claimed by a file that has not come out of the threads yet."""
        with self._lock:
            return sha256 in self._in_flight

    def landed(self, sha256: str) -> None:
        """Say that the file that claimed a content has come out."""
        with self._lock:
            self._in_flight.discard(sha256)


class _Encoder:
    """Gathers what the threads give into batches, embeds them and hands rows and failures to the writer, in order.

    The order matters: a file whose content came before takes its embedding from a row written earlier.
    """

    def __init__(
        self,
        engine: Engine,
        batch_size: int,
        reader: _Reader,
        writer: _Writer,
        summary: Summary,
        types: dict[str, pa.DataType],
    ) -> None:
        self._engine = engine
        self._batch_size = batch_size
        self._reader = reader
        self._writer = writer
        self._summary = summary
        self._types = types
        self._batch: list[Decoded] = []
        self._fresh = 0
        self._waiting: dict[str, list[Decoded]] = {}
        self._broken: dict[str, str] = {}

    def take(self, outcome: Decoded | Unreadable) -> bool:
        """Take one outcome; True if that made a batch full."""
        if isinstance(outcome, Unreadable):
            if outcome.sha256 is not None:
                self._broken[outcome.sha256] = outcome.reason
                self._release(outcome.sha256)
            self._writer.put([], [self._fail(outcome.item, outcome.reason, outcome.sha256 is not None)])
        elif outcome.pixels is not None:
            self._batch.append(outcome)
            self._fresh += 1
            self._release(outcome.sha256)
        elif self._reader.is_in_flight(outcome.sha256):
            self._waiting.setdefault(outcome.sha256, []).append(outcome)
        else:
            self._batch.append(outcome)
        if self._fresh < self._batch_size and len(self._batch) < 8 * self._batch_size:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Embed and hand over what has been gathered."""
        fresh = [decoded.pixels for decoded in self._batch if decoded.pixels is not None]
        vectors = iter(embed_pixels(self._engine, fresh))
        rows: list[Row] = []
        failures: list[Failure] = []
        for decoded in self._batch:
            item, content = decoded.item, None
            if decoded.pixels is not None:
                vector, patches = next(vectors)
                if not is_usable(vector):
                    self._broken[decoded.sha256] = NOT_USABLE
                content = Content(vector, *decoded[4:], patches=patches)
            if decoded.sha256 in self._broken:
                failures.append(self._fail(item, self._broken[decoded.sha256], True))
                continue
            assert item.stamp is not None
            columns = columns_of(decoded, self._types)
            self._summary.off_earth += drop_off_earth(columns)
            rows.append(Row(item.uri, decoded.sha256, item.stamp, content, columns, item.known, item.failed))
            self._summary.reused += content is None
        self._summary.embedded += len(rows)
        self._batch, self._fresh = [], 0
        if rows or failures:
            self._writer.put(rows, failures)

    def _release(self, sha256: str) -> None:
        self._reader.landed(sha256)
        self._batch += self._waiting.pop(sha256, [])

    def _fail(self, item: Pending, reason: str, was_read: bool) -> Failure:
        self._summary.failed.append((item.source.name, reason))
        # A row is given up only for bytes that were read: a share that is away for a minute costs none.
        return Failure(item.uri, reason, item.stamp, known=item.known and was_read)


class _Writer:
    """Commits rows and failures in a thread of its own; its errors surface in whoever puts."""

    def __init__(self, collection: Storage, commit_rows: int, commit_seconds: float) -> None:
        self.commits = 0
        self._collection = collection
        self._commit_rows = commit_rows
        self._commit_seconds = commit_seconds
        self._queue: queue.Queue[tuple[list[Row], list[Failure]] | None] = queue.Queue(maxsize=8)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="birder-writer", daemon=True)

    def __enter__(self) -> _Writer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # What was embedded before an error is as good as any: it is committed.
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and error is not self._error:
            raise self._error

    def put(self, rows: list[Row], failures: list[Failure]) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put((rows, failures))

    def _run(self) -> None:
        rows: list[Row] = []
        failures: list[Failure] = []
        due = 0.0
        ended = False
        while not ended:
            waiting = bool(rows or failures)
            try:
                part = self._queue.get(timeout=max(0.0, due - time.monotonic()) if waiting else None)
            except queue.Empty:
                part = ([], [])
            if part is None:
                ended = True
            else:
                if not waiting:
                    due = time.monotonic() + self._commit_seconds
                rows += part[0]
                failures += part[1]
            full = len(rows) + len(failures) >= self._commit_rows
            if self._error is None and (rows or failures) and (ended or full or time.monotonic() >= due):
                try:
                    with self._collection.writing(patience=LONG):
                        self._collection.write(rows, failures)
                    self.commits += 1
                except BaseException as error:  # it is raised in the thread that puts
                    self._error = error
                rows, failures = [], []
            elif self._error is not None:
                rows, failures = [], []  # nothing more can be written, yet nobody may wait for room in the queue


def _in_threads(
    reader: _Reader, items: Iterable[Pending], threads: int, window: int, stop: threading.Event
) -> Iterator[Decoded | Unreadable]:
    """What the reader makes of each item, in their order, at most `window` ahead; after `stop` only what is begun."""
    futures: deque[tuple[Future[list[Decoded | Unreadable]], int]] = deque()
    ahead = 0
    groups = _by_file(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="birder-reader") as pool:
        try:
            while True:
                while ahead < window and not stop.is_set() and (group := next(groups, None)) is not None:
                    futures.append((pool.submit(reader, group), len(group)))
                    ahead += len(group)
                if not futures:
                    return
                future, size = futures.popleft()
                ahead -= size
                if not (stop.is_set() and future.cancel()):
                    yield from future.result()
        finally:
            for future, _ in futures:
                future.cancel()


def _by_file(items: Iterable[Pending]) -> Iterator[list[Pending]]:
    """Each on its own, but the boxes of one photograph together, a few dozen at most."""
    group: list[Pending] = []
    for item in items:
        source = item.source
        together = group and source.box is not None and group[0].source.box is not None
        if group and not (together and source.path == group[0].source.path and len(group) < _BOXES_AT_ONCE):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
