"""Checkpoints whose classifier `birder adapt` made, in the published package: the same logits and names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import birder
from birder.weights.backbone import backbone_sha256
from birder.weights.checkpoint import make_signature, read_checkpoint, save_model, write_checkpoint
from birder.weights.head import Head, load_head, save_head
from birder.weights.resolve import resolve
from tests.peers.comparing import RGB_STATS, TOLERANCE, relative_error, run_theirs

SMALL: dict[str, Any] = {"num_layers": 3, "num_heads": 4, "hidden_dim": 64, "mlp_dim": 256}
NETWORKS: dict[str, tuple[str, dict[str, Any] | None, int]] = {
    "a projection without bias, as BioCLIP's": ("vit_b16_pn", SMALL | {"head_bias": False}, 5),
    "no classifier": ("vit_b16", SMALL, 0),
    "a classifier with a hidden layer": ("vit_b16", SMALL | {"mlp_head": True}, 5),
    "another activation": ("vit_b16_pn_quick_gelu", SMALL, 5),
    "a convolutional network": ("efficientnet_lite0", None, 5),
}
CLASSES = ("Bubo bubo", "Größe", 'o"hare', "Σ fox")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((2, 3, 112, 112), dtype=np.float32))
    return path


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_package_loads_an_adapted_checkpoint(name: str, suffix: str, inputs: Path, photos: Path) -> None:
    network, config, outputs = NETWORKS[name]
    torch.manual_seed(2)
    net = birder.create_network(network, outputs, size=(112, 112), config=config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    source = save_model(
        net,
        inputs.with_name(f"{network}_source.pt"),
        signature=make_signature((112, 112), outputs),
        rgb_stats=RGB_STATS,
        config=config,
    )
    model = resolve(source).load_image_encoder()
    random = np.random.default_rng(3)
    dimension = model.net.embedding_size
    head = Head(
        CLASSES,
        random.normal(size=(len(CLASSES), dimension)).astype(np.float32),
        random.normal(size=len(CLASSES)).astype(np.float32),
        {
            "column": "species",
            "unknown": {"k": 5, "threshold": 0.4},
            "backbone": {"name": model.name, "dimension": dimension, "sha256": backbone_sha256(model.net.state_dict())},
        },
        random.integers(-127, 128, (500, dimension), np.int8),
    )
    path = save_head(inputs.with_name(f"owls{suffix}"), head, model=model)
    image = photos / "birds" / "owl.jpg"
    theirs = run_theirs(do="read", network=network, path=str(path), inputs=str(inputs), image=str(image))
    assert json.loads(str(theirs["class_to_idx"])) == {name: index for index, name in enumerate(CLASSES)}
    with torch.inference_mode():
        embedding = model.net.embedding(torch.from_numpy(np.load(inputs)["x"])).numpy()
    assert relative_error(embedding, theirs["embedding"]) <= TOLERANCE
    assert relative_error(embedding @ head.weight.T + head.bias, theirs["logits"]) <= TOLERANCE
    named = birder.predict(image, model=path, k=len(CLASSES))
    order = theirs["image_out"][0].argsort()[::-1]
    assert [row["label"] for row in named] == [CLASSES[i] for i in order]
    scores = [row["score"] for row in named]
    np.testing.assert_allclose(scores, theirs["image_out"][0][order], rtol=1e-4, atol=1e-6)
    read = load_head(path)
    assert read.examples is not None
    np.testing.assert_array_equal(read.examples, head.examples)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_the_published_package_wrote_names_the_rows_of_a_collection(
    suffix: str, inputs: Path, tmp_path: Path
) -> None:
    """A network that was trained there, with class names: its classifier is applied to stored embeddings."""
    path = tmp_path / f"vit_b16_theirs{suffix}"
    theirs = run_theirs(
        do="write", network="vit_b16", classes=7, size=(112, 112), config=SMALL, seed=1, path=str(path),
        inputs=str(inputs), image=None,
    )  # fmt: skip
    head = load_head(path)
    assert head.classes == tuple(f"class {i}" for i in range(7))
    assert relative_error(theirs["embedding"] @ head.weight.T + head.bias, theirs["logits"]) <= TOLERANCE
    headless = replace(read_checkpoint(path), class_to_idx={})
    assert backbone_sha256(read_checkpoint(path).state) == backbone_sha256(
        read_checkpoint(write_checkpoint(tmp_path / "other.safetensors", headless)).state
    )
