"""A checkpoint trained as a detector: its backbone gives the maps that its configuration says, and no embedding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

import birder
from birder.cli import app
from birder.errors import ConfigError, WeightsError
from birder.net.fcos import FCOS
from birder.weights.checkpoint import Checkpoint, make_detection_signature, write_checkpoint
from birder.weights.detector import load_detector
from birder.weights.resolve import resolve

TINY = {"patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
STATS = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}


def write(path: Path, net: torch.nn.Module, size: tuple[int, int], config: dict[str, Any] | None) -> Path:
    """A detector as the published package writes it: the backbone without what its maps do not need, and a head."""
    unused = ("norm.", "features.", "classifier.")
    state = {f"backbone.{key}": value for key, value in net.state_dict().items() if not key.startswith(unused)}
    state["head.weight"] = torch.ones(3)
    signature = {
        "dynamic": False,
        "inputs": [{"data_shape": [0, 3, *size]}],
        "outputs": ([{"boxes": [0, 4], "labels": [0], "scores": [0]}], {}),
        "num_labels": 4,
    }
    fields = {"task": "object_detection", "birder_version": "v0.8.4", "signature": signature, "rgb_stats": STATS}
    fields |= {"class_to_idx": {"bird": 1}} | ({} if config is None else {"backbone_config": config})
    if path.suffix == ".pt":
        torch.save({"state": state, **fields}, path)
    else:
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()}
        safetensors.torch.save_file(state, path, metadata=texts)
    return path


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize(("out_indices", "expected"), [(None, [-1]), ([0, 2], [0, 2])])
@torch.inference_mode()
def test_maps_are_those_of_the_configuration(
    tmp_path: Path, ending: str, out_indices: list[int] | None, expected: list[int]
) -> None:
    torch.manual_seed(0)
    own = TINY | ({} if out_indices is None else {"out_indices": out_indices})
    whole = birder.create_network("vit_b16_pn", size=(32, 48), config=TINY | {"out_indices": expected}).eval()
    path = write(tmp_path / f"vit_b16_pn_detector.{ending}", whole, (32, 48), own)
    net, info = birder.load_model("vit_b16_pn", path, inference=True)
    x = torch.rand(1, 3, 32, 48)
    maps, reference = net.detection_features(x), whole.detection_features(x)
    assert list(maps) == list(reference) == net.return_stages == [f"stage{i + 1}" for i in range(len(expected))]
    for name, value in maps.items():
        torch.testing.assert_close(value, reference[name])
    assert info.custom_config is not None
    assert (info.class_to_idx, info.custom_config["out_indices"]) == ({}, expected)


def test_a_detector_gives_no_embedding(tmp_path: Path) -> None:
    net = birder.create_network("efficientnet_lite0", size=(64, 64))
    path = write(tmp_path / "efficientnet_lite0_detector.pt", net, (64, 64), None)
    backbone, _ = birder.load_model("efficientnet_lite0", path, inference=True)
    assert list(backbone.detection_features(torch.rand(1, 3, 64, 64))) == ["stage1", "stage2", "stage3", "stage4"]
    with pytest.raises(ConfigError, match="backbone of a detector"):
        backbone.embedding(torch.rand(1, 3, 64, 64))
    with pytest.raises(WeightsError, match="is a detector, not for image_classification"):
        resolve(path).load_image_encoder()


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (TINY, "stage1: after the last block, before the final norm, as it was trained"),
        (TINY | {"out_indices": [0, -1]}, "stage1, stage2: after the blocks 0, -1, before the final norm"),
    ],
)
def test_info_lists_the_feature_maps_of_a_detector(tmp_path: Path, own: dict[str, Any], said: str) -> None:
    net = birder.create_network("vit_b16_pn", size=(32, 48), config=TINY)
    path = write(tmp_path / "vit_b16_pn_detector.pt", net, (32, 48), own)
    result = CliRunner().invoke(app, ["info", str(path), "--format", "json"])
    (facts,) = json.loads(result.stdout)
    assert (facts["network"], facts["task"]) == ("vit_b16_pn", "object_detection")
    assert (facts["detection features"], facts["outputs"]) == (said, 4)


def test_a_detector_that_is_damaged_or_of_another_kind_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    net = FCOS(2, birder.create_network("vit_b16", 0, size=(64, 64), config=TINY | {"out_indices": [-1]}))
    whole = Checkpoint(
        state=dict(net.state_dict()),
        signature=make_detection_signature((64, 64), 2),
        class_to_idx={"owl": 1},
        rgb_stats=STATS,
        task="object_detection",
        network="vit_b16",
        backbone_config=TINY,
        detector="fcos",
    )
    found = load_detector(write_checkpoint(tmp_path / "whole.pt", whole))
    assert found.classes == ("owl", "2")  # the second has no name
    assert all(torch.equal(value, whole.state[key]) for key, value in found.net.state_dict().items())
    bias = "head.regression_head.bbox_reg.bias"
    for number, (changed, says) in enumerate(
        (
            (replace(whole, signature=make_detection_signature((64, 64), 100_000_000)), "does not fit the network"),
            (replace(whole, signature=make_detection_signature((64, 64), 2, channels=1)), "takes 1 channels"),
            (replace(whole, signature=make_detection_signature((60, 60), 2)), "not divisible"),
            (
                replace(whole, state={key: value for key, value in whole.state.items() if key != bias}),
                f"missing {bias}",
            ),
            (replace(whole, state=whole.state | {bias: torch.full((4,), torch.nan)}), f"{bias} has values"),
            (replace(whole, config={"fpn_width": 4097}), "multiple of 32"),
            (replace(whole, backbone_config=TINY | {"num_layers": 10**6}), "num_layers"),
            (replace(whole, detector="yolo_v4"), "is a yolo_v4"),
            (replace(whole, network=None), "whose backbone is not named"),
            (replace(whole, task="image_classification"), "finds no boxes"),
        )
    ):
        with pytest.raises(WeightsError, match=says):
            load_detector(write_checkpoint(tmp_path / f"{number}.pt", changed))
    assert load_detector(write_checkpoint(tmp_path / "fcos_vit_b16_1.pt", replace(whole, network=None, detector=None)))
