"""Checkpoint files in the Birder format, both kinds.

`.pt` is a dict with `state, birder_version, task, signature, class_to_idx, rgb_stats` and optionally `config`, written
by `torch.save` and only ever read with `weights_only=True`. `.safetensors` holds the state, and the rest as JSON
strings in its metadata.
"""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from birder.errors import WeightsError
from birder.net.base import get_signature
from birder.registry import TASK
from birder.version import __version__

RgbStats = dict[str, Any]
Signature = dict[str, Any]

_FIELDS = ("task", "signature", "class_to_idx", "rgb_stats")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes
    ----------
    state
        Parameters and buffers by name.
    signature
        {"inputs": [{"data_shape": [0, C, H, W]}], "outputs": [{"data_shape": [0, N]}]}; 0 stands for the batch.
    class_to_idx
        Class name -> index of its logit; empty where the classifier has no names.
    rgb_stats
        {"mean": three numbers, "std": three numbers} of pixel values in [0, 1].
    config
        Overrides of the network's registered configuration, or None.
    """

    state: dict[str, torch.Tensor]
    signature: Signature
    class_to_idx: dict[str, int]
    rgb_stats: RgbStats
    config: dict[str, Any] | None = None
    task: str = TASK
    birder_version: str = f"v{__version__}"


def make_signature(size: tuple[int, int], num_classes: int, channels: int = 3) -> Signature:
    """The signature of a network for input (height, width) and N classes."""
    return get_signature((0, channels, int(size[0]), int(size[1])), num_classes)


def get_size_from_signature(signature: Signature) -> tuple[int, int]:
    """Input (height, width) in pixels."""
    height, width = signature["inputs"][0]["data_shape"][2:4]
    return int(height), int(width)


def get_channels_from_signature(signature: Signature) -> int:
    """Number of input channels."""
    return int(signature["inputs"][0]["data_shape"][1])


def get_num_labels_from_signature(signature: Signature) -> int:
    """Number of outputs of the classifier."""
    return int(signature["outputs"][0]["data_shape"][1])


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of either kind, by its ending; tensors are on the CPU.

    Raises
    ------
    WeightsError
        The file is missing, truncated, a pickle that carries code, or no checkpoint of the Birder format.
    """
    path = Path(path)
    values = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pt(path)
    missing = [key for key in ("state", *_FIELDS) if key not in values]
    if missing:
        raise WeightsError(
            f"{path} is not in the Birder format: it has no {', '.join(missing)}. "
            "A checkpoint of OpenCLIP becomes one with: birder convert SOURCE DEST"
        )
    try:
        get_size_from_signature(values["signature"])
        get_num_labels_from_signature(values["signature"])
        list(values["rgb_stats"]["mean"] + values["rgb_stats"]["std"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} is damaged: its signature or rgb_stats have not the Birder format's form."
        ) from error
    return Checkpoint(
        state=values["state"],
        signature=values["signature"],
        class_to_idx=dict(values["class_to_idx"] or {}),
        rgb_stats=values["rgb_stats"],
        config=values.get("config") or None,
        task=values["task"],
        birder_version=str(values.get("birder_version", "unknown")),
    )


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise _missing(path) from None
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is truncated or no safetensors file ({error}). Delete it and fetch it again."
        ) from error
    values: dict[str, Any] = {"state": state}
    for key, text in metadata.items():
        if key in ("signature", "class_to_idx", "rgb_stats", "config"):
            try:
                values[key] = json.loads(text) if text else None
            except ValueError as error:
                raise WeightsError(f"{path} is damaged: its metadata {key!r} is no JSON.") from error
        else:
            values[key] = text
    return values


def _read_pt(path: Path) -> dict[str, Any]:
    values = read_pickle(path)
    if not isinstance(values, dict):
        raise WeightsError(f"{path} is not in the Birder format: it holds a {type(values).__name__}, not a dictionary.")
    return values


def read_pickle(path: Path) -> Any:
    """Read a torch file without running code from it; `WeightsError` if it is missing, damaged, or would need to."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch remarks on old protocols: nothing to do about them
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise _missing(path) from None
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "unsupported" in str(error).lower():
            raise WeightsError(
                f"{path} carries more than weights: reading it would run code from the file, so Birder refuses. "
                "Ask for a .safetensors file, or a .pt that torch.load(..., weights_only=True) reads."
            ) from error
        raise WeightsError(f"{path} is no torch file ({_first_line(error)}).") from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise WeightsError(
            f"{path} is truncated or no torch file ({_first_line(error)}). Delete it and fetch it again."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _missing(path: Path) -> WeightsError:
    return WeightsError(f"There is no file {path}.")


def write_checkpoint(path: str | Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, of the kind that the path's ending names (.pt or .safetensors); whole or not at all."""
    path = Path(path)
    if path.suffix not in (".pt", ".safetensors"):
        raise WeightsError(f"{path}: a checkpoint ends in .pt or .safetensors.")
    state = {key: value.detach().cpu().contiguous() for key, value in checkpoint.state.items()}
    fields: dict[str, Any] = {
        "birder_version": checkpoint.birder_version,
        "task": checkpoint.task,
        "signature": checkpoint.signature,
        "class_to_idx": checkpoint.class_to_idx,
        "rgb_stats": checkpoint.rgb_stats,
    }
    if checkpoint.config is not None:
        fields["config"] = checkpoint.config
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        if path.suffix == ".pt":
            torch.save({"state": state, **fields}, part)
        else:
            texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in fields.items()}
            safetensors.torch.save_file(state, part, metadata=texts)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise WeightsError(f"Cannot write {path}: {error}") from error
    return path


def save_model(
    net: torch.nn.Module,
    path: str | Path,
    *,
    signature: Signature,
    rgb_stats: RgbStats,
    class_to_idx: dict[str, int] | None = None,
    config: dict[str, Any] | None = None,
    task: str = TASK,
) -> Path:
    """Write a network as a checkpoint in the Birder format.

    Parameters
    ----------
    net
        The network.
    path
        Ends in .pt or .safetensors.
    signature, rgb_stats, class_to_idx, config, task
        As in `Checkpoint`; those of the `ModelInfo` that the network was loaded with fit.
    """
    state = dict(net.state_dict())
    return write_checkpoint(path, Checkpoint(state, signature, class_to_idx or {}, rgb_stats, config, task))
