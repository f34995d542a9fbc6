"""The state of a training on disk, so that one that ended in the middle goes on to the same final weights.

A folder holds `run.json`, what was asked; `start.safetensors`, the network before the first update; `best.safetensors`,
the averaged weights of the best epoch so far; and `state.safetensors`, all that changes with an update. Each is written
beside its place, flushed and moved there. `best` is written before `state`: if the process is killed between the two,
the epoch is computed again, and the same file is written again. No file holds code: tensors, and JSON in the metadata.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch

from birder.errors import ConfigError, FileExistsError, WeightsError
from birder.files import replacing
from birder.weights.checkpoint import write_safetensors

Tensors = dict[str, torch.Tensor]

_ASKED, _START, _BEST, _STATE = "run.json", "start.safetensors", "best.safetensors", "state.safetensors"


@dataclass
class Position:
    """How far a training has come.

    Attributes
    ----------
    epoch, update
        The epoch, and the update within it, that come next.
    loss, counted
        The sum of the losses of this epoch's batches, and their number.
    history
        One entry an epoch: what it was and what it gave.
    best
        The number of the best epoch so far, from 1; 0 before the first has ended.
    seconds
        What it has taken.
    failures
        uri -> why an image could not be read.
    """

    epoch: int = 0
    update: int = 0
    loss: float = 0.0
    counted: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)


class TrainingFolder:
    """The folder of a training that is under way.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def begun(self) -> bool:
        """Whether there is a training to go on with: one whose state was saved."""
        return (self.path / _STATE).exists()

    def check(self, *, resume: bool, force: bool) -> None:
        """Refuse to begin where a training has not ended, and to go on where there is none.

        Raises
        ------
        FileExistsError
            A training has not ended here, and neither `resume` nor `force` is set.
        ConfigError
            There is none, and `resume` is set.
        """
        if self.begun and not resume and not force:
            raise not_ended(self.path)
        if resume and not self.begun:
            raise nothing_to_resume(self.path)

    def begin(self, asked: Mapping[str, Any], *, resume: bool) -> bool:
        """Begin a training anew, or make sure that the one here is the one that is asked for.

        Parameters
        ----------
        asked
            Everything that the final weights depend on, as JSON holds it.
        resume
            Go on with what is here.

        Returns
        -------
        Whether to go on from the saved state.

        Raises
        ------
        ConfigError
            It was begun with other options or images; the message names them.
        WeightsError
            Its record is damaged.
        """
        if resume:
            check_asked(self.path / _ASKED, asked)
            return True
        self.forget()
        write_asked(self.path / _ASKED, asked)
        return False

    def forget(self) -> None:
        """Remove a training that is not to go on; the folder too, if nothing else is in it."""
        for name in (_STATE, _BEST, _START, _ASKED):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def remove(self) -> None:
        """Remove the folder: the training is done."""
        shutil.rmtree(self.path, ignore_errors=True)

    def write_start(self, state: Tensors) -> None:
        """Keep the network before the first update."""
        self._write(_START, state, {})

    def read_start(self) -> Tensors:
        """Read it again."""
        return self._read(_START)[0]

    def write_best(self, state: Tensors) -> None:
        """Keep the averaged weights of the best epoch so far."""
        self._write(_BEST, state, {})

    def read_best(self) -> Tensors:
        """Read them again."""
        return self._read(_BEST)[0]

    def write_state(self, position: Position, tensors: Mapping[str, Tensors]) -> None:
        """Keep everything that changes with an update: named sets of tensors, and the position."""
        together = {f"{name}/{key}": value for name, some in tensors.items() for key, value in some.items()}
        self._write(_STATE, together, {"position": json.dumps(asdict(position), sort_keys=True, allow_nan=False)})

    def read_state(self) -> tuple[Position, dict[str, Tensors]]:
        """Read it again.

        Raises
        ------
        WeightsError
            It is damaged.
        """
        tensors, metadata = self._read(_STATE)
        try:
            position = Position(**json.loads(metadata["position"]))
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{self.path / _STATE} is damaged: begin anew with --force.") from error
        found: dict[str, Tensors] = {}
        for key, value in tensors.items():
            name, _, inner = key.partition("/")
            found.setdefault(name, {})[inner] = value
        return position, found

    def _write(self, name: str, tensors: Tensors, metadata: dict[str, str]) -> None:
        kept = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        with replacing(self.path / name, durable=True) as draft:
            write_safetensors(draft, kept, {"format": "birder-training-1", **metadata})

    def _read(self, name: str) -> tuple[Tensors, dict[str, str]]:
        file = self.path / name
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                return {key: opened.get_tensor(key) for key in opened.keys()}, dict(opened.metadata() or {})  # noqa: SIM118
        except (OSError, safetensors.SafetensorError) as error:
            raise WeightsError(f"{file} cannot be read: begin anew with --force. ({error})") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's tensors, named by the number of their parameter."""
    state: dict[int, dict[str, torch.Tensor]] = optimizer.state_dict()["state"]
    return {f"{number}/{name}": tensor for number, each in state.items() for name, tensor in each.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, kept: Tensors) -> None:
    """Give an optimizer the tensors that `optimizer_tensors` named."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in kept.items():
        number, _, name = key.partition("/")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def not_ended(path: Path) -> FileExistsError:
    """The error where a training is to begin in the folder of one that has not ended."""
    return FileExistsError(
        f"A training that has not ended is in {path}: go on with --resume, or begin anew with --force."
    )


def nothing_to_resume(path: Path) -> ConfigError:
    """The error where a training is to go on, and the folder has none."""
    return ConfigError(f"There is no training to go on with in {path}: leave out --resume.")


def check_asked(file: Path, asked: Mapping[str, Any]) -> None:
    """Refuse (`ConfigError`) to go on with a training that was begun with other options than those asked for now."""
    if differ := _differences(read_asked(file), asked):
        raise ConfigError(
            f"The training in {file.parent} was begun with another {differ}. Ask for the same again, or begin anew "
            "with --force."
        )


def _differences(before: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """The names of what is asked for otherwise than before, each with what it was then; empty if nothing is."""
    differ = sorted(key for key in {*before, *asked} if before.get(key) != asked.get(key))
    return ", ".join(f"{key} (then {_shown(before.get(key))})" for key in differ)


def write_asked(file: Path, asked: Mapping[str, Any]) -> None:
    """Keep what was asked for."""
    with replacing(file, durable=True) as draft:
        draft.write_text(json.dumps(asked, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_asked(file: Path) -> dict[str, Any]:
    """Read it again; `WeightsError` if it is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file} is damaged: begin anew with --force.") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{file} is damaged: begin anew with --force.")
    return found


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"
