"""How good label help is, as the server has it: measured already, or being measured by another process."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from birder.errors import unknown_name
from birder.server.catalogue import Catalogue, Snapshot
from birder.server.job import Job

_FEWEST_NEW = 5
_SHARE_NEW = 0.1
_STATE = {"accuracy": None, "note": "", "how": ""}


@dataclass(frozen=True)
class _Measurement:
    labelled: int  # rows with a label when it began
    answer: dict[str, Any]

    def still_good(self, labelled: int) -> bool:
        """Whether there are too few new labels, or labels taken back, to measure again."""
        return abs(labelled - self.labelled) < max(_FEWEST_NEW, _SHARE_NEW * self.labelled)


class AccuracyJob:
    """Gives the accuracy of label help on a column, and measures it when there are new labels; one column at a time."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._job = Job("accuracy of label help")
        self._lock = threading.Lock()
        self._under_way: tuple[str, int] | None = None
        self._measured: dict[str, _Measurement] = {}

    def state(self, snapshot: Snapshot, column: str) -> dict[str, Any]:
        """What was measured last, and whether it is being measured again; that begins with the first call.

        Raises
        ------
        UnknownNameError
            There is no such column of text.
        """
        if snapshot.types.get(column) != "text":
            texts = [name for name, kind in snapshot.types.items() if kind == "text"]
            raise unknown_name("column of text", column, texts)
        labelled = snapshot.filled[column]
        with self._lock:
            self._collect()
            known = self._measured.get(column)
            if known is not None and known.still_good(labelled):
                return {"state": "ready", **known.answer}
            if not self._job.running:
                self._under_way = (column, labelled)
                self._job.start("accuracy", str(self._catalogue.path), column)
            return {"state": "computing", **(_STATE if known is None else known.answer)}

    def _collect(self) -> None:
        """Keep what a run has measured that has ended."""
        if self._under_way is None or self._job.running:
            return
        column, labelled = self._under_way
        self._under_way = None
        answer = _STATE | {"note": self._job.error} if self._job.error is not None else self._job.result
        self._measured[column] = _Measurement(labelled, answer)

    def stop(self) -> None:
        """End measuring."""
        self._job.stop()
