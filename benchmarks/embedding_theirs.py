"""The peers' half of benchmarks/embedding.py, run by the interpreter of .venv-peers.

    python embedding_theirs.py birder|pybioclip CHECKPOINT FOLDER

Embeds every photograph of a folder as the package's own command does (birder: its loader with two workers and
`infer_dataloader`; pybioclip: the loop of `bioclip embed`), after one batch to warm up that is not timed, and prints
{"images": n, "seconds": s}.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

BATCH = 32  # the same for both, and for Birder


def run_birder(checkpoint: str, paths: list[str]) -> float:
    """`birder` 0.8.4: torch loader with two workers."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    import birder  # the published package
    from birder.common import fs_ops
    from birder.inference.classification import infer_dataloader

    net, info = fs_ops.load_model(torch.device("cpu"), "vit_b16_pn", path=checkpoint, inference=True)
    transform = birder.classification_transform(birder.get_size_from_signature(info.signature), info.rgb_stats)

    class Photos(Dataset[Any]):
        def __init__(self, paths: list[str]) -> None:
            self.paths = paths

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, i: int) -> tuple[str, torch.Tensor, int]:
            return self.paths[i], transform(Image.open(self.paths[i])), 0

    def embed(paths: list[str]) -> None:
        loader = DataLoader(Photos(paths), batch_size=BATCH, num_workers=2)
        infer_dataloader(torch.device("cpu"), net, loader, return_embedding=True)

    embed(paths[:BATCH])
    begun = time.perf_counter()
    embed(paths)
    return time.perf_counter() - begun


def run_pybioclip(folder: str, paths: list[str]) -> float:
    """`pybioclip` 2.1.6: open and preprocess a batch, encode it, turn it into lists."""
    from bioclip.predict import BaseClassifier

    classifier = BaseClassifier(model_str=f"local-dir:{folder}")

    def embed(paths: list[str]) -> list[list[float]]:
        rows: list[list[float]] = []
        for i in range(0, len(paths), BATCH):
            images = [classifier.ensure_rgb_image(path) for path in paths[i : i + BATCH]]
            with torch.no_grad():
                rows += classifier.create_image_features(images, normalize=False).tolist()
        return rows

    embed(paths[:BATCH])
    begun = time.perf_counter()
    embed(paths)
    return time.perf_counter() - begun


def main() -> None:
    """Run one peer on one folder."""
    which, checkpoint, folder = sys.argv[1:]
    paths = sorted(map(str, Path(folder).glob("*.jpg")))
    seconds = {"birder": run_birder, "pybioclip": run_pybioclip}[which](checkpoint, paths)
    print(json.dumps({"images": len(paths), "seconds": seconds}))


main()
