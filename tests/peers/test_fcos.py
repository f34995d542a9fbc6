"""FCOS beside the published package's and torchvision's: the same parameters give the same losses and boxes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import birder
from birder.weights.checkpoint import make_signature, save_model
from birder.weights.detector import load_detector, new_detector, save_detector
from birder.weights.resolve import resolve
from tests.peers.comparing import RGB_STATS, THEIR_PYTHON, Results

SIZE = (128, 128)
VIT: dict[str, Any] = {"num_layers": 3, "num_heads": 4, "hidden_dim": 64, "mlp_dim": 128}
LEAST, OVERLAP = 0.05, 0.6


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Two images with boxes and one without, normalised."""
    random = np.random.default_rng(0)
    corner, side = random.uniform(0, 90, (2, 4, 2)), random.uniform(9, 110, (2, 4, 2))
    boxes = np.concatenate([corner, np.minimum(corner + side, 128)], axis=2).astype(np.float32)
    given: dict[str, Any] = {"x": random.standard_normal((3, 3, *SIZE), dtype=np.float32)}
    for i in range(2):
        given |= {f"boxes_{i}": boxes[i], f"labels_{i}": random.integers(1, 4, 4)}
    given |= {"boxes_2": np.empty((0, 4), np.float32), "labels_2": np.empty(0, np.int64)}
    path = tmp_path / "inputs.npz"
    np.savez(path, **given)
    return path


def run_theirs(**job: Any) -> Results:
    outputs = Path(job["inputs"]).with_name("theirs.npz")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [THEIR_PYTHON, Path(__file__).with_name("fcos_theirs.py")],
        input=json.dumps({key: str(value) if isinstance(value, Path) else value for key, value in job.items()}
        | {"outputs": str(outputs)}),
        env=environment,
        cwd=outputs.parent,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(np.load(outputs))


def assert_the_same(path: Path, inputs: Path, theirs: Results, *, backbone: str | None = None) -> None:
    net = load_detector(path, backbone=backbone).net
    given = np.load(inputs)
    x = torch.from_numpy(given["x"])
    targets = [
        {"boxes": torch.from_numpy(given[f"boxes_{i}"]), "labels": torch.from_numpy(given[f"labels_{i}"])}
        for i in range(len(x))
    ]
    with torch.no_grad():
        outputs, points = net.outputs(net.maps(x))
        losses = net.losses(outputs, points, targets)
        found = net.detections(outputs, points, min_score=LEAST, overlap=OVERLAP)
    assert sum(len(each["boxes"]) for each in found) > 20
    for name in ("birder", "torchvision"):
        for key, loss in losses.items():
            assert float(loss) == pytest.approx(float(theirs[f"{name}_{key}"]), rel=1e-5), (name, key)
        for i, each in enumerate(found):
            assert each["labels"].tolist() == theirs[f"{name}_labels_{i}"].tolist()
            assert each["scores"].numpy() == pytest.approx(theirs[f"{name}_scores_{i}"], abs=1e-5)
            assert np.abs(each["boxes"].numpy() - theirs[f"{name}_boxes_{i}"]).max(initial=0) < 1e-3


def test_the_published_package_runs_a_detector_on_efficientnet_lite0(inputs: Path) -> None:
    path = inputs.with_name("ours.pt")
    detector = new_detector(
        resolve("efficientnet_lite0_in1k").fetch(), ("owl", "fox", "hare"), size=SIZE, width=64, seed=0
    )
    with torch.no_grad():  # as initialised, it is sure of nothing, and every box is the same
        for name, parameter in detector.net.head.named_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) * 0.05)
        detector.net.head.classification_head.cls_logits.bias.fill_(-2.0)  # type: ignore[union-attr]
    save_detector(detector, path)
    theirs = run_theirs(path=path, backbone="efficientnet_lite0", make=None, inputs=inputs)
    assert_the_same(path, inputs, theirs)


@pytest.mark.parametrize(
    ("backbone", "backbone_config"),
    [("efficientnet_lite0", None), ("vit_b16", VIT), ("vit_b16", VIT | {"out_indices": [0, 1, 2]})],
    ids=["stages", "one map of a ViT", "three maps of a ViT"],
)
def test_a_detector_of_the_published_package_runs_here(
    backbone: str, backbone_config: dict[str, Any] | None, inputs: Path
) -> None:
    path = inputs.with_name(f"fcos_{backbone}.pt")
    if backbone_config == VIT:
        backbone_config = VIT | {"out_indices": [-1]}  # one map, before the final norm
    make = {"classes": 3, "size": SIZE, "config": {"fpn_width": 64}, "backbone_config": backbone_config}
    theirs = run_theirs(path=path, backbone=backbone, make=make, inputs=inputs)
    assert_the_same(path, inputs, theirs)
    path = path.rename(path.with_name("renamed.pt"))
    assert_the_same(path, inputs, theirs, backbone=backbone)


def test_maps_of_a_detectors_vit_are_those_of_the_published_package(inputs: Path) -> None:
    """It has no simple pyramid for FCOS, so of such a detector the backbone is what it can load."""
    torch.manual_seed(0)
    net = birder.create_network("vit_b16", 0, size=SIZE, config=VIT)
    source = save_model(
        net, inputs.with_name("vit_b16_small.pt"), signature=make_signature(SIZE, 0), rgb_stats=RGB_STATS, config=VIT
    )
    detector = new_detector(resolve(source).fetch(), ("owl",), size=SIZE, width=64, seed=0)
    assert (detector.backbone, detector.backbone_config) == ("vit_b16", VIT | {"out_indices": [-1]})
    save_detector(detector, inputs.with_name("ours.pt"))
    with pytest.raises(AssertionError, match="backbone_with_fpn.fpn"):
        run_theirs(path=inputs.with_name("ours.pt"), backbone="vit_b16", make=None, inputs=inputs)
