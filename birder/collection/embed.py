"""The pipeline: find what a collection lacks, read and decode in threads, embed in batches, commit beside it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from birder.collection.store import Collection, Content, Failure, Row, Stamp, column_types
from birder.errors import ImageError
from birder.images.open import open_photo
from birder.images.sources import Source, read_source
from birder.images.transform import ClassificationTransform
from birder.inference.engine import Engine


@dataclass(slots=True)
class Pending:
    """A file that is due: `known` and `failed` say that the collection has its row, or its failure, already."""

    source: Source
    uri: str
    stamp: Stamp | None
    known: bool
    failed: bool


@dataclass
class Plan:
    """What a run has to do: the files that are due, and how many are there already or failed before."""

    pending: list[Pending]
    done: int = 0
    failed_before: int = 0
    contents: set[bytes] = field(default_factory=set)


@dataclass
class Summary:
    """What a run did: rows written (`reused` of them with an embedding that was there), failures, seconds."""

    embedded: int = 0
    reused: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False

    @property
    def finished(self) -> int:
        """How many files were dealt with."""
        return self.embedded + len(self.failed)


class _Decoded(NamedTuple):
    item: Pending
    sha256: str
    pixels: npt.NDArray[np.uint8] | None  # None: another file with these bytes came first
    width: int = 0
    height: int = 0
    taken_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None


class _Unreadable(NamedTuple):
    item: Pending
    sha256: str | None  # None: not even the bytes could be read
    reason: str


def plan(collection: Collection | None, sources: Sequence[Source], *, retry_failed: bool = False) -> Plan:
    """Find which files are due, by path, size and time alone: no file is opened.

    Parameters
    ----------
    collection
        None if it is yet to be made.
    sources
        What shall be in it.
    retry_failed
        Try the files again that failed before and have not changed since.
    """
    if collection is None:
        return Plan([Pending(source, source.uri, _stamp(source), False, False) for source in sources])
    index = collection.index()
    result = Plan([], contents=index.contents)
    for source in sources:
        uri, stamp = source.uri, _stamp(source)
        known, failed = uri in index.rows, uri in index.failures
        if known and index.rows[uri] == stamp:
            result.done += 1
        elif not known and failed and index.failures[uri] == stamp and not retry_failed:
            result.failed_before += 1
        else:
            result.pending.append(Pending(source, uri, stamp, known, failed))
    return result


def embed_images(
    collection: Collection,
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
        That read and decode; as many as there are processors without it.
    commit_rows, commit_seconds
        Rows are committed once that many wait, or the first of them that long.
    on_progress
        Called after each batch, with what was done so far.
    stop
        Once set, what is decoded is embedded and committed, and the run ends.

    Raises
    ------
    CollectionError
        Another process is writing, or columns do not fit.
    """
    summary = Summary()
    begun = time.perf_counter()
    stop = stop or threading.Event()
    names = dict.fromkeys(name for item in todo.pending for name in item.source.columns)
    types = column_types({name: [item.source.columns.get(name) for item in todo.pending] for name in names})
    size = transform.resize_to if draft else None
    with collection.writing():
        collection.add_columns(types)
        writer = _Writer(collection, commit_rows, commit_seconds)
        with writer:
            reader = _Reader(transform, size, set(todo.contents))
            encoder = _Encoder(engine, batch_size, reader, writer, summary)
            workers = threads or os.cpu_count() or 1
            for outcome in _in_threads(reader, todo.pending, workers, 2 * batch_size, stop):
                if encoder.take(outcome) and on_progress is not None:
                    on_progress(summary)
            encoder.flush()
        if writer.commits > 20:
            collection.compact()
    summary.stopped = summary.finished < len(todo.pending)
    summary.seconds = time.perf_counter() - begun
    if on_progress is not None:
        on_progress(summary)
    return summary


