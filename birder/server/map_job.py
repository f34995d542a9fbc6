"""The server's map: read from the collection, or being computed by another process."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birder.analysis.projection import FEWEST, read_map
from birder.server.catalogue import Catalogue, Snapshot
from birder.server.job import Job


@dataclass(frozen=True)
class Map:
    """The points of a map: ids, x and y of each, float32 (N, 2), and how many rows are not on it."""

    ids: list[str]
    xy: npt.NDArray[np.float32]
    missing: int


class MapJob:
    """Provides the map, and computes it on request."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._job = Job("map")
        self._map: Map | None = None
        self._stamp: object = None

    def current(self) -> Map | None:
        """The map that the collection has."""
        snapshot = self._catalogue.current()
        stored = _stamp(self._catalogue.path)
        stamp = None if stored is None else (stored, snapshot.rows_version)
        with self._lock:
            if stamp != self._stamp:
                self._map = None if stamp is None else _read(snapshot)
                self._stamp = stamp
            return self._map

    def state(self, snapshot: Snapshot) -> dict[str, Any]:
        """Whether there is a map, or how far computing it is."""
        found = self.current()
        running = self._job.running
        few = len(snapshot) < FEWEST
        why = f"A map needs at least {FEWEST} images." if few else self._job.error
        return {
            "state": "computing" if running else "absent" if found is None else "ready",
            "progress": self._job.progress if running else 0.0 if found is None else 1.0,
            "stage": self._job.stage if running else "",
            "points": 0 if found is None else len(found.ids),
            "missing": len(snapshot) if found is None else found.missing,
            "can_compute": not few and not running,
            "why": why,
        }

    def start(self) -> None:
        """Compute the map, unless that is under way."""
        self._job.start("map", str(self._catalogue.path))

    def stop(self) -> None:
        """End computing; what the collection had before stays."""
        self._job.stop()


def _read(snapshot: Snapshot) -> Map | None:
    found = read_map(snapshot.collection)
    return None if found is None else Map(list(found.ids), np.ascontiguousarray(found.xy, "<f4"), found.missing)


def _stamp(path: Path) -> object:
    """A value that changes with the stored map; None without one."""
    versions = path / "map.lance" / "_versions"
    try:
        return sorted(entry.name for entry in versions.iterdir()) or None
    except OSError:
        return None
