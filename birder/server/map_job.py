"""The collection's map as the server has it: read from the collection, or being computed by another process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birder.explore.projection import FEWEST, read_map
from birder.server.catalogue import Catalogue, Snapshot


@dataclass(frozen=True)
class Map:
    """The points of a map: ids, x and y of each, float32 (N, 2), and how many rows are not on it."""

    ids: list[str]
    xy: npt.NDArray[np.float32]
    missing: int


class MapJob:
    """Gives the map, and computes it when asked to."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stage, self._progress = "", 0.0
        self._error: str | None = None
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
        running = self._process is not None
        few = len(snapshot) < FEWEST
        why = f"A map needs at least {FEWEST} photographs." if few else self._error
        return {
            "state": "computing" if running else "absent" if found is None else "ready",
            "progress": self._progress if running else 0.0 if found is None else 1.0,
            "stage": self._stage if running else "",
            "points": 0 if found is None else len(found.ids),
            "missing": len(snapshot) if found is None else found.missing,
            "can_compute": not few and not running,
            "why": why,
        }

    def start(self) -> None:
        """Compute the map, unless that is under way."""
        with self._lock:
            if self._process is not None:
                return
            self._error, self._stage, self._progress = None, "starting", 0.0
            self._process = subprocess.Popen(
                [sys.executable, "-m", "birder.server.compute_map", str(self._catalogue.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            threading.Thread(target=self._follow, args=(self._process,), daemon=True).start()

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None and process.stderr is not None
        said: list[str] = []
        # Its warnings are read as they come: a full pipe would stop it.
        listening = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
        listening.start()
        for line in process.stdout:
            try:
                told = json.loads(line)
            except ValueError:
                continue  # a library that prints
            self._error = told.get("error", self._error)
            self._stage, self._progress = told.get("stage", self._stage), told.get("progress", self._progress)
        code = process.wait()
        listening.join(1)
        with self._lock:
            if code and self._error is None:
                last = said[-1].strip() if said else f"its process ended with {code}"
                self._error = f"The map could not be computed: {last}"
            self._process = None

    def stop(self) -> None:
        """End computing; what the collection had before stays."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()


def _read(snapshot: Snapshot) -> Map | None:
    found = read_map(snapshot.collection)
    return None if found is None else Map(list(found.ids), np.ascontiguousarray(found.xy, "<f4"), found.missing)


def _stamp(path: Path) -> object:
    """What changes when the stored map does; None if there is none."""
    versions = path / "map.lance" / "_versions"
    try:
        return sorted(entry.name for entry in versions.iterdir()) or None
    except OSError:
        return None
