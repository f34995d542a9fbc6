"""A tiny network and images of 64 pixels, for trainings that take seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import birder
from birder.weights.checkpoint import make_signature, save_model

KINDS = ("fox", "hare", "owl")
RGB = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
CONFIG: dict[str, Any] = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64, "patch_size": 16}


def write_images(folder: Path, each: int) -> list[Path]:
    """So many images of each kind, in folders named by it: stripes across, stripes down and spots, in any colours."""
    written = []
    for kind, name in enumerate(KINDS):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            random = np.random.default_rng([kind, number])
            pattern = random.integers(0, 255, [(8, 1, 3), (1, 8, 3), (8, 8, 3)][kind], dtype=np.uint8)
            pixels = np.broadcast_to(pattern, (8, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
            written.append(folder / name / f"{number:03d}.png")
            Image.fromarray(pixels).save(written[-1])
    return written


def write_network(path: Path, images: list[Path], network: str = "vit_b16_pn") -> Path:
    """A network of random numbers, whose embeddings of the images have no mean: they are not near-duplicates."""
    torch.manual_seed(0)
    config = CONFIG if network.startswith("vit") else None
    net = birder.create_network(network, 0, size=(64, 64), config=config).eval()
    transform = birder.classification_transform((64, 64), RGB)
    with torch.no_grad():
        if config is not None:
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
            mean = net.embedding(torch.stack([transform(Image.open(image)) for image in images])).mean(dim=0)
            net.norm.bias -= mean  # type: ignore[union-attr, operator]
    return save_model(net, path, signature=make_signature((64, 64), 0), rgb_stats=RGB, config=config)


def collection(folder: Path, each: int = 14) -> birder.Collection:
    """The images in a collection, embedded by the network; their folders are their labels."""
    images = write_images(folder / "images", each)
    weights = write_network(folder / "vit_b16_pn_tiny.pt", images)
    embedded, _ = birder.embed(
        folder / "images", folder / "c.birder", str(weights), engine="torch", device="cpu", progress=None
    )
    return embedded
