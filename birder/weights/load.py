"""From a name or a file to a network that is ready to use."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from birder.errors import BirderError, ConfigError, WeightsError, unknown_name
from birder.images.transform import ClassificationTransform, classification_transform
from birder.net.base import Backbone
from birder.registry import (
    DETECTION_TASK,
    TASK,
    WeightsSpec,
    create_network,
    network_spec,
    weights_spec,
)
from birder.weights.checkpoint import (
    Checkpoint,
    RgbStats,
    Signature,
    check_finite,
    get_channels_from_signature,
    get_num_labels_from_signature,
    get_size_from_signature,
    make_signature,
    read_checkpoint,
    read_pickle,
    wrong_signature,
)
from birder.weights.hub import fetch
from birder.weights.openclip import read_openclip
from birder.weights.openclip_convert import to_birder

FILE_FORMATS = ("pt", "safetensors")


class ModelInfo(NamedTuple):
    """What comes with a network: class name -> index, input and output shapes, rgb statistics, stored configuration."""

    class_to_idx: dict[str, int]
    signature: Signature
    rgb_stats: RgbStats
    custom_config: dict[str, Any] | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A network for inference, with what a collection needs to know of it.

    `sha256` is that of the checkpoint file; two models are the same if their sha256 is.
    """

    name: str
    network: str
    sha256: str
    net: Backbone
    info: ModelInfo

    def transform(self) -> ClassificationTransform:
        """The inference transform of the model."""
        return classification_transform(get_size_from_signature(self.info.signature), self.info.rgb_stats)


def load_pretrained_model(
    weights: str,
    *,
    dst: str | Path | None = None,
    file_format: str | None = None,
    inference: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    new_size: tuple[int, int] | None = None,
    custom_config: dict[str, Any] | None = None,
    progress_bar: bool = True,
) -> tuple[Backbone, ModelInfo]:
    """Load pretrained weights by name, fetching their file first if it is not on this machine.

    Parameters
    ----------
    weights
        A name of `list_pretrained_models()`, e.g. "vit_b16_pn_bioclip-v1".
    dst
        Where to put the file; default: the hub's cache. A file already there is used if its sha256 is right.
    file_format
        "pt" or "safetensors": refuse a file of the other kind. Default: whichever there is.
    inference
        Evaluation mode and no gradients.
    device, dtype
        Of the parameters; default: CPU and float32.
    new_size
        Adjust the network to another input (height, width) in pixels.
    custom_config
        Overrides of the stored configuration, e.g. {"out_indices": [2, 5, 8, 11]}.
    progress_bar
        Show the progress of a download.

    Returns
    -------
    The network and its `ModelInfo`.

    Raises
    ------
    UnknownNameError
        No such weights; the message names the closest ones.
    HubError
        The hub is out of reach; the message says how to place the file by hand.
    WeightsError
        Wrong checksum, damaged file, or a state that does not fit the network.
    """
    spec = weights_spec(weights)
    if file_format not in (None, *FILE_FORMATS):
        raise unknown_name("file format", file_format, FILE_FORMATS)
    available = Path(spec.file or str(spec.path)).suffix.lstrip(".")
    if spec.module is None and file_format not in (None, available):
        raise WeightsError(f"{weights} is published as .{available} only: leave out file_format.")
    path = fetch(spec, dst=dst, progress_bar=progress_bar)
    config = spec.config | (custom_config or {})
    return _build(spec.network, _read_spec(spec, path), path, config, inference, device, dtype, new_size)


def load_pretrained_model_and_transform(
    weights: str,
    *,
    dst: str | Path | None = None,
    file_format: str | None = None,
    inference: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    custom_config: dict[str, Any] | None = None,
    progress_bar: bool = True,
    classification_kwargs: dict[str, Any] | None = None,
) -> tuple[Backbone, ModelInfo, ClassificationTransform]:
    """`load_pretrained_model`, and the inference transform that belongs to it.

    `classification_kwargs` go to `classification_transform`; the rest is as in `load_pretrained_model`, but for
    `inference`, which is on.
    """
    net, info = load_pretrained_model(
        weights,
        dst=dst,
        file_format=file_format,
        inference=inference,
        device=device,
        dtype=dtype,
        custom_config=custom_config,
        progress_bar=progress_bar,
    )
    size = get_size_from_signature(info.signature)
    return net, info, classification_transform(size, info.rgb_stats, **(classification_kwargs or {}))


