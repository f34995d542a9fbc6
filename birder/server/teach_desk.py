"""What the view Teach asks for once: a classifier as a file, and names for the images without a label."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from birder.registry import HEAD_ENDING
from birder.server.asked_job import AskedJob
from birder.server.catalogue import Catalogue


class TeachDesk:
    """Starts both, each in a process of its own, and keeps the file until another is asked for or the server ends.

    Attributes
    ----------
    save, name
        The two computations.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._path = catalogue.path
        self.save = AskedJob("classifier")
        self.name = AskedJob("list of names")
        self._folder: Path | None = None

    def save_classifier(self, column: str, *, network: bool) -> None:
        """Begin to learn from a column, and to write a checkpoint with the network, or a detached head.

        Raises
        ------
        CollectionBusyError
            A classifier is being saved already.
        """
        folder = Path(tempfile.mkdtemp(prefix="birder-classifier-"))
        stem = re.sub(r"[^\w-]+", "-", f"{self._path.name.removesuffix('.birder')}-{column}")[:100]
        file = folder / f"{stem}{'.safetensors' if network else HEAD_ENDING}"
        try:
            self.save.start(
                {"column": column}, "classifier", str(self._path), column, str(file), "yes" if network else "no"
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._forget()
        self._folder = folder

    def name_rest(self, column: str, *, precision: float | None, unknown: bool, where: str) -> None:
        """Begin to learn from a column, and to name the rows without a label: see `birder.learning.name_rest`.

        Raises
        ------
        CollectionBusyError
            Names are being given already.
        """
        least = "" if precision is None else repr(precision)
        asked = {"column": column}
        self.name.start(asked, "names", str(self._path), column, least, "yes" if unknown else "no", where)

    def states(self) -> dict[str, dict[str, Any]]:
        """How far both are."""
        return {"save": _told(self.save.state()), "name": _told(self.name.state())}

    def file(self) -> Path | None:
        """The classifier that was saved last; None if there is none."""
        result = self.save.state()["result"]
        if result is None or self._folder is None:
            return None
        return self._folder / str(result["file"])

    def stop(self) -> None:
        """End what is under way, and remove the file."""
        self.save.stop()
        self.name.stop()
        self._forget()

    def _forget(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _told(state: dict[str, Any]) -> dict[str, Any]:
    result = state["result"] or {}
    return {
        "state": state["state"],
        "column": state.get("column"),
        "progress": state["progress"],
        "stage": state["stage"],
        "note": state["error"] or result.get("note", ""),
        "file": result.get("file"),
        "bytes": result.get("bytes"),
    }