class _Reader:
    """Turns a file into pixels, in any thread; the first to meet a content claims it, later ones need no decoding."""

    def __init__(self, transform: ClassificationTransform, draft: tuple[int, int] | None, claimed: set[bytes]) -> None:
        self._transform = transform
        self._draft = draft
        self._claimed = claimed
        self._in_flight: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, item: Pending) -> _Decoded | _Unreadable:
        problem = item.source.problem
        if problem is None:
            try:
                # Taken before reading: a file that changes meanwhile is found changed by the next run.
                item.stamp = _stamp(item.source)
                return self._decode(item, read_source(item.source.path))
            except FileNotFoundError:
                problem = "the file does not exist (any more)"
            except PermissionError:
                problem = "no permission to read the file"
            except OSError as error:
                problem = f"it cannot be read ({error.strerror or error})"
            except MemoryError:
                problem = "not enough memory to read it"
        return _Unreadable(item, None, problem)

    def _decode(self, item: Pending, data: bytes) -> _Decoded | _Unreadable:
        digest = hashlib.sha256(data)
        name = digest.hexdigest()
        with self._lock:
            if digest.digest() in self._claimed:
                return _Decoded(item, name, None)
            self._claimed.add(digest.digest())
            self._in_flight.add(name)
        try:
            photo = open_photo(data, draft=self._draft)
            pixels = self._transform.to_uint8(photo.image)
        except ImageError as error:
            return _Unreadable(item, name, str(error))
        return _Decoded(item, name, pixels, photo.width, photo.height, *photo.metadata)

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

    def __init__(self, engine: Engine, batch_size: int, reader: _Reader, writer: _Writer, summary: Summary) -> None:
        self._engine = engine
        self._batch_size = batch_size
        self._reader = reader
        self._writer = writer
        self._summary = summary
        self._batch: list[_Decoded] = []
        self._fresh = 0
        self._waiting: dict[str, list[_Decoded]] = {}
        self._broken: dict[str, str] = {}

    def take(self, outcome: _Decoded | _Unreadable) -> bool:
        """Take one outcome; True if that made a batch full."""
        if isinstance(outcome, _Unreadable):
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
        vectors: Iterator[npt.NDArray[np.float32]] = iter(self._engine.embed(np.stack(fresh)) if fresh else ())
        rows: list[Row] = []
        failures: list[Failure] = []
        for decoded in self._batch:
            item, content = decoded.item, None
            if decoded.pixels is not None:
                vector = next(vectors)
                if not np.isfinite(vector).all():
                    self._broken[decoded.sha256] = "the model gives no finite embedding for it"
                content = Content(vector, *decoded[3:])
            if decoded.sha256 in self._broken:
                failures.append(self._fail(item, self._broken[decoded.sha256], True))
                continue
            assert item.stamp is not None
            columns = {"label": item.source.label} | item.source.columns
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
        self._summary.failed.append((item.source.path, reason))
        # A row is given up only for bytes that were read: a share that is away for a minute costs none.
        return Failure(item.uri, reason, item.stamp, known=item.known and was_read)


class _Writer:
    """Commits rows and failures in a thread of its own; its errors surface in whoever puts."""

    def __init__(self, collection: Collection, commit_rows: int, commit_seconds: float) -> None:
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
                    self._collection.write(rows, failures)
                    self.commits += 1
                except BaseException as error:  # it is raised in the thread that puts
                    self._error = error
                rows, failures = [], []
            elif self._error is not None:
                rows, failures = [], []  # nothing more can be written, yet nobody may wait for room in the queue


def _in_threads(
    reader: _Reader, items: Sequence[Pending], threads: int, window: int, stop: threading.Event
) -> Iterator[_Decoded | _Unreadable]:
    """What the reader makes of each item, in their order, at most `window` ahead; after `stop` only what is begun."""
    futures: deque[Future[_Decoded | _Unreadable]] = deque()
    rest = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="birder-reader") as pool:
        try:
            while True:
                while len(futures) < window and not stop.is_set() and (item := next(rest, None)) is not None:
                    futures.append(pool.submit(reader, item))
                if not futures:
                    return
                future = futures.popleft()
                if not (stop.is_set() and future.cancel()):
                    yield future.result()
        finally:
            for future in futures:
                future.cancel()


def _stamp(source: Source) -> Stamp | None:
    with contextlib.suppress(OSError):
        status = os.stat(source.path)  # noqa: PTH116 - once for each of a million files
        return Stamp(status.st_size, status.st_mtime_ns // 1000)
    return None
