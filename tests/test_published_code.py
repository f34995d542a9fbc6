"""Code that was written for the published package: what it imports is here, and does what it expects.

tests/peers/test_published_suite.py runs that package's own tests.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import birder
from birder.common import fs_ops, lib, training_utils
from birder.conf import settings
from birder.errors import ConfigError, UnknownNameError, WeightsError
from birder.model_registry import Task, registry
from birder.model_registry.model_registry import ModelRegistry, group_sort
from birder.net.base import BaseNet
from birder.net.vit import ViT
from birder.registry import networks

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).parent / "data" / "birder"
NAME = "vit_tiny_p16_pn_test"
TINY = {"patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models that the settings name."""
    monkeypatch.setattr(settings, "MODELS_DIR", tmp_path / "models")
    settings.MODELS_DIR.mkdir()
    return settings.MODELS_DIR


@pytest.fixture
def clean_registry() -> Iterator[None]:
    """Forget what a test registered."""
    before = dict(networks())
    yield
    networks().clear()
    networks().update(before)
    registry.name_aliases.clear()


# birder.common.fs_ops


@pytest.mark.parametrize("st", [False, True])
@torch.inference_mode()
def test_load_model_by_path_and_by_name(st: bool, models: Path) -> None:
    device = torch.device("cpu")
    expected = np.load(DATA / f"{NAME}.npz")
    path = DATA / f"{NAME}.{'safetensors' if st else 'pt'}"
    shutil.copy(path, models / f"vit_b16_pn_mine_3{path.suffix}")
    for where in ({"path": path}, {"tag": "mine", "epoch": 3}):
        net, (class_to_idx, signature, rgb_stats, *_) = fs_ops.load_model(
            device, "vit_b16_pn", inference=True, st=st, **where
        )
        np.testing.assert_allclose(net(torch.from_numpy(expected["input"])), expected["logits"], atol=1e-5, rtol=0)
        assert not net.training and class_to_idx == {} and lib.get_num_labels_from_signature(signature) == 32
        assert set(rgb_stats) == {"mean", "std"}


def test_what_load_model_cannot_is_said(models: Path) -> None:
    kinds: dict[str, Any] = dict.fromkeys(("quantized", "reparameterized", "pts"), True)
    for kind, wanted in kinds.items():
        with pytest.raises(ConfigError, match=f"leave out {kind}=True"):
            fs_ops.load_model(torch.device("cpu"), "vit_b16_pn", inference=True, **{kind: wanted})
    with pytest.raises(WeightsError, match=r"vit_b16_pn_absent\.pt"):
        fs_ops.load_model(torch.device("cpu"), "vit_b16_pn", tag="absent", inference=True)


def test_pretrained_weights_in_the_models_folder_are_not_fetched_again(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    table = tmp_path / "weights.toml"
    table.write_text(
        '[weights."vit_b16_pn_of-a-test"]\nnetwork = "vit_b16_pn"\nrepository = "nobody/nothing"\nfile = "x.pt"\n'
    )
    birder.register_weights(table)
    shutil.copy(DATA / f"{NAME}.pt", models / "vit_b16_pn_of-a-test.pt")
    net, info = fs_ops.load_pretrained_model("vit_b16_pn_of-a-test", inference=True)
    assert net.size == lib.get_size_from_signature(info.signature) and not net.training
    net, info, transform = fs_ops.load_pretrained_model_and_transform("vit_b16_pn_of-a-test")
    assert transform.size == net.size
    fs_ops.download_model_by_weights("efficientnet_lite0_in1k", progress_bar=False)
    assert (models / "efficientnet_lite0_in1k.pt").stat().st_size > 10_000_000


def test_save_st_is_read_again(models: Path) -> None:
    net = ViT(3, 2, config=TINY, size=(16, 16)).eval()
    path = fs_ops.model_path("vit_s16_written", st=True)
    signature = {"inputs": [{"data_shape": [0, 3, 16, 16]}], "outputs": [{"data_shape": [0, 2]}]}
    rgb_stats = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    fs_ops.save_st(net, str(path), net.task, {"a": 0, "b": 1}, signature, rgb_stats, external_config=TINY)
    again, info = fs_ops.load_model(torch.device("cpu"), "vit_s16", tag="written", inference=True, st=True)
    x = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(again(x), net(x).detach())
    assert info.class_to_idx == {"a": 0, "b": 1}


def test_paths_of_models(models: Path) -> None:
    assert fs_ops.model_path("net") == models / "net.pt"
    assert fs_ops.model_path("net", epoch=7, states=True) == models / "net_7_states.pt"
    assert fs_ops.model_path("net", quantized=True, pt2=True) == models / "net_quantized.pt2"
    for age, name in enumerate(["net_10.pt", "net_2.pt", "net_x_3.pt", "net_2_states.pt", "net_0.pt"]):
        (models / name).touch()
        os.utime(models / name, (1000 - age, 1000 - age))
    assert [path.name for path in fs_ops.list_checkpoints("net")] == ["net_2.pt", "net_10.pt"]
    assert [path.name for path in fs_ops.list_checkpoints("net", states=True)] == ["net_2_states.pt"]
    (models / "classes.txt").write_text("owl\nlynx\n")
    assert fs_ops.read_class_file(models / settings.CLASS_LIST_NAME) == {"owl": 0, "lynx": 1}


def test_a_network_is_built_again_from_its_configuration(tmp_path: Path) -> None:
    net = registry.net_factory("vit_s32", 4, config={"num_layers": 1}, size=(64, 64))
    signature = {"inputs": [{"data_shape": [0, 3, 64, 64]}], "outputs": [{"data_shape": [0, 4]}]}
    config = lib.get_network_config(net, signature, {"mean": (0, 0, 0), "std": (1, 1, 1)})
    assert (config["name"], config["registered_name"], config["task"]) == ("vit", "vit_s32", "image_classification")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    again, _ = fs_ops.load_model_with_cfg(path, None)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}


