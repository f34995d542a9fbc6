"""Checkpoint files in the Birder format, both kinds.

`.pt` is a dict with `state, birder_version, task, signature, class_to_idx, rgb_stats` and optionally `config`, written
by `torch.save` and only ever read with `weights_only=True`. `.safetensors` holds the state, and the rest as JSON
strings in its metadata.

A checkpoint whose classifier `birder adapt` made has two fields more, which the published package passes over:
`adaptation`, a JSON text, and `examples`, int8 (M, D): a tensor in a .pt, and base64 in the metadata of a .safetensors,
because the published package takes every tensor there for a parameter.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from birder.errors import WeightsError
from birder.files import replacing
from birder.net.base import get_signature
from birder.registry import TASK, network_spec
from birder.version import __version__
from birder.weights.hub import check_is_file

RgbStats = dict[str, Any]
Signature = dict[str, Any]

_FIELDS = ("task", "signature", "class_to_idx", "rgb_stats")
# Far beyond any network; a file that claims more is refused.
_MAX_SIDE, _MAX_CHANNELS, _MAX_OUTPUTS = 16_384, 1_024, 100_000_000
_MAX_DEPTH, _MAX_VALUES = 8, 10_000
MAX_EXAMPLE_BYTES = 48 * 2**20
"""The largest M x D of the examples: safetensors reads no more than 100 MB of metadata, where they are base64."""
_MAX_ADAPTATION = 32 * 2**20  # characters


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
    network
        The registered network that the state is of; None in files of the published package, which do not say.
    backbone_config
        In a detector's checkpoint, what `config` is for its backbone.
    detector
        In a detector's checkpoint, its kind: "fcos"; `network` is then its backbone's. None in files of the published
        package, which do not say.
    adaptation
        What `birder adapt` recorded of the classifier; None of other checkpoints.
    examples
        int8 (M, D), directions of training embeddings, which tell the unknown; None if there are none.
    """

    state: dict[str, torch.Tensor]
    signature: Signature
    class_to_idx: dict[str, int]
    rgb_stats: RgbStats
    config: dict[str, Any] | None = None
    task: str = TASK
    birder_version: str = f"v{__version__}"
    network: str | None = None
    backbone_config: dict[str, Any] | None = None
    adaptation: dict[str, Any] | None = None
    examples: torch.Tensor | None = None
    detector: str | None = None


def make_signature(size: tuple[int, int], num_classes: int, channels: int = 3) -> Signature:
    """The signature of a network for input (height, width) and N classes."""
    return get_signature((0, channels, int(size[0]), int(size[1])), num_classes)


def make_detection_signature(size: tuple[int, int], num_classes: int, channels: int = 3) -> Signature:
    """The signature of a detector for input (height, width) and C classes; 0 stands for the batch and the boxes."""
    return {
        "dynamic": False,
        "inputs": [{"data_shape": [0, channels, int(size[0]), int(size[1])]}],
        "outputs": ([{"boxes": [0, 4], "labels": [0], "scores": [0]}], {}),
        "num_labels": num_classes,
    }


def get_size_from_signature(signature: Signature) -> tuple[int, int]:
    """Input (height, width) in pixels."""
    height, width = signature["inputs"][0]["data_shape"][2:4]
    return int(height), int(width)


def get_channels_from_signature(signature: Signature) -> int:
    """Number of input channels."""
    return int(signature["inputs"][0]["data_shape"][1])


