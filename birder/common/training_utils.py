"""The published package's way to freeze the first blocks of a network, for code that imports it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from birder.errors import ConfigError


def group_by_regex(strings: Iterable[str], pattern: str) -> list[list[str]]:
    """Names in their order, in groups: those before the first block, each block, and those behind the last.

    Parameters
    ----------
    strings
        Names of parameters, such as a network's `named_parameters()` gives.
    pattern
        What of a name says its block: the `block_group_regex` of the network.
    """
    groups: list[list[str]] = []
    last: str | None = None
    for i, name in enumerate(strings):
        found = re.search(pattern, name)
        block = found[0] if found else None
        if i == 0 or block != last:
            groups.append([])
        groups[-1].append(name)
        last = block
    return groups


def freeze_layers_by_block_group_regex(model: nn.Module, num_layers: int) -> int:
    """Turn gradients off in all that stands before a network's first block, and in its first blocks.

    Returns
    -------
    How many blocks were frozen: `num_layers`, or all there are.

    Raises
    ------
    ConfigError
        The network does not say by its `block_group_regex` which parameters are of which block.
    """
    pattern = getattr(model, "block_group_regex", None)
    if not isinstance(pattern, str):
        raise ConfigError(f"{type(model).__name__} has no block_group_regex, which defines its blocks.")
    parameters = dict(model.named_parameters())
    frozen = 0
    for group in group_by_regex(parameters, pattern):
        if re.search(pattern, group[0]):
            if frozen == num_layers:
                break
            frozen += 1
        for name in group:
            parameters[name].requires_grad_(False)
    return frozen
