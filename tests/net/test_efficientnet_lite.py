"""EfficientNet-Lite0: its packaged weights against timm's implementation, and its two arithmetics kept apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import birder
from birder.errors import ConfigError, UnknownNameError, WeightsError
from birder.net.base import Backbone
from birder.net.efficientnet_lite import rename_published_state
from birder.weights.checkpoint import Checkpoint, make_signature, write_checkpoint
from birder.weights.load import ModelInfo
from birder.weights.resolve import resolve

DATA = Path(__file__).parents[1] / "data"
BOTH = ("efficientnet_lite0", "tf_efficientnet_lite0")
RGB_STATS = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

Model = tuple[Backbone, ModelInfo]
Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def model() -> Model:
    return birder.load_pretrained_model("efficientnet_lite0_in1k", inference=True)


@pytest.fixture(scope="module")
def expected() -> Arrays:
    # Made by tests/peers/make_efficientnet_reference.py.
    return dict(np.load(DATA / "efficientnet_lite0.npz"))


@torch.inference_mode()
def test_agrees_with_timm(model: Model, expected: Arrays) -> None:
    net, _ = model
    x = torch.from_numpy(expected["input"])
    np.testing.assert_allclose(net.embedding(x), expected["embedding"], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(net(x), expected["logits"], atol=2e-5, rtol=1e-5)
    for name, stage in net.detection_features(x).items():
        channels = expected[name].shape[1]
        np.testing.assert_allclose(stage[:, :channels], expected[name], atol=5e-5, rtol=1e-5)


def test_transform_gives_timms_input(model: Model, expected: Arrays) -> None:
    _, info = model
    transform = birder.classification_transform((224, 224), info.rgb_stats)
    x = transform(Image.open(DATA / "chelsea.png"))
    np.testing.assert_allclose(x[None], expected["input"], atol=1e-6, rtol=0)


def test_what_comes_with_the_weights(model: Model) -> None:
    net, info = model
    assert net.embedding_size == 1280
    assert len(info.class_to_idx) == 1000
    assert info.class_to_idx["tench, Tinca tinca"] == 0
    # Two classes of ImageNet are called crane: the bird and the machine.
    assert {info.class_to_idx["crane (n02012849)"], info.class_to_idx["crane (n03126707)"]} == {134, 517}
    assert info.rgb_stats["mean"] == pytest.approx([127 / 255] * 3)
    assert info.rgb_stats["std"] == pytest.approx([128 / 255] * 3)


@pytest.mark.parametrize("size", [(224, 224), (225, 193), (64, 96)])
def test_strides(model: Model, size: tuple[int, int]) -> None:
    net, _ = model
    features = net.detection_features(torch.zeros(1, 3, *size))
    assert list(features) == ["stage1", "stage2", "stage3", "stage4"] == net.return_stages
    for (_, x), stride, channels in zip(features.items(), (4, 8, 16, 32), net.return_channels, strict=True):
        assert x.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))


def test_what_it_cannot_be_told() -> None:
    with pytest.raises(UnknownNameError, match="Known keys: drop_path_rate"):
        birder.create_network("efficientnet_lite0", config={"patch_size": 4})


def test_published_configurations_of_other_widths_are_refused_by_name() -> None:
    birder.create_network("efficientnet_lite0", config={"width_coefficient": 1.0, "dropout_rate": 0.3})
    with pytest.raises(ConfigError, match=r"no width_coefficient = 1\.1"):
        birder.create_network("efficientnet_lite0", config={"width_coefficient": 1.1})


@torch.inference_mode()
def test_the_network_of_the_published_name_pads_evenly() -> None:
    torch.manual_seed(0)
    nets = {name: birder.create_network(name, size=(64, 64)).eval() for name in BOTH}
    nets[BOTH[1]].load_state_dict(nets[BOTH[0]].state_dict())
    x = torch.rand(2, 3, 64, 64)
    plain, tensorflow = (nets[name] for name in BOTH)
    first = {name: net.get_submodule("stem.0") for name, net in nets.items()}
    expected = F.conv2d(x, first[BOTH[0]].get_parameter("weight"), stride=2, padding=1)
    torch.testing.assert_close(first[BOTH[0]](x), expected)
    assert not torch.allclose(first[BOTH[1]](x), expected, atol=1e-3)
    assert {m.eps for m in plain.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-5}
    assert {m.eps for m in tensorflow.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize(("written", "read"), [BOTH, BOTH[::-1]])
def test_a_file_of_the_other_arithmetic_is_refused(tmp_path: Path, written: str, read: str, ending: str) -> None:
    net = birder.create_network(written, 3)
    path = birder.save_model(
        net, tmp_path / f"{read}_mine.{ending}", signature=make_signature((224, 224), 3), rgb_stats=RGB_STATS
    )
    assert birder.load_model(written, path)[0].network == written
    for load in (lambda: birder.load_model(read, path), lambda: resolve(path).load_image_encoder()):
        with pytest.raises(WeightsError, match=f"holds weights of {written}, not of {read}"):
            load()
    cfg = {"name": read, "signature": make_signature((224, 224), 3)}
    with pytest.raises(WeightsError, match=f"holds weights of {written}"):
        birder.load_model_with_cfg(cfg, path)


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_file_of_the_published_package_is_none_of_tensorflows(tmp_path: Path, ending: str) -> None:
    state = birder.create_network("efficientnet_lite0", 3).state_dict()
    unnamed = Checkpoint(state, make_signature((224, 224), 3), {}, RGB_STATS, birder_version="v0.8.4")
    path = write_checkpoint(tmp_path / f"tf_efficientnet_lite0_theirs.{ending}", unnamed)
    birder.load_model("efficientnet_lite0", path)
    with pytest.raises(WeightsError, match="load it as efficientnet_lite0"):
        birder.load_model("tf_efficientnet_lite0", path)


def test_the_packaged_weights_are_of_tensorflows_network(model: Model) -> None:
    assert model[0].network == "tf_efficientnet_lite0"


def test_foreign_state_is_refused() -> None:
    with pytest.raises(WeightsError, match="16 blocks"):
        rename_published_state({"_blocks.16._bn1.weight": torch.zeros(1)})