def get_num_labels_from_signature(signature: Signature) -> int:
    """Number of outputs of the classifier, or of a detector's classes."""
    if "num_labels" in signature:
        return int(signature["num_labels"])
    return int(signature["outputs"][0]["data_shape"][1])


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of either kind, by its ending; tensors are on the CPU.

    Raises
    ------
    WeightsError
        The file is missing, not a regular file, truncated, a pickle that carries code, or not in the Birder format.
    """
    path = Path(path)
    check_is_file(path)
    values = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pt(path)
    missing = [key for key in ("state", *_FIELDS) if key not in values]
    if missing:
        raise WeightsError(
            f"{path} is not in the Birder format: it has no {', '.join(missing)}. "
            "A checkpoint of OpenCLIP becomes one with: birder convert SOURCE --to FILE"
        )
    adaptation, examples = _read_adaptation(values, path)
    wrong = _wrong(values, path.stat().st_size)
    if wrong is not None:
        raise WeightsError(f"{path} is damaged or in another format: {wrong}. Fetch it again, or ask its author.")
    return Checkpoint(
        state=values["state"],
        signature=values["signature"],
        class_to_idx=dict(values["class_to_idx"] or {}),
        rgb_stats=values["rgb_stats"],
        config=values.get("config") or None,
        task=values["task"],
        birder_version=str(values.get("birder_version", "unknown")),
        network=values.get("network") or None,
        backbone_config=values.get("backbone_config") or None,
        detector=values.get("detector") or None,
        adaptation=adaptation,
        examples=examples,
    )


def read_json(text: Any, what: str, path: Path) -> dict[str, Any]:
    """A JSON object from a file's metadata; `WeightsError` if it is not one, or has numbers that JSON does not have."""
    try:
        if not isinstance(text, str) or len(text) > _MAX_ADAPTATION:
            raise ValueError
        value = json.loads(text, parse_constant=_not_json)
        if not isinstance(value, dict):
            raise ValueError
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: its {what} is not a JSON object. Fetch it again.") from error
    return value


def _not_json(name: str) -> float:
    raise ValueError(name)


def _read_adaptation(values: dict[str, Any], path: Path) -> tuple[dict[str, Any] | None, torch.Tensor | None]:
    if values.get("adaptation") in (None, "null"):
        return None, None
    adaptation = read_json(values["adaptation"], "adaptation", path)
    examples = values.get("examples")
    weight = values["state"].get("classifier.weight") if isinstance(values["state"], dict) else None
    if examples is None or not isinstance(weight, torch.Tensor) or weight.ndim != 2:
        return adaptation, None
    dimension = weight.shape[1]
    if isinstance(examples, str):
        try:
            data = bytearray(base64.b64decode(examples, validate=True))
        except (binascii.Error, ValueError) as error:
            raise WeightsError(f"{path} is damaged: its examples are not base64. Fetch it again.") from error
        if not data or dimension == 0 or len(data) % dimension:
            raise WeightsError(f"{path} is damaged: its examples are not {dimension}-dimensional. Fetch it again.")
        examples = torch.frombuffer(data, dtype=torch.int8).reshape(-1, dimension)
    return adaptation, check_examples(examples, dimension, path)


def check_examples(examples: Any, dimension: int, path: Path) -> torch.Tensor:
    """Raise `WeightsError` unless examples are a tensor int8 (M, `dimension`) within the bound."""
    if (
        not isinstance(examples, torch.Tensor)
        or examples.dtype != torch.int8
        or examples.ndim != 2
        or examples.shape[0] < 1
        or examples.shape[1] != dimension
        or examples.numel() > MAX_EXAMPLE_BYTES
    ):
        raise WeightsError(
            f"{path} is damaged: its examples are not int8 vectors of {dimension} dimensions, or too many. "
            "Fetch it again."
        )
    return examples


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, OSError, ValueError, OverflowError, RuntimeError) as error:
        raise WeightsError(
            f"{path} is truncated or not a safetensors file ({error}). Delete it and fetch it again."
        ) from error
    values: dict[str, Any] = {"state": state}
    for key, text in metadata.items():
        if key in ("signature", "class_to_idx", "rgb_stats", "config", "backbone_config"):
            try:
                values[key] = json.loads(text) if text else None
            except (ValueError, RecursionError) as error:
                raise WeightsError(f"{path} is damaged: its metadata {key!r} is not JSON.") from error
        else:
            values[key] = text
    return values


