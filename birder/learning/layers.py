"""The layers of a network in order from input to output: which of them learn, and how fast.

One mechanism for every family: `Backbone.block_group_regex` tells the blocks by the names of their parameters.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from birder.errors import ConfigError
from birder.net.base import Backbone

WEIGHT_DECAY = 0.05
"""Of matrices and kernels; biases and norms are not decayed."""
LEARNING = 0.8
"""The share of the blocks that learn unless another number is asked for: the first ones tell edges and colours in
whatever they see, and on large maps take half of the time."""


def layer_groups(net: Backbone) -> list[list[str]]:
    """The names of a network's parameters, group by group: before the blocks, each block, behind them, the classifier.

    Of N blocks, N + 3 groups; the first may be empty.
    """
    pattern = re.compile(net.block_group_regex)
    before: list[str] = []
    behind: list[str] = []
    classifier: list[str] = []
    blocks: dict[tuple[str, ...], list[str]] = {}
    for name, _ in net.named_parameters():
        if name.startswith("classifier."):
            classifier.append(name)
        elif found := pattern.search(name):
            blocks.setdefault(found.groups(), []).append(name)
        else:
            (behind if blocks else before).append(name)
    return [before, *blocks.values(), behind, classifier]


def unfreeze_last(net: Backbone, blocks: int | Literal["all"] | None) -> None:
    """Let the classifier, what is between it and the blocks, and the last so many blocks learn.

    Parameters
    ----------
    net
        The network.
    blocks
        How many; "all": these and everything before them; None: four fifths of them.

    Raises
    ------
    ConfigError
        The network has fewer blocks.
    """
    groups = layer_groups(net)
    there = len(groups) - 3
    count = there if blocks == "all" else round(LEARNING * there) if blocks is None else blocks
    if not 0 <= count <= there:
        raise ConfigError(f"The network has {there} blocks, so from 0 to {there} can learn, or all; not {count}.")
    learning = groups if blocks == "all" else groups[len(groups) - 2 - count :]
    names = {name for group in learning for name in group}
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name in names)


def parameter_groups(net: Backbone, lr: float, decay: float) -> list[dict[str, Any]]:
    """The parameters that learn, as an optimizer takes them: "lr" falls by the factor `decay` with each layer.

    Layer-wise learning rate decay: the classifier learns with `lr`, the group before it with `lr * decay`, and so on
    to the input (Clark et al., arXiv 2003.10555, appendix A). "peak" is the same number, from which a schedule
    computes "lr".
    """
    parameters = dict(net.named_parameters())
    found: list[dict[str, Any]] = []
    for depth, names in enumerate(reversed(layer_groups(net))):
        learning = [parameters[name] for name in names if parameters[name].requires_grad]
        for decayed in (True, False):
            chosen = [each for each in learning if (each.ndim > 1) == decayed]
            if chosen:
                rate = lr * decay**depth
                weight_decay = WEIGHT_DECAY if decayed else 0.0
                found.append({"params": chosen, "lr": rate, "peak": rate, "weight_decay": weight_decay})
    return found


def train_mode(net: nn.Module) -> None:
    """Put a network into training mode, but batch norms that are frozen: these keep their statistics."""
    net.train()
    for module in net.modules():
        if isinstance(module, _BatchNorm) and not any(each.requires_grad for each in module.parameters()):
            module.eval()


def depthwise_in_single_precision(net: nn.Module) -> None:
    """Compute depthwise convolutions in float32 under autocast: on a CPU, their backward pass in bf16 is far slower."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = functools.partial(_in_single_precision, module.forward)  # type: ignore[method-assign]


def _in_single_precision(forward: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.float()).to(x.dtype)
