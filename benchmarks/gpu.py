"""What a GPU does with the image encoders: agreement with the CPU, images per second, and `birder embed` as a whole.

    .venv/bin/python benchmarks/gpu.py [--device cuda] [--images 4096] [--json FILE]

Networks have random weights, since speed and rounding do not depend on training. Each figure is the median of rounds,
the contestants of a table in turn. timm's ViT-B/16 (the network that OpenCLIP's users run) is timed beside ours where
timm is installed; it is given normalised floats on the device, ours take bytes from the host as `birder embed` does.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from birder.inference.engine_torch import TorchEngine
from birder.registry import create_network

STATS: dict[str, Any] = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
NETWORKS = ("vit_b16_pn", "efficientnet_lite0")
BATCHES = (1, 32, 128, 512)
ROUNDS = 5


def crops(count: int, size: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Crops (N, size, size, 3) of scikit-learn's two sample photographs, with grain."""
    from sklearn.datasets import load_sample_images

    photographs = [np.asarray(image) for image in load_sample_images().images]
    random = np.random.default_rng(seed)
    images = np.empty((count, size, size, 3), np.uint8)
    for i in range(count):
        photograph = photographs[i % 2]
        top, left = (int(random.integers(0, edge - size)) for edge in photograph.shape[:2])
        grain = random.integers(-6, 7, (size, size, 3), dtype=np.int16)
        images[i] = np.clip(photograph[top : top + size, left : left + size] + grain, 0, 255)
    return images


def engine(network: str, device: str, precision: str, *, compile: bool = False) -> TorchEngine:
    """An engine on a network with the same random weights each time."""
    torch.manual_seed(0)
    return TorchEngine(create_network(network), STATS, torch.device(device), precision, compile=compile)


def rate(embed: Callable[[], Any], images: int) -> float:
    """Images per second; the call ends when its result is on the host."""
    start = time.perf_counter()
    embed()
    return images / (time.perf_counter() - start)


def cosines(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Cosines (N,) of rows (N, D)."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    result: npt.NDArray[np.float32] = (one * other).sum(axis=1) / lengths
    return result


def agreement(device: str) -> list[dict[str, Any]]:
    """How near embeddings on the device are to those of PyTorch in fp32 on the CPU."""
    images = crops(64, 224)
    lines = []
    for network in NETWORKS:
        reference = engine(network, "cpu", "fp32").embed(images)
        for precision, compiled in (("fp32", False), ("bf16", False), ("bf16", True)):
            found = engine(network, device, precision, compile=compiled).embed(images)
            near = cosines(reference, found)
            relative = float(np.abs(found - reference).max() / np.abs(reference).max())
            lines.append(
                {
                    "network": network,
                    "precision": precision,
                    "compiled": compiled,
                    "least_cosine": float(near.min()),
                    "largest_relative_difference": relative,
                }
            )
            print(lines[-1], flush=True)
    return lines


def timm_vit(device: str) -> Callable[[npt.NDArray[np.uint8]], Callable[[], Any]] | None:
    """ViT-B/16 of timm in bf16 autocast; None where timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        return None
    import timm

    net = timm.create_model("vit_base_patch16_clip_224", num_classes=0).to(device).eval()

    def prepare(images: npt.NDArray[np.uint8]) -> Callable[[], Any]:
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255).contiguous()

        @torch.inference_mode()
        def run() -> Any:
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                return net(x).float().cpu()

        return run

    return prepare


def speed(device: str) -> list[dict[str, Any]]:
    """Images per second of the engines, by batch."""
    lines = []
    for network in NETWORKS:
        contestants: dict[str, Callable[[npt.NDArray[np.uint8]], Callable[[], Any]]] = {}
        for precision, compiled in (("fp32", False), ("bf16", False), ("bf16", True)):
            made = engine(network, device, precision, compile=compiled)
            name = f"birder {precision}{' compiled' if compiled else ''}"
            contestants[name] = lambda images, made=made: lambda: made.embed(images)  # type: ignore[misc]
        if network == "vit_b16_pn" and (theirs := timm_vit(device)) is not None:
            contestants["timm bf16"] = theirs
        for batch in BATCHES:
            images = crops(batch, 224)
            calls = {name: prepare(images) for name, prepare in contestants.items()}
            for call in calls.values():  # compile, choose kernels
                call()
                call()
            rates: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(ROUNDS):
                for name, call in calls.items():
                    rates[name].append(rate(call, batch))
            for name, each in rates.items():
                lines.append({"network": network, "batch": batch, "engine": name, "rate": statistics.median(each)})
                print(lines[-1], flush=True)
    return lines


def embed_whole(device: str, count: int) -> list[dict[str, Any]]:
    """`birder embed` from JPEG files to committed rows, in a process of its own."""
    from PIL import Image

    from birder.weights.checkpoint import make_signature, save_model

    lines = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        for i, pixels in enumerate(crops(count, 400)):
            Image.fromarray(pixels).save(root / "images" / f"{i:06}.jpg", quality=90)
        torch.manual_seed(0)
        checkpoint = root / "vit_b16_pn_random.pt"
        save_model(create_network("vit_b16_pn"), checkpoint, signature=make_signature((224, 224), 0), rgb_stats=STATS)
        for options in ([], ["--batch-size", "128"], ["--batch-size", "128", "--compile"]):
            shutil.rmtree(root / "c.birder", ignore_errors=True)
            command = [sys.executable, "-m", "birder", "embed", root / "images", "--in", root / "c.birder"]
            start = time.perf_counter()
            subprocess.run(
                [*map(str, command), "--model", str(checkpoint), "--device", device, "--engine", "torch", *options],
                check=True,
            )
            seconds = time.perf_counter() - start
            lines.append({"options": " ".join(options), "images": count, "seconds": seconds, "rate": count / seconds})
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=4096, help="JPEG files that `birder embed` is given")
    parser.add_argument("--only", choices=("agreement", "speed", "embed"), action="append")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_float32_matmul_precision("highest")
    device = arguments.device
    name = torch.cuda.get_device_name() if device == "cuda" else device
    result: dict[str, Any] = {"device": name, "torch": torch.__version__}
    print(result, flush=True)
    wanted = arguments.only or ["agreement", "speed", "embed"]
    if "agreement" in wanted:
        result["agreement"] = agreement(device)
    if "speed" in wanted:
        result["speed"] = speed(device)
    if "embed" in wanted:
        result["embed"] = embed_whole(device, arguments.images)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
