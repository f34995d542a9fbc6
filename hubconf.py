"""What `torch.hub.load(FOLDER, NAME)` finds here: the registered weights, each by its name with "_" for "-" and "."."""

from __future__ import annotations

import functools
import re

import torch

import birder
import birder.registry

dependencies = ["torch", "huggingface_hub", "numpy", "PIL", "safetensors"]


def _load(
    weights: str,
    pretrained: bool = True,
    input_channels: int = 3,
    num_classes: int = 0,
    size: tuple[int, int] | None = None,
) -> torch.nn.Module:
    """Load a network with its pretrained weights; without `pretrained`, build it as the other arguments say."""
    if pretrained:
        return birder.load_pretrained_model(weights, new_size=size)[0]
    return birder.create_network(
        birder.registry.weights_spec(weights).network, num_classes, input_channels=input_channels, size=size
    )


def _entry(weights: str) -> functools.partial[torch.nn.Module]:
    entry = functools.partial(_load, weights)
    entry.__doc__ = f"{birder.registry.weights_spec(weights).description}\n\n{_load.__doc__}"  # torch.hub.help shows it
    return entry


globals().update({re.sub(r"\W", "_", name): _entry(name) for name in birder.list_pretrained_models()})
