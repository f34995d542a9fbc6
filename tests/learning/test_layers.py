"""Which layers learn, and how fast: one mechanism for transformers and convolutional networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import birder
from birder.errors import ConfigError
from birder.learning.layers import (
    depthwise_in_single_precision,
    layer_groups,
    parameter_groups,
    train_mode,
    unfreeze_last,
)
from birder.net.base import Backbone
from tests.learning.tiny import CONFIG

NETWORKS = {"vit_b16": (CONFIG, 2), "vit_b16_pn": (CONFIG, 2), "efficientnet_lite0": (None, 16)}


def network(name: str) -> Backbone:
    torch.manual_seed(0)
    return birder.create_network(name, 3, size=(64, 64), config=NETWORKS[name][0])


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_hold_every_parameter_once_from_input_to_output(name: str) -> None:
    net = network(name)
    groups = layer_groups(net)
    assert len(groups) == NETWORKS[name][1] + 3
    assert sorted(each for group in groups for each in group) == sorted(each for each, _ in net.named_parameters())
    assert groups[-1] == ["classifier.weight", "classifier.bias"]
    assert all(each.startswith(("norm.", "features.")) for each in groups[-2])
    first = ("stem.", "conv_proj.", "class_token", "pos_embedding", "encoder.pre_block")
    assert all(each.startswith(first) for each in groups[0])

    rates = {}
    for group in parameter_groups(net, 0.1, 0.5):
        for parameter in group["params"]:
            rates[parameter] = group["peak"]
            assert (group["weight_decay"] > 0) == (parameter.ndim > 1)
    for depth, names in enumerate(reversed(groups)):
        assert {rates[net.get_parameter(each)] for each in names} == {0.1 * 0.5**depth}


@pytest.mark.parametrize("name", NETWORKS)
def test_only_the_last_blocks_learn_and_frozen_statistics_stay(name: str) -> None:
    net = network(name)
    before = {each: value.clone() for each, value in net.state_dict().items()}
    unfreeze_last(net, 1)
    train_mode(net)
    optimizer = torch.optim.AdamW(parameter_groups(net, 0.1, 0.9))
    net(torch.randn(4, 3, 64, 64)).logsumexp(1).mean().backward()
    optimizer.step()
    changed = {each for each, value in net.state_dict().items() if not torch.equal(value, before[each])}
    learning = {each for group in layer_groups(net)[-3:] for each in group}
    assert changed & dict(net.named_parameters()).keys() == learning
    modules = {each.rpartition(".")[0] for each in learning}
    assert {each.rpartition(".")[0] for each in changed} == modules


def test_more_blocks_than_there_are_cannot_learn() -> None:
    with pytest.raises(ConfigError, match="from 0 to 2 can learn"):
        unfreeze_last(network("vit_b16"), 3)


def test_depthwise_convolutions_are_computed_in_single_precision() -> None:
    net = network("efficientnet_lite0").eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain = net(x)
    depthwise_in_single_precision(net)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        single = net(x)
        exact = torch.autocast("cpu", enabled=False)
        with exact:
            wanted = net(x)
    assert single.dtype == torch.bfloat16
    errors = [np.abs((each.float() - wanted).numpy()).mean() for each in (single, plain)]
    assert 0 < errors[0] <= 1.2 * errors[1]