def _read_pt(path: Path) -> dict[str, Any]:
    values = read_pickle(path)
    if not isinstance(values, dict):
        raise WeightsError(
            f"{path} is not in the Birder format: it contains a {type(values).__name__}, not a dictionary."
        )
    return values


def read_pickle(path: Path) -> Any:
    """Read a torch file without running code from it; `WeightsError` if it is missing, damaged, or would need to."""
    check_is_file(path)
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip:
            _check_zip(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of old protocols, which users cannot change
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle can make torch raise any of Python's errors
        message = str(error).lower()
        if isinstance(error, pickle.UnpicklingError) and ("weights_only" in message or "unsupported" in message):
            raise WeightsError(
                f"{path} carries more than weights: reading it would run code from the file, so Birder refuses. "
                "Ask for a .safetensors file, or a .pt that torch.load(..., weights_only=True) reads."
            ) from error
        raise WeightsError(
            f"{path} is truncated or not a PyTorch checkpoint ({_first_line(error)}). Delete it and fetch it again."
        ) from error


def _check_zip(path: Path) -> None:
    """Refuse a torch file whose parts are larger than it is: torch stores them as they are, a bomb compresses them."""
    with zipfile.ZipFile(path) as file:
        parts = sum(part.file_size for part in file.infolist())
    if parts > path.stat().st_size:
        raise WeightsError(f"{path} is not a PyTorch checkpoint: its parts are compressed, or overlap. Fetch it again.")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _wrong(values: dict[str, Any], file_size: int) -> str | None:
    """What in a checkpoint's fields does not have the format's form, for a message; None if nothing."""
    state, signature, stats = values["state"], values["signature"], values["rgb_stats"]
    classes = values["class_to_idx"]
    if not _is_table(state) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        return "its state is not a table of tensors"
    # A number takes a byte at least; some tensors may share theirs.
    if sum(value.numel() for value in state.values()) > 4 * file_size:
        return "its tensors claim more values than the file contains"
    if wrong := wrong_signature(signature):
        return f"its {wrong}"
    channels = get_channels_from_signature(signature)
    for key in ("mean", "std"):
        numbers = stats.get(key) if isinstance(stats, dict) else None
        if not isinstance(numbers, list | tuple) or not all(type(each) in (int, float) for each in numbers):
            return f"its rgb_stats have no list of numbers {key!r}"
        if len(numbers) not in (3, channels):
            return f"its rgb_stats have {len(numbers)} numbers as {key!r}, not 3"
        if not all(abs(each) < math.inf and (key == "mean" or each > 0) for each in numbers):
            return f"its rgb_stats have numbers as {key!r} that pixels cannot have"
    if classes is not None and not (_is_table(classes) and all(type(each) is int for each in classes.values())):
        return "its class_to_idx is not a table of names and numbers"
    for key in ("task", "birder_version", "network"):
        if not isinstance(values.get(key, ""), str):
            return f"its {key} is not text"
    if not isinstance(values.get("detector"), str | None):
        return "its detector is not text"
    for key in ("config", "backbone_config"):
        config = values.get(key)
        if config is not None and not (_is_table(config) and _is_plain(config)):
            return f"its {key} is not a table of plain values"
    return None


def wrong_signature(signature: Any) -> str | None:
    """What in a signature does not have the format's form, or fits no network; None if nothing."""
    try:
        shape = signature["inputs"][0]["data_shape"]
        height, width = get_size_from_signature(signature)
        channels, outputs = get_channels_from_signature(signature), get_num_labels_from_signature(signature)
        whole = all(type(each) is int for each in shape)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return "signature does not have the Birder format's form"
    if (
        not whole
        or len(shape) != 4
        or not (min(height, width) >= 1 and max(height, width) <= _MAX_SIDE and 1 <= channels <= _MAX_CHANNELS)
    ):
        return f"signature names an input of {_shown(shape)}, which no network takes"
    if not 0 <= outputs <= _MAX_OUTPUTS:
        return f"signature names {outputs} outputs, which no network has"
    return None


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _is_plain(value: Any) -> bool:
    """Whether a configuration is made of numbers, texts, and few lists and tables of these."""
    level, seen = [value], 0
    for _ in range(_MAX_DEPTH):
        deeper: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                deeper += each.values()
            elif isinstance(each, list | tuple):
                deeper += each
            elif not isinstance(each, str | int | float | None):
                return False
            if len(deeper) > _MAX_VALUES:
                return False
        seen += len(deeper)
        if not deeper or seen > _MAX_VALUES:
            return not deeper
        level = deeper
    return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:100]}..."


