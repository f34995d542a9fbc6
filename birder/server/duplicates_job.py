"""The server's duplicates: found already, or being searched for by another process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from birder.errors import BirderError
from birder.server.catalogue import Catalogue, Snapshot
from birder.server.job import Job

_KEPT = 4  # thresholds


@dataclass
class _Finding:
    content: int  # of the collection that was compared
    groups: list[Any]
    total: int
    reported: bool = False


class DuplicatesJob:
    """Provides groups of duplicates, and searches for them on request; one threshold at a time."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._job = Job("list of duplicates")
        self._lock = threading.Lock()
        self._under_way: tuple[float, int] | None = None
        self._found: OrderedDict[float, _Finding] = OrderedDict()
        self._failed: dict[float, str] = {}
        self._content: tuple[int, int] = (-1, 0)

    def state(self, snapshot: Snapshot, threshold: float) -> dict[str, Any]:
        """What was found, or the progress of the search, which the first call starts.

        Raises
        ------
        BirderError
            It failed, which is reported once: the next call starts it again.
        """
        with self._lock:
            self._collect()
            content = self._content_of(snapshot)
            found = self._found.get(threshold)
            # While rows are being added, each finding is of a collection that has grown since: it is still reported.
            if found is not None and (found.content == content or not found.reported):
                found.reported = True
                return {"state": "ready", "progress": 1.0, "stage": "", "groups": found.groups, "total": found.total}
            if threshold in self._failed:
                raise BirderError(self._failed.pop(threshold))
            if not self._job.running:
                self._under_way = (threshold, content)
                self._job.start("duplicates", str(self._catalogue.path), repr(threshold))
            own = self._under_way is not None and self._under_way[0] == threshold
            progress, stage = (self._job.progress, self._job.stage) if own else (0.0, "waiting for another threshold")
            return {"state": "computing", "progress": progress, "stage": stage, "groups": [], "total": 0}

    def _collect(self) -> None:
        """Keep what a finished run has found."""
        if self._under_way is None or self._job.running:
            return
        threshold, content = self._under_way
        self._under_way = None
        if self._job.error is not None:
            self._failed[threshold] = self._job.error
            return
        result = self._job.result
        self._found[threshold] = _Finding(content, result["groups"], result["total"])
        self._found.move_to_end(threshold)
        if len(self._found) > _KEPT:
            self._found.popitem(last=False)

    def _content_of(self, snapshot: Snapshot) -> int:
        """A value that changes with the images, but not with labels."""
        if self._content[0] != snapshot.version:
            self._content = snapshot.version, hash(tuple(snapshot.column("sha256").to_pylist()))
        return self._content[1]

    def stop(self) -> None:
        """Stop searching."""
        self._job.stop()
