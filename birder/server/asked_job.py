"""A computation that a person asked for: how far it is and what came of it, also for a page that was loaded since."""

from __future__ import annotations

import threading
from typing import Any

from birder.errors import CollectionBusyError
from birder.server.job import Job


class AskedJob:
    """One run at a time of a `Job`; what became of the last one stays until the next begins.

    Parameters
    ----------
    name
        What is computed, for messages: "classifier".
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._job = Job(name)
        self._lock = threading.Lock()
        self._asked: dict[str, Any] | None = None
        self._cancelled = False

    def start(self, asked: dict[str, Any], *arguments: str) -> None:
        """Begin a run; `asked` is what was asked for, which `state` tells.

        Raises
        ------
        CollectionBusyError
            One is under way.
        """
        with self._lock:
            if self._job.running:
                raise CollectionBusyError(f"The {self._name} is being computed already: wait for it, or cancel it.")
            self._asked, self._cancelled = asked, False
            self._job.start(*arguments)

    def state(self) -> dict[str, Any]:
        """What was asked for last, how far it is, and its result: what the process reported, or why it failed."""
        with self._lock:
            job = self._job
            told = {"progress": 0.0, "stage": "", "error": None, "result": None, **(self._asked or {})}
            if self._asked is None:
                return told | {"state": "none"}
            if self._cancelled:
                return told | {"state": "cancelled"}
            if job.running:
                return told | {"state": "running", "progress": job.progress, "stage": job.stage}
            if job.error is not None:
                return told | {"state": "failed", "error": job.error}
            return told | {"state": "done", "progress": 1.0, "result": job.result}

    def cancel(self) -> None:
        """End the run that is under way; without one, nothing happens."""
        with self._lock:
            if self._job.running:
                self._cancelled = True
                self._job.stop()

    def stop(self) -> None:
        """End what is under way."""
        self._job.stop()
