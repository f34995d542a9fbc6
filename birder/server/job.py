"""A long computation in a separate process: started, polled for progress, and stopped."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any


class Job:
    """One run at a time of `python -m birder.server.compute`, whose arguments may be any text.

    Parameters
    ----------
    name
        What is computed, for messages: "map".

    Attributes
    ----------
    stage, progress
        What the current run does, and its progress from 0 to 1.
    error
        Why the last run failed; None if it did not.
    result
        What the last run reported at its end; None if it reported nothing.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._follower: threading.Thread | None = None
        self.stage, self.progress = "", 0.0
        self.error: str | None = None
        self.result: Any = None

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._process is not None

    def start(self, *arguments: str) -> None:
        """Begin a run, unless one is under way."""
        with self._lock:
            if self._process is not None:
                return
            self.error, self.result, self.stage, self.progress = None, None, "starting", 0.0
            self._process = subprocess.Popen(
                [sys.executable, "-m", "birder.server.compute", json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            self._follower = threading.Thread(target=self._follow, args=(self._process,), daemon=True)
            self._follower.start()

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None and process.stderr is not None
        messages: list[str] = []
        # Its warnings are read as they come: a full pipe would stop it.
        reader = threading.Thread(target=lambda: messages.extend(process.stderr or ()), daemon=True)
        reader.start()
        for line in process.stdout:
            try:
                report = json.loads(line)
            except ValueError:
                continue  # a library that prints
            self.error, self.result = report.get("error", self.error), report.get("result", self.result)
            self.stage, self.progress = report.get("stage", self.stage), report.get("progress", self.progress)
        code = process.wait()
        reader.join(1)
        with self._lock:
            if code and self.error is None:
                last = messages[-1].strip() if messages else f"its process ended with {code}"
                self.error = f"The {self._name} could not be computed: {last}"
            self._process = None

    def stop(self) -> None:
        """End the current run; what the collection had before stays."""
        process, follower = self._process, self._follower
        if process is not None and follower is not None:
            process.kill()
            follower.join()
