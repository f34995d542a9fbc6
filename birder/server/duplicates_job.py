"""The server's duplicates: found already, or being searched for by another process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

from birder.errors import BirderError
from birder.server.catalogue import Catalogue, Snapshot
from birder.server.encoded import Positions
from birder.server.job import Job

_KEPT = 4  # findings

Group = tuple[str, list[tuple[str, float]]]
"""What kind of group it is, and the id of each image with its similarity to the first."""


class Wanted(NamedTuple):
    """Which duplicates: the least cosine of similar images, and the filter that images must match ("" for none)."""

    threshold: float
    where: str


@dataclass
class _Finding:
    content: int  # of the images that were compared
    groups: list[Group]
    by_graph: bool
    reported: bool = False


class DuplicatesJob:
    """Provides groups of duplicates, and searches for them on request; one search at a time."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._job = Job("list of duplicates")
        self._lock = threading.Lock()
        self._under_way: tuple[Wanted, int] | None = None
        self._found: OrderedDict[Wanted, _Finding] = OrderedDict()
        self._failed: dict[Wanted, str] = {}
        self._content: tuple[int, int] = (-1, 0)

    def state(self, snapshot: Snapshot, wanted: Wanted, selected: Positions) -> dict[str, Any]:
        """What was found, or the progress of the search, which the first call starts.

        Parameters
        ----------
        snapshot
            The rows.
        wanted
            Which duplicates.
        selected
            The rows that match its filter.

        Raises
        ------
        BirderError
            It failed, which is reported once: the next call starts it again.
        """
        with self._lock:
            self._collect()
            content = hash((self._content_of(snapshot), selected.tobytes() if wanted.where else b""))
            found = self._found.get(wanted)
            # While rows are being added, each finding is of a collection that has grown since: it is still reported.
            if found is not None and (found.content == content or not found.reported):
                found.reported = True
                told = {"groups": found.groups, "by_graph": found.by_graph}
                return {"state": "ready", "progress": 1.0, "stage": "", **told}
            if wanted in self._failed:
                raise BirderError(self._failed.pop(wanted))
            if not self._job.running:
                self._under_way = (wanted, content)
                self._job.start("duplicates", str(self._catalogue.path), repr(wanted.threshold), wanted.where)
            own = self._under_way is not None and self._under_way[0] == wanted
            progress, stage = (self._job.progress, self._job.stage) if own else (0.0, "waiting for another search")
            return {"state": "computing", "progress": progress, "stage": stage, "groups": [], "by_graph": False}

    def found(self, wanted: Wanted) -> list[Group] | None:
        """The groups that were reported last; None if there were none."""
        with self._lock:
            finding = self._found.get(wanted)
            return None if finding is None else finding.groups

    def cancel(self, wanted: Wanted) -> None:
        """End the search for these; what was found before stays."""
        with self._lock:
            if self._under_way is not None and self._under_way[0] == wanted:
                self._under_way = None
                self._job.stop()

    def _collect(self) -> None:
        """Keep what a finished run has found."""
        if self._under_way is None or self._job.running:
            return
        wanted, content = self._under_way
        self._under_way = None
        if self._job.error is not None:
            self._failed[wanted] = self._job.error
            return
        result = self._job.result
        self._found[wanted] = _Finding(content, result["groups"], result["by_graph"])
        self._found.move_to_end(wanted)
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