def check_finite(state: dict[str, torch.Tensor], source: str) -> None:
    """Raise `WeightsError`, naming a tensor, if one has a number that is infinite or NaN."""
    for key, value in state.items():
        # The sum is quicker than checking each number, and is not finite if one of them is not.
        if value.is_floating_point() and not (value.float().sum().isfinite() or value.float().isfinite().all()):
            raise WeightsError(
                f"{source} is damaged: {key} has values that are not finite, so every embedding would be useless. "
                "Fetch it again, or take an earlier checkpoint of the training."
            )


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
    if checkpoint.backbone_config is not None:
        fields["backbone_config"] = checkpoint.backbone_config
    if checkpoint.network is not None:
        fields["network"] = checkpoint.network
    if checkpoint.detector is not None:
        fields["detector"] = checkpoint.detector
    if checkpoint.adaptation is not None:
        fields["adaptation"] = json.dumps(checkpoint.adaptation, sort_keys=True, allow_nan=False)
    examples = checkpoint.examples
    with replacing(path) as draft:
        if path.suffix == ".pt":
            if examples is not None:
                fields["examples"] = examples.detach().cpu().contiguous()
            with draft.open("wb") as file:  # of a path, torch would write its name into the file
                torch.save({"state": state, **fields}, file)
        else:
            if examples is not None:
                fields["examples"] = base64.b64encode(examples.cpu().contiguous().numpy().data).decode("ascii")
            texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in fields.items()}
            write_safetensors(draft, state, texts)
    return path


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a .safetensors file: of the same content always the same bytes.

    The library writes the metadata in an order of chance; here it is put in order, in place. It also lets nobody but
    the user read the file, which here gets the permissions of any new file.
    """
    path.touch()
    mode = path.stat().st_mode
    safetensors.torch.save_file(tensors, path, metadata=metadata or None)
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        if metadata:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= length, "the same JSON, in another order"
        file.seek(8)
        file.write(text.ljust(length))
    path.chmod(mode)


def _config_with_head(
    config: dict[str, Any] | None, network: str | None, state: Mapping[str, torch.Tensor]
) -> dict[str, Any] | None:
    """The configuration, saying of the linear classifier that is there whether it has a bias.

    A classifier that was put in the place of another may differ in that from the one that the configuration is of.
    """
    if network is None or "classifier.weight" not in state:
        return config
    has_bias = "classifier.bias" in state
    if (network_spec(network).config | (config or {})).get("head_bias", True) == has_bias:
        return config
    return {**(config or {}), "head_bias": has_bias}


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
        The network; by what name it was created is written too, and no other network reads the file.
    path
        Ends in .pt or .safetensors.
    signature, rgb_stats, class_to_idx, config, task
        As in `Checkpoint`; those of the `ModelInfo` that the network was loaded with fit.
    """
    state = dict(net.state_dict())
    network = getattr(net, "network", None)
    config = _config_with_head(config, network, state)
    checkpoint = Checkpoint(state, signature, class_to_idx or {}, rgb_stats, config, task, network=network)
    return write_checkpoint(path, checkpoint)
