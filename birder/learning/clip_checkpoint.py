"""The state of a CLIP training on disk: the last two checkpoints, from each of which it goes on to the same weights.

A checkpoint holds all that changes with an update: the parameters and buffers, the optimizer's tensors, and as JSON in
its metadata the position, with the place in the shards of every stream. What is drawn needs no state: it follows from
the seed and the number of the update. Each file is written beside its place, flushed and moved there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors

from birder.errors import FileExistsError, WeightsError
from birder.files import replacing
from birder.learning.training_checkpoint import (
    Tensors,
    check_asked,
    not_ended,
    nothing_to_resume,
    read_asked,
    write_asked,
)
from birder.weights.checkpoint import write_safetensors

KEPT = 2
_CHECKPOINTS, _ASKED = "checkpoints", "asked.json"
_FORMAT = "birder-clip-training-1"


@dataclass
class ClipPosition:
    """How far a training has come.

    Attributes
    ----------
    update
        The update that comes next, from 0.
    streams, replayed
        Where each stream of the shards is, and each of those that are replayed (`ClipBatches.states_after`).
    scaler
        The state of the gradient scaler; empty without one.
    losses
        The sum of the losses of this epoch's updates.
    updates
        How many those are.
    history
        One entry an epoch: what it was and what it gave.
    seconds, waited
        What the training has taken, and what of it was spent on waiting for data.
    """

    update: int = 0
    streams: list[dict[str, Any]] | None = None
    replayed: list[dict[str, Any]] | None = None
    scaler: dict[str, Any] = field(default_factory=dict)
    losses: float = 0.0
    updates: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0


class ClipFolder:
    """The folder of a training: its checkpoints while it is under way, its result afterwards.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def checkpoints(self) -> list[Path]:
        """Its checkpoints, the oldest first."""
        return sorted((self.path / _CHECKPOINTS).glob("step-*.safetensors"))

    @property
    def update(self) -> int:
        """The updates that were made before the last checkpoint."""
        return max((int(path.stem.removeprefix("step-")) for path in self.checkpoints()), default=0)

    def begin(self, asked: Mapping[str, Any], *, resume: bool, force: bool) -> None:
        """Begin a training, or make sure that the one here is the one that is asked for.

        Parameters
        ----------
        asked
            Everything that the final weights depend on, as JSON holds it.
        resume
            Go on with what is here.
        force
            Begin anew where a training, or its result, is.

        Raises
        ------
        FileExistsError
            Something is here, and neither `resume` nor `force` is set.
        ConfigError
            There is nothing to go on with, or a training with other options or shards; the message names them.
        """
        if resume:
            if not self.checkpoints():
                raise nothing_to_resume(self.path)
            check_asked(self.path / _ASKED, asked)
            return
        if not force:
            if self.checkpoints():
                raise not_ended(self.path)
            if self.path.exists() and any(self.path.iterdir()):
                raise FileExistsError(f"{self.path} is not empty: name another folder, or replace it with --force.")
        self.forget()
        write_asked(self.path / _ASKED, asked)

    def asked(self) -> dict[str, Any]:
        """What was asked when the training here began."""
        return read_asked(self.path / _ASKED)

    def forget(self) -> None:
        """Remove the checkpoints."""
        shutil.rmtree(self.path / _CHECKPOINTS, ignore_errors=True)
        (self.path / _ASKED).unlink(missing_ok=True)

    def write(self, position: ClipPosition, tensors: Mapping[str, Tensors]) -> None:
        """Keep everything that changes with an update: named sets of tensors, and the position."""
        together = {
            f"{name}/{key}": value.detach().cpu().contiguous().clone()
            for name, some in tensors.items()
            for key, value in some.items()
        }
        metadata = {"format": _FORMAT, "position": json.dumps(asdict(position), sort_keys=True, allow_nan=False)}
        with replacing(self.path / _CHECKPOINTS / f"step-{position.update:09d}.safetensors", durable=True) as draft:
            write_safetensors(draft, together, metadata)
        for old in self.checkpoints()[:-KEPT]:
            old.unlink()

    def read(self) -> tuple[ClipPosition, dict[str, Tensors]]:
        """The last checkpoint.

        Raises
        ------
        WeightsError
            It is damaged.
        """
        path = self.checkpoints()[-1]
        try:
            with safetensors.safe_open(path, framework="pt") as opened:
                metadata = dict(opened.metadata() or {})
                position = ClipPosition(**json.loads(metadata["position"]))
                found: dict[str, Tensors] = {}
                for key in opened.keys():  # noqa: SIM118 - not a dictionary
                    name, _, inner = key.partition("/")
                    found.setdefault(name, {})[inner] = opened.get_tensor(key)
        except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{path} is damaged ({error}): remove it, and --resume goes on from the one before."
            ) from error
        return position, found
