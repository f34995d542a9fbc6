"""What every network offers beside its numbers, under the published package's names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import birder
from birder.errors import ConfigError
from birder.net.base import (
    Backbone,
    BaseNet,
    DetectorBackbone,
    get_signature,
    make_divisible,
    staged_stochastic_depth_rates,
    stochastic_depth_rates,
)
from birder.net.efficientnet_lite import EfficientNetLite
from birder.net.vit import ViT

TINY = {"patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}


def tiny(num_classes: int = 3, **config: Any) -> ViT:
    torch.manual_seed(0)
    return ViT(3, num_classes, config=TINY | config, size=(32, 32)).eval()


def lite(num_classes: int = 3) -> EfficientNetLite:
    torch.manual_seed(0)
    return EfficientNetLite(3, num_classes, size=(64, 64)).eval()


def trainable(net: nn.Module) -> set[str]:
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}


def test_channels_stand_before_classes() -> None:
    for net in (ViT(1, 5, config=TINY, size=(32, 32)), EfficientNetLite(1, 5, size=(64, 64))):
        assert (net.input_channels, net.num_classes, net.task) == (1, 5, "image_classification")
        assert net(torch.randn(2, 1, *net.size)).shape == (2, 5)


def test_a_network_says_what_it_was_built_from() -> None:
    net = birder.create_network("vit_s32", 3, config={"num_layers": 1})
    assert net.network == "vit_s32"
    assert net.config["patch_size"] == 32 and net.config["num_layers"] == 1
    net.config["num_layers"] = 7
    assert birder.create_network("vit_s32", 3, config={"num_layers": 2}).config["num_layers"] == 2


@pytest.mark.parametrize(
    ("net", "width", "stride", "stem", "special"),
    [(tiny(), 16, 8, (8, 16), 1), (lite(), 320, 32, (2, 32), 0)],
    ids=["vit", "lite"],
)
@torch.inference_mode()
def test_features(net: Backbone, width: int, stride: int, stem: tuple[int, int], special: int) -> None:
    assert isinstance(net, DetectorBackbone)
    assert (net.feature_dim, net.max_stride, net.num_special_tokens) == (width, stride, special)
    assert (net.stem_stride, net.stem_width) == stem
    x = torch.randn(2, 3, *net.size)
    features = net.forward_features(x)
    places = (net.size[0] // stride) * (net.size[1] // stride)
    assert net.flatten_features(features).shape == (2, places + special, width)
    flat = net.flatten_features(features, include_special_tokens=False)
    assert flat.shape == (2, places, width)
    torch.testing.assert_close(net.embedding_from_features(features), net.embedding(x))
    if special == 0:  # row by row, as a ViT's tokens are
        torch.testing.assert_close(flat[:, 1], features[:, :, 0, 1])
    with pytest.raises(RuntimeError, match="neither maps nor tokens"):
        net.flatten_features(torch.zeros(2, width))


@torch.inference_mode()
def test_other_sizes_are_taken_as_they_come_once_size_is_dynamic() -> None:
    net = tiny(out_indices=[0, 2])
    x = torch.randn(1, 3, 40, 24)
    with pytest.raises(ConfigError, match="adjust_size"):
        net(x)
    net.set_dynamic_size()
    assert net.detection_features(x)["stage2"].shape == (1, 16, 5, 3)
    assert net.size == (32, 32)
    positions = net.pos_embedding[:, 1:].transpose(1, 2).reshape(1, 16, 4, 4)
    grid = torch.nn.functional.interpolate(positions, size=(5, 3), mode="bicubic").flatten(2).transpose(1, 2)
    adjusted = tiny(out_indices=[0, 2])
    adjusted.adjust_size((40, 24))
    adjusted.pos_embedding.copy_(torch.cat([net.pos_embedding[:, :1], grid], dim=1))
    torch.testing.assert_close(net(x), adjusted(x))
    with pytest.raises(ConfigError, match="divisible by the patch size 8"):
        net(torch.randn(1, 3, 36, 24))


@pytest.mark.parametrize("net", [tiny(out_indices=[0, 2]), tiny(), lite()], ids=["stages", "neck", "lite"])
def test_stripped_networks_use_every_parameter_that_is_left(net: Backbone) -> None:
    x = torch.randn(2, 3, *net.size)
    expected = {name: value.detach() for name, value in net.detection_features(x).items()}
    net.strip_for_detection_features()
    features = net.detection_features(x)
    for name, value in expected.items():
        torch.testing.assert_close(features[name], value)
    torch.stack([value.sum() for value in features.values()]).sum().backward()  # type: ignore[no-untyped-call]
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


@torch.inference_mode()
def test_stripped_networks_have_the_same_features() -> None:
    for net in (tiny(), lite()):
        x = torch.randn(2, 3, *net.size)
        expected = net.forward_features(x)
        net.strip_for_forward_features()
        torch.testing.assert_close(net.forward_features(x), expected)
        assert not any(name.startswith("classifier") for name, _ in net.named_parameters())


def test_stages_freeze_up_to_the_one_named() -> None:
    net = tiny(out_indices=[0, 2], pre_norm=True)
    net.freeze_stages(0)
    assert not trainable(net) & {"conv_proj.weight", "pos_embedding"}
    assert "encoder.pre_block.0.weight" in trainable(net) and "encoder.block.0.norm1.weight" in trainable(net)
    net.freeze_stages(1)
    assert {name.split(".")[2] for name in trainable(net) if name.startswith("encoder.")} == {"1", "2"}
    net.freeze_stages(5)
    assert not any(name.startswith("encoder.") for name in trainable(net)) and "norm.weight" in trainable(net)
    whole = tiny()
    whole.freeze_stages(1)
    assert not any(name.startswith("encoder.") for name in trainable(whole))
    conv = lite()
    conv.freeze_stages(2)
    assert {name.split(".")[1] for name in trainable(conv) if name.startswith("body.")} == {
        "stage2",
        "stage3",
        "stage4",
    }
    assert not any(name.startswith("stem.") for name in trainable(conv))


@torch.inference_mode()
def test_one_channel_gives_what_grey_in_three_gave() -> None:
    for net in (tiny(), lite()):
        x = torch.randn(2, 1, *net.size)
        expected = net(x.expand(-1, 3, -1, -1))
        net.adjust_input_channels(1)
        assert net.input_channels == 1
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)
    net = tiny()
    first = net.conv_proj.weight.clone()
    net.adjust_input_channels(4)
    torch.testing.assert_close(net.conv_proj.weight[:, 3], first[:, 0] * 0.75)
    assert net(torch.randn(1, 4, 32, 32)).shape == (1, 3)
    with pytest.raises(ConfigError, match="0 channels"):
        net.adjust_input_channels(0)


@torch.inference_mode()
def test_masks_and_causal_attention() -> None:
    net = tiny()
    x = torch.randn(1, 3, 32, 32)
    alone = torch.eye(17, dtype=torch.bool)
    changed = x.clone()
    changed[:, :, 24:] += 1  # the last row of patches
    apart = net.forward_features(x, attn_mask=alone)
    torch.testing.assert_close(net.forward_features(changed, attn_mask=alone)[:, :13], apart[:, :13])
    assert not torch.allclose(net.forward_features(changed)[:, :13], net.forward_features(x)[:, :13])
    both = net.forward_features(x, return_input_embedding=True)
    assert both.shape == (1, 17, 16, 2)
    torch.testing.assert_close(both[..., 1], net.forward_features(x))
    net.set_causal_attention()
    torch.testing.assert_close(net.forward_features(changed)[:, :13], net.forward_features(x)[:, :13])
    torch.testing.assert_close(net.embedding(x), net.forward_features(x)[:, 0])
    net.set_causal_attention(False)
    torch.testing.assert_close(net.forward_features(x), both[..., 1])


@torch.inference_mode()
def test_the_encoder_gives_the_tokens_after_blocks() -> None:
    net = tiny()
    tokens = torch.randn(1, 5, 16)
    every = net.encoder.forward_features(tokens)
    assert len(every) == 3 and net.encoder.forward_features(tokens, out_indices=[]) == []
    last, first = net.encoder.forward_features(tokens, out_indices=[2, 0])
    torch.testing.assert_close(last, every[2])
    torch.testing.assert_close(first, every[0])
    torch.testing.assert_close(net.encoder(tokens), every[2])


def test_a_new_classifier_is_of_the_networks_kind() -> None:
    net = tiny(head_bias=False)
    net.reset_classifier(4)
    assert isinstance(net.classifier, nn.Linear) and net.classifier.bias is None
    deep = tiny(mlp_head=True)
    assert isinstance(deep.classifier, nn.Sequential) and deep(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    deep.reset_classifier(0)
    assert isinstance(deep.classifier, nn.Identity)


def test_a_network_of_ones_own() -> None:
    class Mean(BaseNet):  # type: ignore[valid-type, misc]
        config: dict[str, Any] = {"scale": 2.0}  # noqa: RUF012 - as the published package's users write it

        def __init__(self, input_channels: int, num_classes: int, **options: Any) -> None:
            super().__init__(input_channels, num_classes, **options)
            self.embedding_size = input_channels
            self.classifier = self.create_classifier()

        def forward_features(self, x: torch.Tensor) -> torch.Tensor:
            return x * float(self.config["scale"])

        def embedding_from_features(self, features: torch.Tensor) -> torch.Tensor:
            return features.mean(dim=(2, 3))

    net = Mean(3, 2, config={"scale": 3.0})
    assert net.size == (224, 224) and Mean.config == {"scale": 2.0} and Mean(3, 2).config["scale"] == 2.0
    torch.testing.assert_close(net.embedding(torch.ones(1, 3, 4, 4)), torch.full((1, 3), 3.0))
    assert net(torch.ones(1, 3, 4, 4)).shape == (1, 2)
    with pytest.raises(NotImplementedError, match="Mean has no detection_features"):
        net.detection_features(torch.ones(1, 3, 4, 4))


def test_helpers_for_networks() -> None:
    assert stochastic_depth_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert stochastic_depth_rates(0.3, 3, endpoint=False) == pytest.approx([0.0, 0.1, 0.2])
    assert stochastic_depth_rates(0.3, 0) == [] and stochastic_depth_rates(0.3, 1) == [0.0]
    assert [len(stage) for stage in staged_stochastic_depth_rates(0.3, [1, 3])] == [1, 3]
    assert staged_stochastic_depth_rates(0.3, [1, 3])[1] == pytest.approx([0.1, 0.2, 0.3])
    assert [make_divisible(v, 8) for v in (3, 12, 19, 25)] == [8, 16, 24, 24]
    assert get_signature((1, 3, 8, 9), 5) == {
        "inputs": [{"data_shape": [0, 3, 8, 9]}],
        "outputs": [{"data_shape": [0, 5]}],
    }