def load_model(
    network: str,
    path: str | Path,
    *,
    config: dict[str, Any] | None = None,
    inference: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    new_size: tuple[int, int] | None = None,
) -> tuple[Backbone, ModelInfo]:
    """Load a checkpoint file of the Birder format (.pt or .safetensors) into a registered network.

    Parameters
    ----------
    network
        A registered network, e.g. "vit_b16_pn".
    path
        The checkpoint.
    config
        Overrides of the configuration stored in it.
    inference, device, dtype, new_size
        As in `load_pretrained_model`.

    Notes
    -----
    Of a detector's checkpoint the backbone is loaded: its `detection_features` are the maps that the detector was
    trained on. It has no classifier, and what its embedding would need was not trained.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    if checkpoint.task == DETECTION_TASK:
        return _build_backbone(network, checkpoint, path, config or {}, inference, device, dtype, new_size)
    return _build(network, checkpoint, path, config or {}, inference, device, dtype, new_size)


def load_model_with_cfg(
    cfg: dict[str, Any] | str | Path, weights_path: str | Path | None
) -> tuple[Backbone, dict[str, Any]]:
    """Build a network from a configuration, a dictionary or a JSON file, and load weights into it if a path is given.

    The configuration has `name` (or `registered_name`, which goes first), `signature`, `task` and optionally
    `model_config`, as the published package exports it.

    Returns
    -------
    The network and the configuration.
    """
    if not isinstance(cfg, dict):
        try:
            cfg = json.loads(Path(cfg).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"Cannot read the configuration {cfg}: {error}") from error
    name = (cfg.get("registered_name") or cfg.get("name")) if isinstance(cfg, dict) else None
    if not isinstance(cfg, dict) or not name or "signature" not in cfg:
        raise ConfigError("A configuration needs name (or registered_name) and signature.")
    if wrong := wrong_signature(cfg["signature"]):
        raise ConfigError(f"The configuration of {name} cannot be used: {wrong}.")
    if cfg.get("task", TASK) != TASK:
        raise ConfigError(f"Birder builds networks for {TASK}, not for {cfg['task']}.")
    signature = cfg["signature"]
    net = create_network(
        name,
        get_num_labels_from_signature(signature),
        input_channels=get_channels_from_signature(signature),
        size=get_size_from_signature(signature),
        config=cfg.get("model_config"),
    )
    if weights_path is not None:
        checkpoint = read_checkpoint(weights_path)
        check_network(checkpoint, name, str(weights_path))
        load_state(net, checkpoint.state, str(weights_path))
    return net, cfg


def check_network(checkpoint: Checkpoint, network: str, source: str) -> None:
    """Refuse (`WeightsError`) a checkpoint of another network, whose parameters may fit though its arithmetic does not.

    A checkpoint that Birder wrote names its network. One of the published package does not, so it cannot be of a
    network that the published package lacks.
    """
    if checkpoint.network is None:
        if (counterpart := network_spec(network).published_as) is not None:
            raise WeightsError(
                f"{source} does not name its network, as files of the published birder package do not, and that "
                f"package has no {network}: load it as {counterpart}, which computes differently."
            )
    elif checkpoint.network != network:
        raise WeightsError(
            f"{source} holds weights of {checkpoint.network}, not of {network}: load it as {checkpoint.network} (on "
            f"the command line, begin the file's name with it)."
        )


def read_weights(path: Path, *, spec: WeightsSpec | None, openclip: str | None) -> Checkpoint:
    """The checkpoint of an image encoder, its parameters by the Birder format's names; arguments: `load_weights`."""
    if openclip is not None:
        return to_birder(read_openclip(openclip))[1]
    return read_checkpoint(path) if spec is None else _read_spec(spec, path)


def load_weights(
    name: str,
    network: str,
    path: Path,
    sha256: str,
    *,
    spec: WeightsSpec | None,
    openclip: str | None,
    config: dict[str, Any],
    device: torch.device | str | None = None,
) -> LoadedModel:
    """Load the image encoder of a resolved model for inference: see `birder.weights.resolve.Weights`.

    Parameters
    ----------
    name, network, path, sha256, config
        As in `birder.weights.resolve.Model` and `Weights`.
    spec
        Of registered weights.
    openclip
        The source of weights in OpenCLIP's layout.
    device
        Where to run; default: the CPU.
    """
    checkpoint = read_weights(path, spec=spec, openclip=openclip)
    if openclip is not None:
        config = {}  # the checkpoint has what OpenCLIP's configuration says
    net, info = _build(network, checkpoint, path, config, True, device, None, None)
    return LoadedModel(name, network, sha256, net, info)


