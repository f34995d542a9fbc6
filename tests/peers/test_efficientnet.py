"""EfficientNet-Lite0: the network of the published name computes what theirs does, and only its files load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import birder
from birder.errors import WeightsError
from birder.weights.checkpoint import make_signature
from tests.peers.comparing import RGB_STATS, compare, relative_error, run_ours, run_theirs

NAMES = ["tokens", "embedding", "logits", *(f"detection_stage{i}" for i in range(1, 5))]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    # 224 is where TensorFlow's padding is uneven in every strided convolution, 225 where it is even in the first.
    np.savez(path, x=np.random.default_rng(0).standard_normal((2, 3, 224, 225), dtype=np.float32))
    return path


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_theirs_is_ours_and_not_that_of_tensorflow(suffix: str, inputs: Path) -> None:
    path = inputs.with_name(f"efficientnet_lite0_theirs{suffix}")
    theirs = run_theirs(
        do="write", network="efficientnet_lite0", classes=7, size=(224, 225), config={"drop_path_rate": 0.1}, seed=1,
        path=str(path), inputs=str(inputs), image=None,
    )  # fmt: skip
    net, _ = birder.load_model("efficientnet_lite0", path, inference=True)
    x = torch.from_numpy(np.load(inputs)["x"])
    errors = compare(run_ours(net, x), theirs, NAMES)
    print(f"efficientnet_lite0{suffix}: relative error", {name: f"{error:.1e}" for name, error in errors.items()})
    with pytest.raises(WeightsError, match="does not name its network.* has no tf_efficientnet_lite0"):
        birder.load_model("tf_efficientnet_lite0", path)
    tensorflow = birder.create_network("tf_efficientnet_lite0", 7, size=(224, 225)).eval()
    tensorflow.load_state_dict(net.state_dict())
    assert relative_error(run_ours(tensorflow, x)["embedding"], theirs["embedding"]) > 0.01


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_we_write_they_read(suffix: str, inputs: Path) -> None:
    torch.manual_seed(3)
    net = birder.create_network("efficientnet_lite0", 5, size=(224, 225)).eval()
    path = birder.save_model(
        net,
        inputs.with_name(f"efficientnet_lite0_ours{suffix}"),
        signature=make_signature((224, 225), 5),
        rgb_stats=RGB_STATS,
    )
    theirs = run_theirs(do="read", network="efficientnet_lite0", path=str(path), inputs=str(inputs), image=None)
    compare(run_ours(net, torch.from_numpy(np.load(inputs)["x"])), theirs, NAMES)
