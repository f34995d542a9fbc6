"""What a classifier has learned from the labels, as the server has it: measured already, or by another process now."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from birder.server.catalogue import Catalogue, Snapshot
from birder.server.id_index import IdIndex
from birder.server.job import Job

_FEWEST_NEW = 5
_SHARE_NEW = 0.1


@dataclass(frozen=True)
class _Labels:
    """The labels of a column at a moment, and of which rows they are."""

    ids: IdIndex
    values: pa.Array

    def __len__(self) -> int:
        return int(len(self.values) - self.values.null_count)

    def changed_since(self, before: _Labels) -> int:
        """How many labels were given, changed or taken back."""
        if self.ids is not before.ids and not self.ids.ids.equals(before.ids.ids):  # rows have come or gone
            return abs(len(self) - len(before))
        now, then = (pc.fill_null(each.values, "") for each in (self, before))
        return int(np.count_nonzero(pc.not_equal(now, then).to_numpy(zero_copy_only=False)))


@dataclass(frozen=True)
class _Measurement:
    labels: _Labels  # when it began
    lesson: dict[str, Any] | None
    problem: str

    def still_good(self, labels: _Labels) -> bool:
        """Whether too few labels have changed to measure again."""
        return labels.changed_since(self.labels) < max(_FEWEST_NEW, _SHARE_NEW * len(self.labels))


class LessonJob:
    """Gives what was learned from a column, and measures it when labels have changed; one column at a time."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._job = Job("accuracy")
        self._lock = threading.Lock()
        self._under_way: tuple[str, _Labels] | None = None
        self._measured: dict[str, _Measurement] = {}

    def state(self, snapshot: Snapshot, column: str) -> dict[str, Any]:
        """What was measured last, and whether it is being measured again; that begins with the first call.

        Parameters
        ----------
        snapshot
            The rows.
        column
            One of text.
        """
        labels = _Labels(snapshot.ids, snapshot.column(column))
        with self._lock:
            self._collect()
            known = self._measured.get(column)
            told = {"lesson": known and known.lesson, "problem": known.problem if known else ""}
            if known is not None and known.still_good(labels):
                return {"state": "ready", "progress": 1.0, "stage": "", **told}
            if not self._job.running:
                self._under_way = (column, labels)
                self._job.start("lesson", str(self._catalogue.path), column)
            own = self._under_way is not None and self._under_way[0] == column
            progress, stage = (self._job.progress, self._job.stage) if own else (0.0, "waiting for another column")
            return {"state": "computing", "progress": progress, "stage": stage, **told}

    def _collect(self) -> None:
        """Keep what a run has measured that has ended."""
        if self._under_way is None or self._job.running:
            return
        column, labels = self._under_way
        self._under_way = None
        self._measured[column] = _Measurement(labels, self._job.result, self._job.error or "")

    def stop(self) -> None:
        """End measuring."""
        self._job.stop()
