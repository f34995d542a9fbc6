"""PT2 files: the published package loads ours, and we load theirs, with the same logits and names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import birder
from birder.weights.exported import load_pt2
from birder.weights.head import save_head
from birder.weights.resolve import resolve
from tests.classifiers import CLASSES, RGB, head_of, network_file
from tests.peers.comparing import TOLERANCE, relative_error, run_theirs


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32))
    return path


def test_the_published_package_loads_our_file(inputs: Path, tmp_path: Path) -> None:
    network = network_file(tmp_path / "vit_b16_pn_tiny.pt")
    model = resolve(network).load_image_encoder()
    owls = save_head(tmp_path / "vit_b16_pn_owls.pt", head_of(model), model=model)
    done = birder.export_model(owls, tmp_path / "exported" / "vit_b16_pn_owls.pt2")
    theirs = run_theirs(do="read pt2", network="vit_b16_pn", path=str(done.path), inputs=str(inputs))
    assert theirs["names"].tolist() == list(CLASSES)
    assert np.allclose(theirs["mean"], RGB["mean"])
    assert theirs["size"].tolist() == [32, 32]
    with torch.inference_mode():
        expected = resolve(owls).load_image_encoder().net(torch.from_numpy(np.load(inputs)["x"])).numpy()
    assert relative_error(theirs["logits"], expected) < TOLERANCE


def test_we_load_a_file_of_the_published_package(inputs: Path, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt2"
    theirs = run_theirs(do="write pt2", network="vit_s16", path=str(path), inputs=str(inputs))
    module, info = load_pt2(path)
    assert info.class_to_idx == {"fox": 0, "owl": 1}
    assert module.size == (32, 32)
    with torch.inference_mode():
        logits = module(torch.from_numpy(np.load(inputs)["x"])).numpy()
    assert relative_error(logits, theirs["logits"]) < TOLERANCE