def check_fits(net: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Raise `WeightsError` for parameters that are missing, unknown or of another shape, naming them."""
    own = net.state_dict()
    problems = [f"missing {key} {tuple(own[key].shape)}" for key in own if key not in state]
    problems += [f"unknown {key} {tuple(state[key].shape)}" for key in state if key not in own]
    problems += [
        f"{key} is {tuple(state[key].shape)}, the network's {tuple(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if problems:
        more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise WeightsError(
            f"{source} does not fit the network: {'; '.join(problems[:6])}{more}. "
            "Name the network that it was made with, and its configuration."
        )


def load_state(net: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load parameters; `WeightsError` as `check_fits`, or for numbers that are not finite."""
    check_fits(net, state, source)
    check_finite(state, source)
    try:
        net.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise WeightsError(f"{source} cannot be loaded: {' '.join(str(error).split())[:400]}") from error


def _read_spec(spec: WeightsSpec, path: Path) -> Checkpoint:
    """The checkpoint of registered weights; parameters of a file in another format get the Birder format's names."""
    if spec.state_names is None:
        return read_checkpoint(path)
    module, _, function = str(spec.state_names).partition(":")
    state = getattr(importlib.import_module(module), function)(read_pickle(path))
    class_to_idx = class_names(str(spec.classes))
    return Checkpoint(
        state=state,
        signature=make_signature(spec.resolution or (224, 224), len(class_to_idx)),
        class_to_idx=class_to_idx,
        rgb_stats={"mean": spec.rgb_mean, "std": spec.rgb_std},
        network=spec.network,
    )


def class_names(file: str) -> dict[str, int]:
    """Class name -> index, of a file of Birder's with lines "SYNSET NAMES".

    A name that two classes share (crane) gets its synset behind it.
    """
    lines = resources.files("birder.data").joinpath(file).read_text("utf-8").splitlines()
    pairs = [tuple(line.split(" ", 1)) for line in lines]
    shared = Counter(name for _, name in pairs)
    return {name if shared[name] == 1 else f"{name} ({synset})": i for i, (synset, name) in enumerate(pairs)}


class _Untrained(nn.Module):
    """Stands in for what a detector does not train, and raises an error if it is used."""

    def forward(self, *_: object) -> torch.Tensor:
        raise ConfigError(
            "This network is the backbone of a detector, whose embedding was never trained: use its "
            "detection_features, or load a checkpoint of a classifier."
        )


def _build_backbone(
    network: str,
    checkpoint: Checkpoint,
    path: Path,
    config: dict[str, Any],
    inference: bool,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    new_size: tuple[int, int] | None,
) -> tuple[Backbone, ModelInfo]:
    """The backbone of a detector, with the maps that the detector was trained on."""
    own = checkpoint.backbone_config or {}
    defaults = network_spec(network).network_class().detector_config
    own |= {key: value for key, value in defaults.items() if own.get(key) is None}
    prefix = "backbone."
    part = replace(
        checkpoint,
        state={key.removeprefix(prefix): value for key, value in checkpoint.state.items() if key.startswith(prefix)},
        config=own,
        class_to_idx={},  # the detector's classes, not the network's
        task=TASK,
    )
    return _build(network, part, path, config, inference, device, dtype, new_size, stripped=True)


def _build(
    network: str,
    checkpoint: Checkpoint,
    path: Path,
    config: dict[str, Any],
    inference: bool,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    new_size: tuple[int, int] | None,
    *,
    stripped: bool = False,
) -> tuple[Backbone, ModelInfo]:
    if checkpoint.task != TASK:
        what = "a detector" if checkpoint.task == DETECTION_TASK else f"for {checkpoint.task}"
        raise WeightsError(
            f"{path} is {what}, not for {TASK}: it gives no embedding. (The backbone of a detector loads with "
            "birder.load_model, for its detection_features.)"
        )
    check_network(checkpoint, network, str(path))
    merged = (checkpoint.config or {}) | config
    try:
        with torch.device("meta"):  # no time goes into random weights that are replaced at once
            net = create_network(
                network,
                0 if stripped else get_num_labels_from_signature(checkpoint.signature),
                input_channels=get_channels_from_signature(checkpoint.signature),
                size=get_size_from_signature(checkpoint.signature),
                config=merged,
            )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        if isinstance(error, BirderError):
            raise
        raise ConfigError(f"{path}: no {network} can be built from its configuration ({error}).") from error
    if stripped:
        net.strip_for_detection_features()
        for name, module in list(net.named_children()):
            if isinstance(module, nn.Identity):
                setattr(net, name, _Untrained())
    check_fits(net, checkpoint.state, str(path))  # before the network takes memory
    net.to_empty(device="cpu")
    load_state(net, checkpoint.state, str(path))
    if new_size is not None:
        net.adjust_size(new_size)
    net.to(device=device, dtype=dtype)
    if inference:
        net.eval()
        net.requires_grad_(False)
    info = ModelInfo(checkpoint.class_to_idx, checkpoint.signature, checkpoint.rgb_stats, merged or None)
    return net, info
