"""The server's map: read from the collection, or being computed by another process."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.analysis.projection import FEWEST, stored_map
from birder.server.catalogue import Catalogue, Snapshot
from birder.server.encoded import Positions
from birder.server.id_index import IdIndex
from birder.server.job import Job


@dataclass(frozen=True)
class Map:
    """The points of a map: the rows that they stand for, x and y of each, and how many rows are not on it.

    Attributes
    ----------
    positions
        The row of each of N points in snapshots with the rows `of`.
    xy
        (N, 2) float32, little-endian.
    missing
        How many rows have no point, or one of a former content.
    of
        Those ids, in the order of rows.
    laid_out
        How many images UMAP laid out, if the others were placed by these.
    """

    positions: Positions
    xy: npt.NDArray[np.float32]
    missing: int
    of: IdIndex
    laid_out: int | None


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
        stamp = _stamp(self._catalogue.path)
        with self._lock:
            if stamp != self._stamp or (self._map is not None and self._map.of is not snapshot.ids):
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
            "points": 0 if found is None else len(found.positions),
            "missing": len(snapshot) if found is None else found.missing,
            "laid_out": None if found is None else found.laid_out,
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
    found = stored_map(snapshot.collection)
    if found is None:
        return None
    positions = snapshot.ids.positions(found.ids)
    there = positions >= 0
    now, then = snapshot.column("sha256"), found.sha256
    if not np.array_equal(positions, np.arange(len(snapshot))):  # else nothing need be copied
        now, then = now.take(pa.array(positions[there])), then.filter(pa.array(there))
    missing = len(snapshot) - (pc.sum(pc.equal(now, then)).as_py() or 0)
    xy = np.ascontiguousarray(found.xy[there], "<f4")
    return Map(positions[there], xy, missing, snapshot.ids, found.made.get("laid_out"))


def _stamp(path: Path) -> object:
    """A value that changes with the stored map; None without one."""
    versions = path / "map.lance" / "_versions"
    try:
        return sorted(entry.name for entry in versions.iterdir()) or None
    except OSError:
        return None
