"""How fast photographs become rows, against the published packages on the same files and weights.

    make bench-embedding           (or: .venv/bin/python benchmarks/embedding.py [--rounds 3] [--only NAME,NAME])
    .venv/bin/python benchmarks/embedding.py --stills shared/data/camera-trap      the user's own images as well

Everything runs in its own process, the contestants of a row in turn (A B C A B C ...), so that a slow minute of the
machine hits all of them. Photographs are mosaics of scikit-learn's two sample photographs with grain, as JPEG of
quality 90; with --stills, real ones are embedded beside them, each so often that there are 128 files, which differ in
bytes behind the image's end: a run of a few seconds would mostly tell how it begins and ends. Writes embedding.json
into the working folder (BIRDER_BENCH, or demo/bench), and with --write the table in benchmarks/RESULTS.md: the one for
processors that have bf16, or the one for those that have not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
PEERS = Path(os.environ.get("BIRDER_PEERS", ROOT / ".venv-peers" / "bin" / "python"))
WORK = Path(os.environ.get("BIRDER_BENCH", ROOT / "demo" / "bench"))
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
SIZES = {"3mp": ((2048, 1536), 128), "12mp": ((4000, 3000), 64)}
SMALL = 10_000
COMPARED = {"3mp": "3 MP", "12mp": "12 MP", "stills": "camera-trap images"}
STILLS = 128
"""Files of real images; the first by name of each of their folders in turn, and again where there are fewer."""


def make_photographs() -> None:
    """Mosaics at 3 and 12 megapixels, and small photographs, each file different."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    tiles = [np.asarray(image) for image in load_sample_images().images]
    random = np.random.default_rng(0)

    def mosaic(width: int, height: int) -> Image.Image:
        canvas = np.zeros((height, width, 3), np.uint8)
        for top in range(0, height, 427):
            for left in range(0, width, 640):
                tile = tiles[random.integers(2)][:: random.choice([-1, 1]), :: random.choice([-1, 1])]
                part = tile[: height - top, : width - left]
                canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
        grain = random.integers(-6, 7, canvas.shape, dtype=np.int16)
        return Image.fromarray(np.clip(canvas + grain, 0, 255).astype(np.uint8))

    for name, (size, count) in SIZES.items():
        folder = WORK / name
        if len(list(folder.glob("*.jpg"))) != count:
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                mosaic(*size).save(folder / f"{i:04}.jpg", quality=90)
    for count in (1_000, SMALL):
        folder = WORK / f"small-{count}"
        if len(list(folder.glob("*.jpg"))) != count:
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                tile = tiles[i % 2]
                top, left = random.integers(0, 107), random.integers(0, 320)
                crop = Image.fromarray(tile[top : top + 320, left : left + 320])
                crop.save(folder / f"{i:05}.jpg", quality=int(random.integers(70, 95)))


def whole(file: Path) -> bool:
    """Whether Pillow reads a file to its end, in RGB; the peers stop at one that is cut short, or in CMYK."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            image.load()
            return image.mode == "RGB"
    except OSError:
        return False


def copy_stills(folder: Path) -> None:
    """Real images from all folders under one, in one folder, without those that are damaged."""
    folders = [sorted(each.glob("*.[jJ][pP]*[gG]")) for each in (folder, *sorted(folder.rglob("*/")))]
    in_turn = [file for row in itertools.zip_longest(*folders) for file in row if file is not None and whole(file)]
    if not in_turn:
        raise SystemExit(f"There are no JPEGs in {folder}.")
    to = WORK / "stills"
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for number, file in enumerate(itertools.islice(itertools.cycle(in_turn), STILLS)):
        copied = to / f"{number:04}.jpg"
        shutil.copyfile(file, copied)
        if number >= len(in_turn):
            with copied.open("ab") as behind:
                behind.write(number.to_bytes(2))


def make_weights() -> tuple[Path, Path]:
    """One random ViT-B/16, as a Birder checkpoint and in OpenCLIP's layout."""
    checkpoint, folder = WORK / "vit_b16_pn_random.pt", WORK / "openclip"
    if checkpoint.exists() and folder.exists():
        return checkpoint, folder
    code = f"""
import json, sys, torch, open_clip
from pathlib import Path
torch.manual_seed(0)
folder = Path({str(folder)!r})
folder.mkdir(parents=True, exist_ok=True)
config = open_clip.get_model_config("ViT-B-16")
net = open_clip.CLIP(**config)
json.dump({{"model_cfg": config, "preprocess_cfg": {{"mean": {list(CLIP["mean"])}, "std": {list(CLIP["std"])}}}}},
          open(folder / "open_clip_config.json", "w"))
torch.save(net.state_dict(), folder / "open_clip_pytorch_model.bin")
"""
    subprocess.run([PEERS, "-c", code], check=True)
    subprocess.run([ROOT / ".venv/bin/birder", "convert", folder, "--to", checkpoint], check=True)
    return checkpoint, folder


def ours(*arguments: object, model: object) -> dict[str, float]:
    """One run of `birder embed` into an empty collection: images/s as it reports, and whole-process seconds."""
    to = WORK / "run.birder"
    shutil.rmtree(to, ignore_errors=True)
    return embed(*arguments, "--in", to, "--model", model)


