"""A network that `birder train` trained, in the published package: the same logits and names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from birder.weights.resolve import resolve
from tests.learning.tiny import KINDS, collection
from tests.peers.comparing import TOLERANCE, relative_error, run_theirs


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_published_package_loads_a_trained_checkpoint(suffix: str, tmp_path: Path, photos: Path) -> None:
    trained = collection(tmp_path).train(
        "label", tmp_path / f"kinds{suffix}", epochs=2, batch_size=8, lr=2e-3, size=96, device="cpu", progress=None
    )
    inputs = tmp_path / "inputs.npz"
    x = np.random.default_rng(0).standard_normal((2, 3, 96, 96), dtype=np.float32)
    np.savez(inputs, x=x)
    theirs = run_theirs(
        do="read", network="vit_b16_pn", path=str(trained.path), inputs=str(inputs),
        image=str(photos / "birds" / "owl.jpg"),
    )  # fmt: skip
    assert json.loads(str(theirs["class_to_idx"])) == {name: index for index, name in enumerate(KINDS)}
    with torch.inference_mode():
        logits = resolve(trained.path).load_image_encoder().net(torch.from_numpy(x)).numpy()
    assert relative_error(logits, theirs["logits"]) <= TOLERANCE
