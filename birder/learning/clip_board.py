"""The curves of a CLIP training as files for TensorBoard, written while it is under way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birder.learning.clip import ClipTold


class Board:
    """Writes the curves of a training into a folder.

    Parameters
    ----------
    folder
        The folder.
    update
        The number of updates that were made before. Curves in the folder that go beyond it are cut there.
    """

    def __init__(self, folder: Path, update: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=update + 1)

    def update(self, told: ClipTold) -> None:
        """Keep the loss, the rate and the rest after an update."""
        for name in ("loss", "scale", "lr", "rate", "waited"):
            self._writer.add_scalar(f"train/{name}", getattr(told, name), told.update)

    def judged(self, found: Mapping[str, Any], update: int) -> None:
        """Keep what the CLIP is worth after an update."""
        for what, figures in found.items():
            for name, value in figures.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{what}/{name}", value, update)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