def embed(*arguments: object) -> dict[str, float]:
    """Run `birder embed`; what it says about its speed."""
    begun = time.perf_counter()
    done = subprocess.run(
        [ROOT / ".venv/bin/birder", "embed", *map(str, arguments)], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - begun
    said = re.search(r"([\d.,]+) s, ([\d.,]+) images/s", done.stderr)
    ready = re.search(r"ready after ([\d.]+) s", done.stderr)
    result = {"process_seconds": seconds}
    if said:
        result["rate"] = float(said[2].replace(",", ""))
    if ready:
        result["ready"] = float(ready[1])
    return result


def theirs(which: str, checkpoint: Path, folder: Path) -> dict[str, float]:
    """One run of a peer."""
    script = ROOT / "benchmarks" / "embedding_theirs.py"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [PEERS, script, which, checkpoint, folder], capture_output=True, text=True, cwd=WORK, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{which} failed:\n{done.stderr[-3000:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return {"rate": said["images"] / said["seconds"]}


def share_of_encoder(model: Path, folder: Path) -> dict[str, float]:
    """End to end as a share of the encoder alone, and that of the machine's peak: encoder, pipeline, encoder, peak.

    The peak is the rate of a large matrix product in the precision of the encoder.
    """
    code = f"""
import json, shutil, time, numpy as np, torch
from torch.utils.flop_counter import FlopCounterMode
from pathlib import Path
from birder.pipeline.embed import embed_images, plan
from birder.collection.model import load_encoder
from birder.collection.storage import Storage
from birder.sources import find_images
from birder.weights.resolve import resolve
encoder = load_encoder({str(model)!r})
batch = np.random.default_rng(0).integers(0, 256, (32, *encoder.engine.size, 3), dtype=np.uint8)
def alone(seconds=12.0):
    encoder.engine.embed(batch)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        encoder.engine.embed(batch)
        count += len(batch)
    return count / (time.perf_counter() - begun)
before = alone()
to = Path({str(WORK / "share.birder")!r})
shutil.rmtree(to, ignore_errors=True)
collection = Storage.create_or_open(to, encoder.card)
todo = plan(collection, find_images([{str(folder)!r}]))
summary = embed_images(collection, encoder.engine, encoder.transform, todo)
after = alone()
net = resolve({str(model)!r}).load_image_encoder().net
with torch.no_grad(), FlopCounterMode(display=False) as counter:
    net.embedding(torch.zeros(1, 3, *encoder.engine.size))
dtype = torch.bfloat16 if encoder.engine.precision == "bf16" else torch.float32
a = torch.randn(4096, 4096).to(dtype)
best = 1e9
for _ in range(6):
    begun = time.perf_counter()
    a @ a
    best = min(best, time.perf_counter() - begun)
peak = 2 * 4096**3 / best
rate = (before + after) / 2
print(json.dumps({{
    "end_to_end": summary.finished / summary.seconds, "encoder": rate,
    "peak": peak / 1e9, "of_peak": rate * counter.get_total_flops() / peak,
}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said: dict[str, float] = json.loads(done.stdout)
    return said | {"rate": said["end_to_end"] / said["encoder"]}


def rounds(contestants: dict[str, Callable[[], dict[str, float]]], count: int) -> dict[str, dict[str, list[float]]]:
    """Run the contestants in turn; their figures by name, in order."""
    results: dict[str, dict[str, list[float]]] = {name: {} for name in contestants}
    for number in range(count):
        for name, run in contestants.items():
            for key, value in run().items():
                results[name].setdefault(key, []).append(value)
            print(f"  round {number + 1}: {name} {results[name]}", file=sys.stderr, flush=True)
    return results


def line(values: list[float]) -> str:
    """Median and spread."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Run what was asked for and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/RESULTS.md")
    parser.add_argument("--only", help="comma-separated: 3mp, 12mp, stills, share, small, ray")
    parser.add_argument("--stills", type=Path, help="a folder of real images")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else ["3mp", "12mp", "stills", "share", "small", "ray"]
    if options.stills is None:
        wanted = [name for name in wanted if name != "stills"]
    WORK.mkdir(parents=True, exist_ok=True)
    from birder.inference.engine_openvino import has_bf16

    os.environ.setdefault("BIRDER_CACHE", str(WORK / "cache"))
    make_photographs()
    if "stills" in wanted:
        copy_stills(options.stills)
    checkpoint, openclip = make_weights()
    kept = WORK / "embedding.json"
    figures: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}

    if {*COMPARED} & set(wanted):
        subprocess.run(
            [ROOT / ".venv/bin/birder", "quantize", WORK / "3mp", "--model", checkpoint, "--sample", "48"], check=True
        )
    for name in COMPARED:
        if name not in wanted:
            continue
        folder = WORK / name
        ours(WORK / "small-1000" / "0000*.jpg", model=checkpoint)  # the graph is kept once before anything is timed
        figures[name] = rounds(
            {
                "birder here": partial(ours, folder, model=checkpoint),
                "birder here, int8": partial(ours, folder, "--precision", "int8", model=checkpoint),
                "published birder": partial(theirs, "birder", checkpoint, folder),
                "pybioclip": partial(theirs, "pybioclip", openclip, folder),
            },
            options.rounds,
        )
    if "share" in wanted:
        figures["share"] = rounds({"share": lambda: share_of_encoder(checkpoint, WORK / "3mp")}, options.rounds)
    if "small" in wanted:
        default = "efficientnet_lite0_in1k"
        ours(WORK / "small-1000" / "0000*.jpg", model=default)
        figures["small"] = rounds(
            {
                "1,000": lambda: ours(WORK / "small-1000", model=default),
                "10,000": lambda: ours(WORK / f"small-{SMALL}", model=default),
                "second run": lambda: embed(WORK / f"small-{SMALL}", "--in", WORK / "run.birder"),
            },
            options.rounds,
        )
    if "ray" in wanted:
        figures["ray"] = rounds(
            {
                "local": lambda: ours(WORK / "small-1000", model=checkpoint),
                "--ray": lambda: ours(WORK / "small-1000", "--ray", model=checkpoint),
            },
            options.rounds,
        )
    figures["machine"] = {
        "bf16": has_bf16(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "OPENBLAS": {k: v for k, v in os.environ.items() if k.startswith("OPENBLAS")},
    }
    kept.write_text(json.dumps(figures, indent=1))
    written = "\n".join(table(figures))
    print(written)
    if options.write:
        kind = f"embedding {'with' if has_bf16() else 'without'} bf16"
        begin, end = f"<!-- {kind}: begin -->", f"<!-- {kind}: end -->"
        path = ROOT / "benchmarks" / "RESULTS.md"
        before, _, rest = path.read_text().partition(begin)
        path.write_text(before + begin + "\n" + written + "\n" + end + rest.partition(end)[2])


def table(figures: dict[str, Any]) -> list[str]:
    """What was measured, as Markdown: medians with their spread, ratios of medians, and what is wanted.

    What is wanted depends on whether the processor computes in bf16.
    """
    bf16 = figures["machine"]["bf16"]
    usual, int8, share_wanted = ("3.0 x", "4.3 x", "85 %") if bf16 else ("1.25 x", "", "95 %")
    lines = ["| what | measured | ratio | wanted |", "|---|---|---|---|"]
    for name, what in COMPARED.items():
        if name not in figures:
            continue
        rates = {who: run["rate"] for who, run in figures[name].items()}
        peers = {who: rates[who] for who in ("published birder", "pybioclip")}
        fastest = max(statistics.median(values) for values in peers.values())
        for who, values in rates.items():
            ratio = f"{statistics.median(values) / fastest:.2f} x" if who not in peers else ""
            target = {"birder here": usual, "birder here, int8": int8}.get(who, "")
            lines.append(f"| {what}, {who} | {line(values)} images/s | {ratio} | {target} |")
    if "share" in figures:
        share = figures["share"]["share"]
        what = f"{line(share['end_to_end'])} of {line(share['encoder'])} images/s"
        ratio = f"{100 * statistics.median(share['rate']):.0f} %"
        lines.append(f"| end to end of the encoder alone, 3 MP, one process | {what} | {ratio} | {share_wanted} |")
        peak = f"{line(share['peak'])} GFLOP/s of a large matrix product"
        lines.append(
            f"| encoder alone of the machine's peak | {peak} | {100 * statistics.median(share['of_peak']):.0f} % | |"
        )
    if "small" in figures:
        small = figures["small"]
        few, many = small["1,000"]["rate"], small["10,000"]["rate"]
        ratio = f"{100 * statistics.median(many) / statistics.median(few):.0f} %"
        lines.append(f"| 10,000 small against 1,000 | {line(many)} against {line(few)} images/s | {ratio} | 95 % |")
        lines.append(f"| second run over the 10,000 | {line(small['second run']['process_seconds'])} s | | 3 s |")
        ready = [second for run in ("1,000", "10,000") for second in small[run]["ready"]]
        lines.append(f"| ready after the command starts, default model | {line(ready)} s | | 4 s |")
    if "3mp" in figures:
        ready = figures["3mp"]["birder here"]["ready"]
        lines.append(f"| ready after the command starts, ViT-B/16, graph kept | {line(ready)} s | | 4 s |")
    if "ray" in figures:
        ray, local = figures["ray"]["--ray"]["rate"], figures["ray"]["local"]["rate"]
        ratio = f"{100 * statistics.median(ray) / statistics.median(local):.0f} %"
        what = f"{line(ray)} against {line(local)} images/s"
        lines.append(
            f"| `--ray` against local, ViT-B/16, 1,000 small, Ray's start included | {what} | {ratio} | 80 % |"
        )
    return lines


def _processor() -> str:
    facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    said = {name.strip(): value.strip() for name, value in facts.items()}
    return ", ".join(f"{name} {said[name]}" for name in ("model name", "cpu family", "model") if name in said)


if __name__ == "__main__":
    main()
