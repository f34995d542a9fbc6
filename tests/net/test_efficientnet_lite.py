"""EfficientNet-Lite0 with its packaged weights, against timm's implementation with the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import birder
from birder.errors import UnknownNameError, WeightsError
from birder.net.efficientnet_lite import rename_published_state

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def model():
    return birder.load_pretrained_model("efficientnet_lite0_in1k", inference=True)


@pytest.fixture(scope="module")
def expected():
    # Made by tests/peers/make_efficientnet_reference.py.
    return np.load(DATA / "efficientnet_lite0.npz")


@torch.inference_mode()
def test_agrees_with_timm(model, expected):
    net, _ = model
    x = torch.from_numpy(expected["input"])
    np.testing.assert_allclose(net.embedding(x), expected["embedding"], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(net(x), expected["logits"], atol=2e-5, rtol=1e-5)
    for name, stage in net.detection_features(x).items():
        channels = expected[name].shape[1]
        np.testing.assert_allclose(stage[:, :channels], expected[name], atol=5e-5, rtol=1e-5)


def test_transform_gives_timms_input(model, expected):
    _, info = model
    transform = birder.classification_transform((224, 224), info.rgb_stats)
    x = transform(Image.open(DATA / "chelsea.png"))
    np.testing.assert_allclose(x[None], expected["input"], atol=1e-6, rtol=0)


def test_what_comes_with_the_weights(model):
    net, info = model
    assert net.embedding_size == 1280
    assert len(info.class_to_idx) == 1000
    assert info.class_to_idx["tench, Tinca tinca"] == 0
    # Two classes of ImageNet are called crane: the bird and the machine.
    assert {info.class_to_idx["crane (n02012849)"], info.class_to_idx["crane (n03126707)"]} == {134, 517}
    assert info.rgb_stats["mean"] == pytest.approx([127 / 255] * 3)
    assert info.rgb_stats["std"] == pytest.approx([128 / 255] * 3)


@pytest.mark.parametrize("size", [(224, 224), (225, 193), (64, 96)])
def test_strides(model, size):
    net, _ = model
    features = net.detection_features(torch.zeros(1, 3, *size))
    assert list(features) == ["stage1", "stage2", "stage3", "stage4"] == net.return_stages
    for (_, x), stride, channels in zip(features.items(), (4, 8, 16, 32), net.return_channels, strict=True):
        assert x.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))


def test_it_has_no_configuration():
    with pytest.raises(UnknownNameError, match="Known keys: none"):
        birder.create_network("efficientnet_lite0", config={"patch_size": 4})


def test_foreign_state_is_refused():
    with pytest.raises(WeightsError, match="16 blocks"):
        rename_published_state({"_blocks.16._bn1.weight": torch.zeros(1)})
