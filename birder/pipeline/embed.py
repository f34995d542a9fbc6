"""The executor for one machine: read and decode in threads, embed in batches, commit in a thread of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from birder.collection.schema import Failure, Former, Row
from birder.collection.storage import Storage
from birder.images.transform import ClassificationTransform
from birder.inference.engine import Engine
from birder.pipeline.boxes import Detecting
from birder.pipeline.decode import Decoded, Unreadable, read_group
from birder.pipeline.known import Pending
from birder.pipeline.outcomes import Commit, Summary, commit_of, described, embedded, patches_bytes
from birder.pipeline.plan import Plan, plan
from birder.pipeline.update import update_columns
from birder.sources import is_of_same_image, is_url

__all__ = ["Plan", "Summary", "begin_run", "embed_images", "patches_bytes", "plan", "running"]

COMMIT_PATIENCE = 3600.0
"""Seconds that a run waits to commit: another process may be making an index of millions of rows."""
_BOXES_AT_ONCE = 256
_COMMIT_BYTES = 64 << 20
_COMMITS_TO_COMPACT = 20
_REMOTE_THREADS = 16


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
    """Embed the sources of a plan into a collection.

    Each content is embedded once; a file with the same bytes as another gets its own row with that embedding. What
    cannot be read becomes a failure and never ends the run. At most `2 * batch_size` decoded images, `threads` files
    and a few commits wait in memory, however many files there are; in a run that detects, also the boxes of `2 *
    threads` images, at most 300 each.

    Parameters
    ----------
    todo
        From `plan`, on this collection.
    draft
        Decode JPEGs at a reduced size where that is enough for the transform.
    threads
        How many read and decode; default: as many as there are processors, at least 16 if images come from servers.
    commit_rows, commit_seconds
        Rows are committed once this many are waiting, or the first has waited this long.
    on_progress
        Called after each batch, with what was done so far.
    stop
        Once set, images already decoded are embedded and committed, and the run ends.

    Raises
    ------
    CollectionError
        Another process is adding images, or columns do not fit.
    """
    stop = stop or threading.Event()
    types = todo.column_types()
    give_back_memory()
    with running(collection, todo, on_progress) as summary:
        if engine.patches is not None:  # a row is large then
            commit_rows = min(commit_rows, max(1, _COMMIT_BYTES // patches_bytes(engine.patches)))
        writer = _Writer(collection, summary, commit_rows, commit_seconds)
        with writer:
            reader = _Reader(transform, draft, types, set(todo.contents), todo.detecting)
            encoder = _Encoder(engine, batch_size, reader, writer, summary)
            workers = threads or _workers(todo)
            for outcome in _in_threads(reader, todo.pending, workers, 2 * batch_size, stop):
                if encoder.take(outcome) and on_progress is not None:
                    on_progress(summary)
            encoder.flush()
        give_back_memory()
    return summary


def give_back_memory() -> None:
    """Return unused memory to the system; glibc keeps hundreds of megabytes after a network was compiled."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # other C libraries do not have it
        ctypes.CDLL(None).malloc_trim(0)


def _workers(todo: Plan) -> int:
    """As many threads as there are processors; more to wait for servers."""
    remote = any(is_url(item.source.path) for item in todo.pending[:1000])
    return max(os.cpu_count() or 1, _REMOTE_THREADS if remote else 1)


@contextlib.contextmanager
def running(collection: Storage, todo: Plan, on_progress: Callable[[Summary], None] | None = None) -> Iterator[Summary]:
    """The frame of a run, whatever executes it: hold the right to add images, begin, and in the end index the rows.

    Yields
    ------
    The summary: when the run begins, `updated` counts existing rows with new values; when it has ended, it is complete.

    Raises
    ------
    CollectionError
        Another process is adding images, or columns do not fit.
    """
    from birder.collection.index import ensure_index  # LanceDB comes with it: see `birder.collection.disk.connect`

    begun = time.perf_counter()
    with collection.running():
        summary = Summary(updated=begin_run(collection, todo))
        yield summary
        with collection.writing(patience=COMMIT_PATIENCE):
            if summary.commits > _COMMITS_TO_COMPACT:
                collection.compact()
            ensure_index(collection)
    summary.stopped = summary.finished < len(todo.pending)
    summary.seconds = time.perf_counter() - begun
    if on_progress is not None:
        on_progress(summary)


def begin_run(collection: Storage, todo: Plan) -> int:
    """Add the columns of a plan and give existing rows their new values, while `running`.

    Returns
    -------
    How many rows got new values.
    """
    todo.renew(collection)
    with collection.writing():
        collection.add_own_columns()
        if todo.detecting is not None:
            collection.remember_detection(todo.detecting.record)
        collection.add_columns(todo.column_types())
        collection.remember_shards(todo.shards)
        collection.remember_roots(todo.roots)
        return update_columns(collection, todo.described)


class _Reader:
    """Reads in any thread; the first source with a content claims it, later ones are not decoded."""

    def __init__(
        self,
        transform: ClassificationTransform,
        draft: bool,
        types: Mapping[str, pa.DataType],
        claimed: set[bytes],
        detecting: Detecting | None,
    ) -> None:
        self._transform = transform
        self._draft = draft
        self._types = types
        self._claimed = claimed
        self._detecting = detecting
        self.detects = detecting is not None
        self._in_flight: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, items: Sequence[Pending]) -> list[Decoded | Unreadable]:
        read = read_group(items, self._transform, self._draft, self._claim, self._detecting)
        return [described(each, self._types) for each in read]

    def _claim(self, sha256: str) -> bool:
        digest = bytes.fromhex(sha256)
        with self._lock:
            if digest in self._claimed:
                return False
            self._claimed.add(digest)
            self._in_flight.add(sha256)
            return True

    def is_in_flight(self, sha256: str) -> bool:
        """Whether the source that claimed a content is still in the threads."""
        with self._lock:
            return sha256 in self._in_flight

    def landed(self, sha256: str) -> None:
        """Note that the source that claimed a content has left the threads."""
        with self._lock:
            self._in_flight.discard(sha256)


