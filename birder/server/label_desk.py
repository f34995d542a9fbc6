"""Receives labels: concurrent requests go into the journal together, and into the rows later."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from collections.abc import Collection as AnyCollection
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from birder.collection.journal import Journal
from birder.collection.labels import Recorder, add_column, recording
from birder.collection.storage import Storage
from birder.errors import BirderError, CollectionError
from birder.server.catalogue import Catalogue, Snapshot

T = TypeVar("T")

FOLD_ROWS = 1000
"""The number of rows with pending labels at which they are folded at once."""
FOLD_QUIET = 60.0
"""Seconds without a label after which those that are pending are folded."""
_LOOK_EVERY = 1.0
_TRY_AGAIN = 10.0  # seconds after which folding is tried again

_Task = tuple[Callable[[Recorder], Any], Future[Any]]


class LabelDesk:
    """Writes labels in one thread, and folds them in another.

    Waiting for the disk takes most of a label's time: tasks that come meanwhile wait for the next write, all together.

    Parameters
    ----------
    path
        The collection's folder.
    catalogue
        Receives each label before its author gets an answer.
    on_change
        Called after labels were written.

    Attributes
    ----------
    journal
        What the labels are written into.
    """

    def __init__(self, path: Path, catalogue: Catalogue, on_change: Callable[[], None]) -> None:
        self.journal = Journal(path)
        self._path = path
        self._catalogue = catalogue
        self._on_change = on_change
        self._tasks: queue.Queue[_Task | None] = queue.Queue()
        self._adding = threading.Lock()
        self._given = time.monotonic()
        self._wake = threading.Event()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._write_all, name="birder-labels", daemon=True),
            threading.Thread(target=self._fold_now_and_then, name="birder-fold", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    async def do(self, task: Callable[[Recorder], T]) -> T:
        """Run a task that gives or undoes labels; what it raises is raised here.

        Raises
        ------
        CollectionError
            The journal cannot be written, or the server is being stopped.
        """
        if self._stopping:
            raise CollectionError("The server is being stopped: give the label again when it is back.")
        future: Future[T] = Future()
        self._tasks.put((task, future))
        # A client that goes away does not take its label back.
        return await asyncio.shield(asyncio.wrap_future(future))

    def have_column(self, column: str) -> None:
        """Add a column for labels if it is not there; it waits for its turn among the writers of rows."""
        with self._adding:
            if column not in self._catalogue.current().collection.columns:
                add_column(Storage.open(self._path, labels=False), column)
                self._catalogue.refresh()

    def stop(self) -> None:
        """Write what has been asked for, fold, and end."""
        self._stopping = True
        self._tasks.put(None)
        self._wake.set()
        for thread in self._threads:
            thread.join(30)

    def _write_all(self) -> None:
        stopped = False
        while not stopped:
            waiting = [self._tasks.get()]
            while not self._tasks.empty():
                waiting.append(self._tasks.get())
            stopped = None in waiting
            self._write([each for each in waiting if each is not None])

    def _write(self, tasks: list[_Task]) -> None:
        answers: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with recording(self.journal, _Values(self._catalogue)) as recorder:
                for task, future in tasks:
                    try:
                        answers.append((future, task(recorder), None))
                    except BirderError as error:
                        answers.append((future, None, error))
            self._catalogue.labelled()
        except BaseException as error:  # raised where it is waited for; the next tasks may succeed
            answers = [(future, None, error) for _, future in tasks]
        for future, answer, problem in answers:
            if not future.cancelled():
                future.set_exception(problem) if problem is not None else future.set_result(answer)
        self._given = time.monotonic()
        self._on_change()
        self._wake.set()

    def _fold_now_and_then(self) -> None:
        not_before = 0.0
        while not self._stopping:
            self._wake.wait(_LOOK_EVERY)
            self._wake.clear()
            pending = self._catalogue.current().pending
            quiet = time.monotonic() - self._given
            due = pending >= FOLD_ROWS or (pending and quiet >= FOLD_QUIET)
            if due and time.monotonic() >= not_before and not self._fold():
                not_before = time.monotonic() + _TRY_AGAIN
        self._threads[0].join()
        if self._catalogue.current().pending:
            self._fold()

    def _fold(self) -> bool:
        """Whether pending labels are in the rows now; they are as safe in the journal, and can be folded later."""
        try:
            with self._catalogue.folding():
                Storage.open(self._path, labels=False).fold_labels()
        except BirderError:
            return False
        self._catalogue.refresh()
        return True


class _Values:
    """What rows have in a column, as the catalogue knows it once the journal is held."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._snapshot: Snapshot | None = None

    def __call__(self, column: str, ids: AnyCollection[str]) -> dict[str, str | None]:
        if self._snapshot is None:
            self._snapshot = self._catalogue.labelled()
        unique = list(dict.fromkeys(ids))
        positions = self._snapshot.positions(unique)
        there = positions >= 0
        values = self._snapshot.encoded(column, positions[there]).to_pylist()
        return dict(zip((id_ for id_, is_there in zip(unique, there, strict=True) if is_there), values, strict=True))