# birder.common.lib and birder.conf


def test_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAID", "Yes")
    assert lib.env_bool("SAID") and not lib.env_bool("UNSAID")
    assert lib.device_to_str(torch.device("cpu")) == "cpu" and lib.device_to_str(torch.device("cuda", 1)) == "cuda:1"
    assert lib.get_num_labels_from_signature({"num_labels": 9, "outputs": []}) == 9
    assert lib.get_label_from_path("a/b/Barn owl/1.jpg") == "Barn owl"
    assert lib.get_label_from_path("a/b/Aves/Barn owl/1.jpg", hierarchical=True, root="a/b") == "Aves_Barn owl"
    assert lib.get_network_name("net") == "net" and lib.get_network_name("net", "tag") == "net_tag"
    assert lib.get_mim_network_name("net", "encoder", "tag") == "net_encoder_tag"
    assert lib.get_detection_network_name("net", "tag", "back", None) == "net_tag_back"
    assert lib.class_list_from_class_to_idx({"b": 1, "c": 2, "a": 0}) == ["a", "b", "c"]
    assert lib.class_to_idx_from_coco({7: {"id": 7, "name": "b"}, 3: {"id": 3, "name": "a"}}) == {"a": 0, "b": 1}
    names = {"a": 0, "b": 1}
    assert lib.detection_class_to_idx(names) is names and names == {"a": 1, "b": 2}
    assert lib.format_duration(3723.9) == "1:02:03"


