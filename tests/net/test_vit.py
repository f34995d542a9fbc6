"""The Vision Transformer against the published implementation's outputs, and what its contract promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import birder
from birder.errors import ConfigError, UnknownNameError
from birder.net.vit import ViT

DATA = Path(__file__).parents[1] / "data" / "birder"
REFERENCES = {
    "vit_tiny_p16_pn_test": "vit_b16_pn",
    "vit_tiny_p14_pn_test": "vit_l14_pn",
    "vit_tiny_p16_test": "vit_b16",
}
TINY = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
Reference = tuple[str, dict[str, npt.NDArray[Any]]]


def tiny(num_classes: int = 3, size: tuple[int, int] = (32, 32), **config: Any) -> ViT:
    torch.manual_seed(0)
    net = birder.create_network("vit_b16_pn", num_classes, size=size, config={**TINY, **config}).eval()
    assert isinstance(net, ViT)
    return net


@pytest.fixture(params=REFERENCES)
def reference(request: pytest.FixtureRequest) -> Reference:
    return request.param, np.load(DATA / f"{request.param}.npz")


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@torch.inference_mode()
def test_agrees_with_the_published_implementation(reference: Reference, ending: str) -> None:
    name, expected = reference
    net, _ = birder.load_model(REFERENCES[name], DATA / f"{name}.{ending}", inference=True)
    x = torch.from_numpy(expected["input"])
    tokens = net.forward_features(x)
    np.testing.assert_allclose(tokens, expected["tokens"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(net.embedding(x), expected["embedding"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(net(x), expected["logits"], atol=1e-5, rtol=0)
    neck = net.detection_features(x)["neck"]
    grid = expected["detection_stage1"].shape[-2:]
    expected_neck = expected["tokens"][:, 1:].transpose(0, 2, 1).reshape(1, -1, *grid)
    np.testing.assert_allclose(neck, expected_neck, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_last_block_as_stage_is_before_the_final_norm(reference: Reference) -> None:
    name, expected = reference
    path = DATA / f"{name}.safetensors"
    net, _ = birder.load_model(REFERENCES[name], path, inference=True, config={"out_indices": [-1]})
    features = net.detection_features(torch.from_numpy(expected["input"]))
    assert list(features) == net.return_stages == ["stage1"]
    np.testing.assert_allclose(features["stage1"], expected["detection_stage1"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("network", "num_classes", "parameters"),
    # Of the projections: 512, 768 and 1024 as in BioCLIP 1, 2 and 2.5; the sizes of the plain ones are torchvision's.
    [
        ("vit_b16_pn", 512, 86_192_640),
        ("vit_l14_pn", 768, 303_966_208),
        ("vit_h14_pn", 1024, 632_076_800),
        ("vit_b16", 1000, 86_567_656),
        ("vit_l16", 1000, 304_326_632),
    ],
)
def test_number_of_parameters(network: str, num_classes: int, parameters: int) -> None:
    config = {"head_bias": False} if network.endswith("_pn") else None
    with torch.device("meta"):
        net = birder.create_network(network, num_classes, config=config)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_every_registered_network_builds() -> None:
    assert {"vit_s16_pn", "vit_b32_pn", "vit_b16_pn_quick_gelu", "vit_l14_pn_quick_gelu"} <= set(birder.list_networks())
    for name in birder.list_networks():
        with torch.device("meta"):
            net = birder.create_network(name, 7)
        assert net.embedding_size > 0
        assert net.num_classes == 7


def test_prenorm_networks_have_clips_shape() -> None:
    pre, plain = tiny(), birder.create_network("vit_b16", 3, config=TINY, size=(32, 32))
    assert isinstance(plain, ViT)
    assert pre.conv_proj.bias is None
    assert len(pre.encoder.pre_block) == 1
    assert pre.norm.eps == 1e-5
    assert plain.conv_proj.bias is not None
    assert len(plain.encoder.pre_block) == 0
    assert plain.norm.eps == 1e-6


def test_unknown_configuration_key_names_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"patchsize.*patch_size.*out_indices|patchsize.*act_layer_type"):
        tiny(patchsize=3)


@pytest.mark.parametrize(
    "config",
    [{"num_heads": 3}, {"act_layer_type": "relu9"}, {"out_indices": [2]}, {"out_indices": [-3]}, {"out_indices": []}],
)
def test_impossible_configuration_is_an_error_of_ours(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tiny(**config)


def test_quick_gelu_is_its_formula() -> None:
    x = torch.linspace(-4, 4, 50)
    act = tiny(act_layer_type="quick_gelu").get_submodule("encoder.block.0.mlp.1")
    torch.testing.assert_close(act(x), x * (1 / (1 + torch.exp(-1.702 * x))))


def test_stages_come_in_the_order_that_was_asked_for() -> None:
    x = torch.randn(2, 3, 32, 32)
    both = tiny(out_indices=[1, 0]).detection_features(x)
    first, last = (tiny(out_indices=[i]).detection_features(x)["stage1"] for i in (0, 1))
    torch.testing.assert_close(both["stage1"], last)
    torch.testing.assert_close(both["stage2"], first)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_any_size_that_the_patch_divides(rows: int, columns: int) -> None:
    net = tiny()
    size = (8 * rows, 8 * columns)
    net.adjust_size(size)
    x = torch.randn(1, 3, *size)
    assert net.detection_features(x)["neck"].shape == (1, 16, rows, columns)
    assert net(x).shape == (1, 3)
    assert net.size == size


def test_adjusted_positions_are_the_interpolated_grid() -> None:
    net = tiny()
    class_position = net.pos_embedding[:, :1].clone()
    grid = net.pos_embedding[:, 1:].detach().transpose(1, 2).reshape(1, 16, 4, 4)
    expected = torch.nn.functional.interpolate(grid, size=(2, 6), mode="bicubic", antialias=True)
    net.adjust_size((16, 48))
    torch.testing.assert_close(net.pos_embedding[:, :1], class_position)
    torch.testing.assert_close(net.pos_embedding[:, 1:].transpose(1, 2).reshape(1, 16, 2, 6), expected)


def test_wrong_sizes_are_errors_that_say_what_to_do() -> None:
    net = tiny()
    with pytest.raises(ConfigError, match="divisible by the patch size 8"):
        net.adjust_size((30, 32))
    with pytest.raises(ConfigError, match=r"adjust_size\(\(40, 32\)\)"):
        net(torch.randn(1, 3, 40, 32))
    with pytest.raises(ConfigError, match="divisible"):
        tiny(size=(33, 32))


def test_reset_classifier() -> None:
    net = tiny()
    net.reset_classifier(5)
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 5)
    net.reset_classifier(0)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(net(x), net.embedding(x))


@pytest.mark.parametrize("network", ["vit_b16_pn", "efficientnet_lite0"])
def test_freeze(network: str) -> None:
    config = TINY if network == "vit_b16_pn" else None
    net = birder.create_network(network, 3, size=(32, 32), config=config)
    net.freeze()
    assert not any(p.requires_grad for p in net.parameters())
    net.freeze(freeze_classifier=False)
    trainable = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trainable == {"classifier.weight", "classifier.bias"}
    net.freeze(unfreeze_features=True)
    assert {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad} <= {"norm", "features"}
    assert any(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("network", ["vit_b16_pn", "efficientnet_lite0"])
def test_gradient_checkpointing_changes_neither_values_nor_gradients(network: str) -> None:
    torch.manual_seed(1)
    config = TINY if network == "vit_b16_pn" else None
    net = birder.create_network(network, 3, size=(32, 32), config=config).eval()
    x = torch.randn(2, 3, 32, 32)
    gradients = []
    for enable in (False, True):
        net.set_grad_checkpointing(enable)
        net.zero_grad()
        net(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_drop_path_drops_whole_samples_in_training_only() -> None:
    net = tiny(drop_path_rate=0.5)
    assert [net.get_submodule(f"encoder.block.{i}.drop_path").rate for i in (0, 1)] == [0.0, 0.5]
    drop = net.get_submodule("encoder.block.1.drop_path")
    x = torch.rand(200, 5, 3) + 1
    assert drop(x) is x
    drop.train()
    torch.manual_seed(0)
    kept = drop(x) / x
    assert (kept == kept[:, :1, :1]).all()
    assert set(kept.unique().tolist()) == {0.0, 2.0}


NEUTRAL: dict[str, tuple[Any, Any]] = {
    "abs_pos_embed": (True, False),
    "pos_embed_special_tokens": (True, False),
    "pos_embed_interpolation_mode": ("bicubic", "bilinear"),
    "pos_embed_antialias": (False, True),
    "stem_type": ("patchify", "hmlp"),
    "stem_norm_layer_type": (None, "BatchNorm2d"),
    "layer_scale_init_value": (None, 1e-5),
    "post_norm": (True, False),
    "norm_after_pool": (False, True),
    "qkv_bias": (True, False),
    "qk_norm": (False, True),
    "attn_norm": (False, True),
    "num_reg_tokens": (0, 4),
    "class_token": (True, False),
    "attn_pool_head": (False, True),
    "norm_layer_type": ("LayerNorm", "RMSNorm"),
    "mlp_layer_type": ("FFN", "SwiGLU_FFN"),
    "soft_moe_num_experts": (None, 8),
    "act_layer_type": (None, "silu"),
    "dropout": (0.0, 0.1),
    "attention_dropout": (0.0, 0.1),
    "projection_dropout": (0.0, 0.1),
    "drop_path_uniform": (False, True),
}


@torch.inference_mode()
def test_neutral_keys_of_published_configurations_change_nothing() -> None:
    x = torch.randn(1, 3, 32, 32)
    neutral: dict[str, Any] = {key: values[0] for key, values in NEUTRAL.items()}
    unused: dict[str, Any] = {"attn_pool_type": "EfficientProbing", "attn_pool_num_heads": 3, "soft_moe_num_slots": 2}
    torch.testing.assert_close(tiny(**neutral, **unused)(x), tiny()(x), atol=0, rtol=0)


@pytest.mark.parametrize("key", NEUTRAL)
def test_a_published_configuration_of_another_arithmetic_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key} ?=? {NEUTRAL[key][1]!r}"):
        tiny(**{key: NEUTRAL[key][1]})