class _Encoder:
    """Gathers what the threads return into batches, embeds them and hands commits to the writer, in order.

    The order matters: a source whose content came before takes its embedding from a row written earlier.
    """

    def __init__(self, engine: Engine, batch_size: int, reader: _Reader, writer: _Writer, summary: Summary) -> None:
        self._engine = engine
        self._batch_size = batch_size
        self._reader = reader
        self._writer = writer
        self._summary = summary
        self._batch: list[Decoded | Unreadable] = []
        self._fresh = 0
        self._waiting: dict[str, list[Decoded]] = {}
        self._unreadable: dict[str, str] = {}

    def take(self, read: Decoded | Unreadable) -> bool:
        """Take what was read; True if that made a batch full."""
        if isinstance(read, Unreadable):
            self._batch.append(read)
            if read.sha256 is not None:
                self._release(read.sha256)
        elif read.pixels is not None:
            self._batch.append(read)
            self._fresh += 1
            self._release(read.sha256)
        elif self._reader.is_in_flight(read.sha256):
            self._waiting.setdefault(read.sha256, []).append(read)
        else:
            self._batch.append(read)
        if self._fresh < self._batch_size and len(self._batch) < 8 * self._batch_size:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Embed and hand over what has been gathered."""
        if self._batch:
            commit = commit_of(embedded(self._engine, self._batch, self._batch_size), self._unreadable)
            self._batch, self._fresh = [], 0
            self._summary.add(commit)
            self._writer.put(commit)

    def _release(self, sha256: str) -> None:
        self._reader.landed(sha256)
        self._batch += self._waiting.pop(sha256, [])


class _Writer:
    """Commits rows and failures in a thread of its own; its errors are raised by `put`."""

    def __init__(self, collection: Storage, summary: Summary, commit_rows: int, commit_seconds: float) -> None:
        self._collection = collection
        self._summary = summary
        self._commit_rows = commit_rows
        self._commit_seconds = commit_seconds
        self._queue: queue.Queue[Commit | None] = queue.Queue(maxsize=8)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="birder-writer", daemon=True)

    def __enter__(self) -> _Writer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # What was embedded before an error is valid: it is committed.
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and error is not self._error:
            raise self._error

    def put(self, commit: Commit) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put(commit)

    def _run(self) -> None:
        rows: list[Row] = []
        failures: list[Failure] = []
        gone: list[str] = []
        overcome: list[str] = []
        due = 0.0
        ended = False
        while not ended:
            waiting = bool(rows or failures)
            try:
                part = self._queue.get(timeout=max(0.0, due - time.monotonic()) if waiting else None)
            except queue.Empty:
                part = Commit()
            if part is None:
                ended = True
            else:
                if not waiting:
                    due = time.monotonic() + self._commit_seconds
                rows += part.rows
                failures += part.failures
                gone += part.former.rows
                overcome += part.former.failures
            full = len(rows) + len(failures) >= self._commit_rows
            if self._error is None and (rows or failures) and (ended or full or time.monotonic() >= due):
                try:
                    with self._collection.writing(patience=COMMIT_PATIENCE):
                        self._collection.write(rows, failures, Former(gone, overcome))
                    self._summary.commits += 1
                except BaseException as error:  # raised in the thread that calls `put`
                    self._error = error
                rows, failures, gone, overcome = [], [], [], []
            elif self._error is not None:
                rows, failures = [], []  # nothing more can be written, but `put` must not block


def _in_threads(
    reader: _Reader, items: Iterable[Pending], threads: int, window: int, stop: threading.Event
) -> Iterator[Decoded | Unreadable]:
    """Read items in threads, at most `window` ahead; yield what was read in their order, no new ones after `stop`.

    How many boxes a detecting reader finds on an image is known only afterwards: only two images a thread are then
    given out at once, and boxes count towards the window when they are found.
    """
    futures: deque[tuple[Future[list[Decoded | Unreadable]], int]] = deque()
    groups = _by_file(items)

    def has_room() -> bool:
        if not reader.detects:
            return sum(size for _, size in futures) < window
        unread = sum(not future.done() for future, _ in futures)
        boxes = sum(len(future.result()) for future, _ in futures if future.done() and future.exception() is None)
        return unread < 2 * threads and unread + boxes < window

    with ThreadPoolExecutor(threads, thread_name_prefix="birder-reader") as pool:
        try:
            while True:
                while has_room() and not stop.is_set() and (group := next(groups, None)) is not None:
                    futures.append((pool.submit(reader, group), len(group)))
                if not futures:
                    return
                future, _ = futures.popleft()
                if not (stop.is_set() and future.cancel()):
                    yield from future.result()
        finally:
            for future, _ in futures:
                future.cancel()


def _by_file(items: Iterable[Pending]) -> Iterator[list[Pending]]:
    """Each on its own, but the boxes of one image together, at most `_BOXES_AT_ONCE`."""
    group: list[Pending] = []
    for item in items:
        source = item.source
        if group and not (is_of_same_image(source, group[0].source) and len(group) < _BOXES_AT_ONCE):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
