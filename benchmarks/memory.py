"""Peak memory of embedding: a child embeds N small and M large photographs with ViT-B/16; its peak RSS is printed.

    python benchmarks/memory.py                         # 2,000 small ones and 50 of 12 megapixels, random weights
    python benchmarks/memory.py --small 200 --large 5   # grows with neither number, if memory is bounded
    python benchmarks/memory.py --many 100000           # as many tiny ones in one folder, with the default model

Written is the highest resident set that the kernel saw in the child, which is what runs a machine out of memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

LIMIT = 2_000_000_000
MANY_LIMIT = 1_200_000_000
DISTINCT = 1000
WEIGHTS = "vit_b16_pn_random"


def draw(folder: Path, count: int, width: int, height: int, kinds: tuple[str, ...]) -> None:
    """Photographs of random colours, smooth enough to compress as photographs do."""
    folder.mkdir()
    for i in range(count):
        colours = np.random.default_rng(i).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        image = Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
        kind = kinds[i % len(kinds)]
        suffix = "jpg" if kind == "progressive" else kind
        image.save(folder / f"{i:06}.{suffix}", progressive=kind == "progressive")


def draw_many(folder: Path, count: int) -> None:
    """Tiny photographs in one folder, of a thousand contents: what remains is the memory that their number takes."""
    folder.mkdir()
    for i in range(count):
        colours = np.random.default_rng(i % DISTINCT).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(colours).save(folder / f"IMG_{i:08}.png")


def save_weights(path: Path) -> None:
    """A ViT-B/16 with random weights, as a checkpoint."""
    import torch

    from birder.registry import create_network
    from birder.weights.checkpoint import make_signature, save_model

    torch.manual_seed(0)
    net = create_network("vit_b16_pn", size=(224, 224))
    stats = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    save_model(net, path, signature=make_signature((224, 224), 0), rgb_stats=stats)


def embed(photos: Path, collection: Path, options: list[str]) -> tuple[int, float]:
    """Run `birder embed`; peak RSS in bytes and seconds."""
    command = [sys.executable, "-m", "birder", "embed", str(photos), "--in", str(collection)]
    begun = time.perf_counter()
    process = subprocess.Popen([*command, *options])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("birder embed failed")
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit, time.perf_counter() - begun


def report(what: str, peak: int, seconds: float, limit: int) -> None:
    """Print what was measured; end with an error if it is more than was promised."""
    print(f"{what}: {seconds:.0f} s, peak {peak / 1e6:,.0f} MB")
    if peak > limit:
        raise SystemExit(f"more than the {limit / 1e6:,.0f} MB that were promised")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=2000, help="photographs of 320 x 240")
    parser.add_argument(
        "--large", type=int, default=50, help="photographs of 4000 x 3000: JPEG, progressive, PNG, TIFF"
    )
    parser.add_argument("--many", type=int, help="instead: so many tiny photographs, with the default model")
    parser.add_argument("options", nargs="*", help="more options of birder embed, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.many:
            draw_many(folder / "photos", arguments.many)
            peak, seconds = embed(folder / "photos", folder / "c", arguments.options)
            report(f"{arguments.many:,} photographs in one folder", peak, seconds, MANY_LIMIT)
            return
        (folder / "photos").mkdir()
        draw(folder / "photos" / "small", arguments.small, 320, 240, ("jpg",))
        draw(folder / "photos" / "large", arguments.large, 4000, 3000, ("jpg", "progressive", "png", "tif"))
        save_weights(folder / f"{WEIGHTS}.pt")
        peak, seconds = embed(
            folder / "photos", folder / "c", ["--model", str(folder / f"{WEIGHTS}.pt"), *arguments.options]
        )
    count = arguments.small + arguments.large
    what = f"{count:,} photographs, {arguments.large:,} of them of 12 megapixels"
    report(what, peak, seconds, LIMIT)


if __name__ == "__main__":
    main()
