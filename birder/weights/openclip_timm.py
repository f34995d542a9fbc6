"""Image encoders that OpenCLIP takes from timm: which of them Birder computes, and their tensors' names, both ways.

OpenCLIP writes such an encoder as a trunk, `visual.trunk.*`, by timm's names, and a projection,
`visual.head.proj.weight` (`open_clip/timm_model.py`). The trunk ends in average pooling, and the projection is Birder's
bias-free classifier.
"""

from __future__ import annotations

import torch

from birder.errors import WeightsError
from birder.net.efficientnet_lite import timm_modules
from birder.weights.openclip_files import Config

State = dict[str, torch.Tensor]

TRUNKS = ("efficientnet_lite0", "tf_efficientnet_lite0")
"""The networks that have the same name, parameters and arithmetic in timm as in Birder."""
_TRUNK, _PROJECTION = "visual.trunk.", "visual.head.proj.weight"
_DEFAULTS: Config = {"timm_pool": "avg", "timm_proj": "linear", "timm_proj_bias": False}


def trunk_of(model: Config) -> str | None:
    """The trunk of OpenCLIP's `model_cfg`, as timm names it; None if the image encoder is one of OpenCLIP's own."""
    return model["vision_cfg"].get("timm_model_name") or None


def check_trunk(model: Config, who: str) -> None:
    """Raise `WeightsError`, naming what differs, unless Birder computes what this image encoder does."""
    trunk, vision = trunk_of(model), model["vision_cfg"]
    if trunk not in TRUNKS:
        raise WeightsError(f"{who} has a timm trunk, {trunk}. Of timm's, Birder supports {' and '.join(TRUNKS)}.")
    for key, default in _DEFAULTS.items():
        if vision.get(key, default) != default:
            raise WeightsError(f"{who} has vision_cfg.{key} = {vision[key]!r}: Birder supports {default!r}.")


def trunk_size(model: Config) -> tuple[int, int]:
    """The input (height, width) of `model_cfg`."""
    size = model["vision_cfg"].get("image_size", 224)
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def vision_config(network: str, size: tuple[int, int]) -> Config:
    """The `vision_cfg` of an image encoder on one of `TRUNKS`."""
    return {"timm_model_name": network, "image_size": size[0] if size[0] == size[1] else list(size)} | _DEFAULTS


def trunk_to_birder(state: State, who: str) -> State:
    """The tensors `visual.*` by Birder's names."""
    ours = {theirs: name for name, theirs in timm_modules().items()}
    renamed: State = {}
    for key, value in state.items():
        if not key.startswith("visual."):
            continue
        module, _, leaf = key.removeprefix(_TRUNK).rpartition(".")
        if key == _PROJECTION:
            renamed["classifier.weight"] = value
        elif key.startswith(_TRUNK) and module in ours:
            renamed[f"{ours[module]}.{leaf}"] = value
        else:
            raise WeightsError(f"{who} has {key}, which does not belong to its trunk and its projection.")
    if "classifier.weight" not in renamed:
        raise WeightsError(f"{who} lacks {_PROJECTION}.")
    return renamed


def trunk_to_openclip(state: State) -> State:
    """The tensors of a Birder checkpoint by OpenCLIP's names."""
    theirs = timm_modules()
    renamed: State = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        renamed[_PROJECTION if module == "classifier" else f"{_TRUNK}{theirs[module]}.{leaf}"] = value
    return renamed