def test_settings_are_read_from_the_environment() -> None:
    code = "from birder.conf import settings as s; print(s.MODELS_DIR, s.DATA_DIR, s.DEFAULT_NUM_CHANNELS)"
    environment = os.environ | {"MODELS_DIR": "elsewhere"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["elsewhere", "data", "3"]


def test_the_first_blocks_freeze() -> None:
    net = ViT(3, 2, config=TINY, size=(16, 16))
    groups = training_utils.group_by_regex([name for name, _ in net.named_parameters()], net.block_group_regex)
    assert len(groups) == 1 + 3 + 1 and groups[-1][-1] == "classifier.bias"
    assert training_utils.freeze_layers_by_block_group_regex(net, 2) == 2
    trained = {name.rsplit(".", 2)[0] for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[2] for name in trained if name.startswith("encoder")} == {"2"}
    assert not net.class_token.requires_grad and net.classifier.weight.requires_grad
    with pytest.raises(ConfigError, match="Linear has no block_group_regex"):
        training_utils.freeze_layers_by_block_group_regex(torch.nn.Linear(2, 2), 1)


# birder.model_registry


def test_the_registry_knows_our_networks_and_weights() -> None:
    assert registry.exists("ViT_B16_PN") and not registry.exists("resnet_v1_18")
    assert not registry.exists("vit_b16_pn", task=Task.OBJECT_DETECTION)
    assert registry.list_models(include_filter="vit_s*") == ["vit_s16_pn", "vit_s32", "vit_s16"]
    assert "vit_b16" in registry.list_models(net_type=ViT, task=Task.IMAGE_CLASSIFICATION)
    assert "efficientnet_lite0" not in registry.list_models(net_type=(ViT, BaseNet))
    assert "efficientnet_lite0" in registry.list_models(net_type=(ViT, BaseNet), net_type_op="OR")
    assert set(registry.all_nets) == set(birder.list_networks())
    assert registry.get_default_size("vit_b16") == (224, 224)
    assert registry.pretrained_exists("efficientnet_lite0_in1k") and not registry.pretrained_exists("nothing")
    assert registry.list_pretrained_models("*bioclip-v1") == ["vit_b16_pn_bioclip-v1"]
    metadata = registry.get_pretrained_metadata("vit_b16_pn_bioclip-v1")
    assert metadata["net"] == {"network": "vit_b16_pn", "tag": "bioclip-v1"}
    assert metadata["formats"]["pt"]["sha256"].startswith("9b2e5598") and metadata["task"] == Task.IMAGE_CLASSIFICATION
    with pytest.raises(UnknownNameError, match="Did you mean vit_b16"):
        registry.net_factory("vit_b17", 3)


def test_classes_stand_before_channels_in_the_factory() -> None:
    net = registry.net_factory("vit_s32", 5, 1, config={"num_layers": 1}, size=(32, 64))
    assert (net.num_classes, net.input_channels, net.size) == (5, 1, (32, 64))
    assert registry.get_registered_name(net) == "vit_s32" and registry.get_model_base_name(net) == "vit"


@pytest.mark.usefixtures("clean_registry")
def test_a_registered_network_is_built_and_loaded_by_its_name(tmp_path: Path) -> None:
    registry.register_model_config("ViT_mini8", ViT, config=TINY)
    registry.register_name_alias("mini", "vit_mini8")
    net = registry.net_factory("mini", 2, size=(16, 16)).eval()
    assert type(net).__name__ == "ViT_mini8" and isinstance(net, ViT) and net.config == TINY
    assert registry.get_registered_name(net) == "vit_mini8" and registry.get_model_base_name(net) == "vit"
    path = birder.save_model(
        net,
        tmp_path / "vit_mini8_of-mine.pt",
        signature={"inputs": [{"data_shape": [0, 3, 16, 16]}], "outputs": [{"data_shape": [0, 2]}]},
        rgb_stats={"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    )
    again, _ = birder.load_model("vit_mini8", path, inference=True)
    x = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(again(x), net(x).detach())
    with pytest.warns(UserWarning, match="registered before"):
        registry.register_model_config("vit_mini8", ViT, config=TINY)


def test_a_registry_of_ones_own_is_empty_and_refuses_ambiguous_names() -> None:
    own = ModelRegistry()
    assert own.list_models() == []
    own.register_model("net", ViT)
    own.register_name_alias("friend", "net")
    assert own.exists("friend") and not registry.exists("friend")
    for alias, name in (("friend", "net"), ("net", "net"), ("other", "absent"), ("other", "friend")):
        with pytest.raises(ValueError, match=r"already|Unknown network"):
            own.register_name_alias(alias, name)
    with pytest.raises(ValueError, match="already an alias"):
        own.register_model_config("friend", ViT, config={})
    assert group_sort(["b_2", "a_1", "b_1"]) == ["a_1", "b_2", "b_1"]


# hubconf.py


def test_torch_hub_finds_the_registered_weights() -> None:
    spec = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    assert spec is not None and spec.loader is not None
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    entries = {name: value for name, value in vars(conf).items() if callable(value) and not name.startswith("_")}
    assert "vit_b16_pn_bioclip_v1" in entries and len(entries) == len(birder.list_pretrained_models())
    assert "BioCLIP" in entries["vit_b16_pn_bioclip_v1"].__doc__

    load = functools.partial(torch.hub.load, str(ROOT), "efficientnet_lite0_in1k", source="local")
    net = load()
    assert net.num_classes == 1000 and net.network == "tf_efficientnet_lite0"
    expected, _ = birder.load_pretrained_model("efficientnet_lite0_in1k")
    torch.testing.assert_close(net.classifier.weight, expected.classifier.weight)
    bare = load(pretrained=False, input_channels=1, num_classes=7)
    assert bare.classifier.weight.shape == (7, 1280) and bare.input_channels == 1
