"""FCOS: which point is responsible for which box, what is suppressed, and what its losses say, against plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.errors import ConfigError, UnknownNameError
from birder.net.boxes import giou_loss, pairwise_iou, suppress
from birder.net.fcos import FCOS, Points, RawDetections, assign, centreness_of, decode
from birder.registry import create_network

SMALL_VIT: dict[str, Any] = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64, "out_indices": [-1]}
SIZE = (64, 96)


def small(num_classes: int = 2, network: str = "efficientnet_lite0", **config: Any) -> FCOS:
    torch.manual_seed(0)
    backbone = create_network(network, 0, size=SIZE, config=SMALL_VIT if network.startswith("vit") else None)
    # As initialised, a network of many convolutions gives next to nothing.
    for module in backbone.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return FCOS(num_classes, backbone, config={"fpn_width": 64, **config}, size=SIZE).eval()


@st.composite
def boxes_of_an_image(draw: st.DrawFn, at_least: int = 0) -> torch.Tensor:
    corners = st.integers(0, 94)
    found = []
    for _ in range(draw(st.integers(at_least, 6))):
        x, y = draw(corners), draw(st.integers(0, 62))
        found.append([x, y, draw(st.integers(x + 1, 96)), draw(st.integers(y + 1, 64))])
    return torch.tensor(found, dtype=torch.float32).reshape(-1, 4)


def points() -> Points:
    return small()._points([torch.zeros(1, 1, math.ceil(64 / s), math.ceil(96 / s)) for s in (8, 16, 32, 64, 128)])


POINTS = points()


@settings(deadline=None, max_examples=60)
@given(boxes_of_an_image())
def test_each_point_gets_the_smallest_box_that_it_may_have(boxes: torch.Tensor) -> None:
    found = assign(POINTS, boxes)
    levels = np.repeat(np.arange(5), POINTS.per_level)
    for i, (x, y) in enumerate(POINTS.xy.tolist()):
        stride = 8 * 2 ** levels[i]
        least = 0 if levels[i] == 0 else 4 * stride
        most = math.inf if levels[i] == 4 else 8 * stride
        fitting = []
        for n, (left, top, right, bottom) in enumerate(boxes.tolist()):
            sides = (x - left, y - top, right - x, bottom - y)
            near = max(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2)) < 1.5 * stride
            if near and min(sides) > 0 and least < max(sides) < most:
                fitting.append(((right - left) * (bottom - top), n))
        assert found[i] == (min(fitting)[1] if fitting else -1)


@settings(deadline=None, max_examples=60)
@given(boxes_of_an_image(at_least=1), st.data())
def test_suppression_keeps_what_no_better_box_of_its_class_covers(boxes: torch.Tensor, data: st.DataObject) -> None:
    classes = torch.tensor(data.draw(st.lists(st.integers(1, 2), min_size=len(boxes), max_size=len(boxes))))
    scores = torch.tensor(data.draw(st.permutations(range(len(boxes)))), dtype=torch.float32)
    shares = pairwise_iou(boxes, boxes)
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -float(scores[i])):
        if not any(shares[i, j] > 0.5 and classes[i] == classes[j] for j in kept):
            kept.append(i)
    assert suppress(boxes, scores, classes, 0.5).tolist() == kept


def test_boxes_are_decoded_from_what_training_asks_for() -> None:
    boxes = torch.tensor([[10.0, 12.0, 60.0, 40.0]])
    which = assign(POINTS, boxes)
    inside = which >= 0
    assert inside.any()
    sides = torch.zeros(len(which), 4)
    away = torch.cat([POINTS.xy - boxes[0, :2], boxes[0, 2:] - POINTS.xy], dim=1)
    sides[inside] = (away / POINTS.stride[:, None])[inside]
    assert torch.allclose(decode(sides, POINTS)[inside], boxes.expand(int(inside.sum()), -1), atol=1e-4)
    middle = torch.tensor([[35.0, 26.0]])
    assert centreness_of(middle, boxes) == pytest.approx(1.0)
    assert giou_loss(boxes, boxes) == pytest.approx(0.0, abs=1e-6)
    apart = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]])
    assert giou_loss(*apart) == pytest.approx(1 + 2 / 4)  # nothing shared, and half of the hull is empty


@pytest.mark.slow
def test_a_detector_learns_boxes_by_heart() -> None:
    net = small(network="vit_b16", pyramid="simple")
    net.backbone.requires_grad_(False)
    x = torch.randn(3, 3, *SIZE)
    targets = [
        {"boxes": torch.tensor([[8.0, 6.0, 52.0, 50.0]]), "labels": torch.tensor([2])},
        {"boxes": torch.tensor([[50.0, 20.0, 90.0, 60.0]]), "labels": torch.tensor([1])},
        {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)},
    ]
    maps = net.maps(x)
    optimizer = torch.optim.Adam([each for each in net.parameters() if each.requires_grad], lr=3e-3)
    for _ in range(25):
        loss = sum(net.losses(*net.outputs(maps), targets).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        found, _ = net(x)
    for each, target in zip(found[:2], targets, strict=False):
        assert each["labels"][0] == target["labels"][0]
        assert pairwise_iou(each["boxes"][:1], target["boxes"])[0, 0] > 0.5


@pytest.mark.parametrize(("network", "pyramid"), [("efficientnet_lite0", "fpn"), ("vit_b16", "simple")])
def test_the_graph_gives_the_boxes_before_suppression(network: str, pyramid: str) -> None:
    net = small(network=network, pyramid=pyramid)
    with torch.no_grad():  # as initialised, it is sure of nothing
        for parameter in net.head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        net.head.classification_head.cls_logits.bias.fill_(0.0)  # type: ignore[union-attr]
        x = torch.rand(2, 3, *SIZE)
        stats = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]}
        raw = RawDetections(net, stats)(x)
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in stats.values())
        found, _ = net((x - mean) / std)
    assert sum(len(each["boxes"]) for each in found) > 20
    for rows, each in zip(raw, found, strict=True):
        centre, half, scores = rows[:2].T, rows[2:4].T / 2, rows[4:].T
        for box, score, label in zip(each["boxes"], each["scores"], each["labels"], strict=True):
            same = (torch.cat([centre - half, centre + half], 1) - box).abs().amax(1) < 1e-3
            assert (scores[same, label - 1] - score).abs().min() < 1e-5


def test_an_image_without_boxes_gives_losses_that_are_finite() -> None:
    net = small().train()
    empty = {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)}
    _, losses = net(torch.randn(2, 3, *SIZE), [empty, empty])
    assert {name: bool(loss.isfinite()) for name, loss in losses.items()} == dict.fromkeys(losses, True)
    assert losses["bbox_regression"] == 0
    sum(losses.values()).backward()
    assert all(each.grad is None or each.grad.isfinite().all() for each in net.parameters())
    with pytest.raises(ConfigError, match="call eval"):
        net(torch.randn(1, 3, *SIZE))


def test_a_configuration_that_it_does_not_have_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="fpn_widht"):
        small(fpn_widht=32)
    with pytest.raises(ConfigError, match="soft_nms"):
        small(soft_nms=True)
    for wrong in ({"fpn_width": 80}, {"fpn_width": 32}, {"pyramid": "tall"}):
        with pytest.raises(ConfigError):
            small(**wrong)
    with pytest.raises(ConfigError, match="one class"):
        small(0)
