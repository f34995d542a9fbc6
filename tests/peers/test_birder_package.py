"""Agreement with the published `birder` package: files go both ways, and full-size networks give the same numbers.

Both packages are called `birder`, so theirs runs in its own interpreter (BIRDER_PEERS, from `make peers`) and the two
exchange files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import birder
from birder.inference.classification import infer_image
from birder.net.base import Backbone
from birder.weights.checkpoint import make_signature
from tests.peers.comparing import RGB_STATS, TOLERANCE, compare, relative_error, run_ours, run_theirs

SMALL: dict[str, Any] = {"num_layers": 3, "num_heads": 4, "hidden_dim": 64, "mlp_dim": 256}
NETWORKS: dict[str, dict[str, Any]] = {
    "vit_b16_pn": SMALL | {"head_bias": False},
    "vit_l14_pn": SMALL | {"out_indices": [0, 2]},
    "vit_b16": SMALL,
    "vit_b16_pn_quick_gelu": SMALL,
}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((2, 3, 112, 112), dtype=np.float32))
    return path


def names_of(net: Backbone) -> list[str]:
    # With out_indices unset, theirs gives the map before the final norm under another name; the tokens tell the same.
    maps = [f"detection_{name}" for name in net.return_stages] if net.return_stages != ["neck"] else []
    return ["tokens", "embedding", "logits", "dynamic", *maps]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("network", NETWORKS)
def test_what_they_write_we_read(network: str, suffix: str, inputs: Path, photos: Path) -> None:
    path = inputs.with_name(f"{network}{suffix}")
    image = photos / "birds" / "owl.jpg"
    theirs = run_theirs(
        do="write",
        network=network,
        classes=7,
        size=(112, 112),
        config=NETWORKS[network],
        seed=1,
        path=str(path),
        inputs=str(inputs),
        image=str(image),
    )
    net, info = birder.load_model(network, path, inference=True)
    ours = run_ours(net, torch.from_numpy(np.load(inputs)["x"]))
    transform = birder.classification_transform(birder.get_size_from_signature(info.signature), info.rgb_stats)
    ours["image_out"], embedding = infer_image(net, image, transform, return_embedding=True)
    assert embedding is not None
    ours["image_embedding"] = embedding
    ours["image_tta"], _ = infer_image(net, image, transform, tta=True)
    assert info.class_to_idx["class 6"] == 6
    assert info.custom_config == NETWORKS[network]
    compare(ours, theirs, [*names_of(net), "image_out", "image_embedding", "image_tta"])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("network", NETWORKS)
def test_what_we_write_they_read(network: str, suffix: str, inputs: Path, photos: Path) -> None:
    torch.manual_seed(2)
    net = birder.create_network(network, 5, size=(112, 112), config=NETWORKS[network]).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    path = birder.save_model(
        net,
        inputs.with_name(f"{network}{suffix}"),
        signature=make_signature((112, 112), 5),
        rgb_stats=RGB_STATS,
        class_to_idx={f"class {i}": i for i in range(5)},
        config=NETWORKS[network],
    )
    image = photos / "birds" / "owl.jpg"
    theirs = run_theirs(do="read", network=network, path=str(path), inputs=str(inputs), image=str(image))
    ours = run_ours(net, torch.from_numpy(np.load(inputs)["x"]))
    transform = birder.classification_transform((112, 112), RGB_STATS)
    ours["image_out"], embedding = infer_image(net, image, transform, return_embedding=True)
    assert embedding is not None
    ours["image_embedding"] = embedding
    compare(ours, theirs, [*names_of(net), "image_out", "image_embedding"])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("network", "config"),
    [("vit_b16_pn", SMALL), ("vit_b16", SMALL | {"out_indices": [0, 2]}), ("efficientnet_lite0", None)],
)
def test_the_backbone_of_a_detector_gives_its_maps(
    network: str, config: dict[str, Any] | None, suffix: str, inputs: Path
) -> None:
    path = inputs.with_name(f"detector{suffix}")
    theirs = run_theirs(
        do="detector", network=network, detector="fcos", size=(112, 112), config=config, seed=5, path=str(path),
        inputs=str(inputs), image=None,
    )  # fmt: skip
    net, info = birder.load_model(network, path, inference=True)
    with torch.inference_mode():
        ours = net.detection_features(torch.from_numpy(np.load(inputs)["x"]))
    assert list(ours) == net.return_stages
    assert list(theirs) == list(ours)[-len(theirs) :]  # this detector leaves out the finest map, if there are four
    for name, value in theirs.items():
        assert relative_error(ours[name].numpy(), value) <= TOLERANCE
    assert info.class_to_idx == {}


@pytest.mark.slow
@pytest.mark.parametrize(("network", "classes"), [("vit_b16_pn", 512), ("vit_l14_pn", 768), ("vit_h14_pn", 1024)])
def test_full_size_networks_agree(network: str, classes: int, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, x=np.random.default_rng(3).standard_normal((1, 3, 224, 224), dtype=np.float32))
    path = tmp_path / f"{network}.pt"
    try:
        theirs = run_theirs(
            do="write",
            network=network,
            classes=classes,
            size=(224, 224),
            config={"head_bias": False},
            seed=4,
            path=str(path),
            inputs=str(inputs),
            image=None,
        )
        net, _ = birder.load_model(network, path, inference=True)
        ours = run_ours(net, torch.from_numpy(np.load(inputs)["x"]))
        parameters = sum(p.numel() for p in net.parameters())
    finally:
        path.unlink(missing_ok=True)  # up to 2.4 GB: gone before the next one
    errors = compare(ours, theirs, names_of(net))
    shown = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
    print(f"{network}, {parameters:,} parameters: relative error {shown}")
