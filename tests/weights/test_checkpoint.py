"""Checkpoint files: what is written is read again, and nothing else is."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import birder
from birder.errors import ConfigError, UnknownNameError, WeightsError
from birder.weights.checkpoint import make_signature, read_checkpoint, write_checkpoint

DATA = Path(__file__).parents[1] / "data" / "birder"
NAME = "vit_tiny_p16_pn_test"


def test_both_kinds_of_a_published_file_contain_the_same() -> None:
    pt, st = (read_checkpoint(DATA / f"{NAME}.{ending}") for ending in ("pt", "safetensors"))
    assert pt.state.keys() == st.state.keys()
    assert all(torch.equal(pt.state[key], st.state[key]) for key in pt.state)
    assert (pt.signature, pt.config, pt.task, pt.birder_version) == (st.signature, st.config, st.task, "v0.8.4")
    assert list(pt.rgb_stats["mean"]) == list(st.rgb_stats["mean"])
    assert birder.get_size_from_signature(pt.signature) == (224, 224)
    assert birder.get_channels_from_signature(pt.signature) == 3
    assert birder.get_num_labels_from_signature(pt.signature) == 32


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_saved_model_is_loaded_unchanged(tmp_path: Path, ending: str) -> None:
    net, info = birder.load_model("vit_b16_pn", DATA / f"{NAME}.pt", inference=True)
    path = birder.save_model(
        net,
        tmp_path / f"copy.{ending}",
        signature=info.signature,
        rgb_stats=info.rgb_stats,
        class_to_idx={"a frog": 0, "Å ×": 31},
        config=info.custom_config,
    )
    again, again_info = birder.load_model("vit_b16_pn", path)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in net.state_dict().items())
    assert again_info.class_to_idx == {"a frog": 0, "Å ×": 31}
    assert again_info.custom_config == info.custom_config
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_loading_for_inference_sets_evaluation_mode_without_gradients() -> None:
    net, _ = birder.load_model("vit_b16_pn", DATA / f"{NAME}.pt", inference=True)
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    trainable, _ = birder.load_model("vit_b16_pn", DATA / f"{NAME}.pt")
    assert trainable.training
    assert all(p.requires_grad for p in trainable.parameters())


def test_loading_applies_a_new_size_and_dtype() -> None:
    net, _ = birder.load_model(
        "vit_b16_pn", DATA / f"{NAME}.pt", inference=True, new_size=(96, 160), dtype=torch.float64
    )
    x = torch.zeros(1, 3, 96, 160, dtype=torch.float64)
    assert net.detection_features(x)["neck"].shape == (1, 48, 6, 10)
    assert net.embedding(x).dtype == torch.float64


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (mark,))

    for name, save in (("zip.pt", torch.save), ("plain.pt", lambda obj, path: path.write_bytes(pickle.dumps(obj)))):
        path = tmp_path / name
        save({"state": Attack()}, path)
        with pytest.raises(WeightsError, match=r"would run code|not a PyTorch checkpoint"):
            read_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("share", [0, 0.1, 0.9])
def test_a_truncated_checkpoint_is_reported_as_truncated(tmp_path: Path, ending: str, share: float) -> None:
    data = (DATA / f"{NAME}.{ending}").read_bytes()
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError, match=r"truncated|not a PyTorch checkpoint"):
        read_checkpoint(path)


def test_files_that_are_not_checkpoints_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"no task, signature.*birder convert"):
        read_checkpoint(path)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="not a dictionary"):
        read_checkpoint(tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="There is no file"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(WeightsError, match="There is no file"):
        read_checkpoint(tmp_path / "none.safetensors")


def test_broken_metadata_is_a_birder_error(tmp_path: Path) -> None:
    good = read_checkpoint(DATA / f"{NAME}.pt")
    path = tmp_path / "broken.pt"
    torch.save(
        {"state": good.state, "task": good.task, "signature": {"inputs": []}, "class_to_idx": {}, "rgb_stats": {}}, path
    )
    with pytest.raises(WeightsError, match="damaged"):
        read_checkpoint(path)
    path = tmp_path / "broken.safetensors"
    safetensors.torch.save_file(good.state, path, {"signature": "{"})
    with pytest.raises(WeightsError, match="not JSON"):
        read_checkpoint(path)


def test_state_that_does_not_fit_names_parameters_and_shapes() -> None:
    with pytest.raises(WeightsError) as error:
        birder.load_model("vit_b16_pn", DATA / f"{NAME}.pt", config={"num_layers": 2, "mlp_dim": 64})
    message = str(error.value)
    assert "unknown encoder.block.2.attn.proj.bias (48,)" in message
    assert "and " in message
    with pytest.raises(WeightsError, match=r"mlp.0.bias is \(96,\), the network's \(64,\)"):
        birder.load_model("vit_b16_pn", DATA / f"{NAME}.pt", config={"mlp_dim": 64})
    with pytest.raises(WeightsError, match="missing conv_proj.bias"):
        birder.load_model("vit_b16", DATA / f"{NAME}.pt")


def test_an_unknown_network_is_reported_with_the_closest_names() -> None:
    with pytest.raises(UnknownNameError, match="vit_b16_pn"):
        birder.load_model("vit_b16_pm", DATA / f"{NAME}.pt")


def test_other_extensions_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"\.pt or \.safetensors"):
        write_checkpoint(tmp_path / "x.bin", read_checkpoint(DATA / f"{NAME}.pt"))


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken.pt").mkdir()
    with pytest.raises(ConfigError, match="is a folder: name a file"):
        write_checkpoint(tmp_path / "taken.pt", read_checkpoint(DATA / f"{NAME}.pt"))
    assert [p.name for p in tmp_path.iterdir()] == ["taken.pt"]


def test_load_model_with_cfg(tmp_path: Path) -> None:
    expected = np.load(DATA / f"{NAME}.npz")
    checkpoint = read_checkpoint(DATA / f"{NAME}.pt")
    cfg = {
        "name": "vit_b16_pn",
        "registered_name": None,
        "task": "image_classification",
        "signature": make_signature((224, 224), 32),
        "model_config": checkpoint.config,
    }
    net, same = birder.load_model_with_cfg(cfg, DATA / f"{NAME}.safetensors")
    assert same == cfg
    with torch.inference_mode():
        logits = net.eval()(torch.from_numpy(expected["input"]))
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-5)
    untrained, _ = birder.load_model_with_cfg(cfg, None)
    assert untrained.num_classes == 32
    with pytest.raises(ConfigError, match="signature"):
        birder.load_model_with_cfg({"name": "vit_b16_pn"}, None)
    with pytest.raises(ConfigError, match="Cannot read"):
        birder.load_model_with_cfg(tmp_path / "none.json", None)
    with pytest.raises(ConfigError, match="object_detection"):
        birder.load_model_with_cfg(cfg | {"task": "object_detection"}, None)
