"""What commands cost as a collection grows: seconds and peak memory at several sizes, and the exponent between them.

    .venv/bin/python benchmarks/growth.py [--rows 10000,100000,1000000] [--only plan,import,...]

Each collection has the default model's card, one row a file (links to a few images, in folders of a thousand), and
made embeddings in the shape of real ones: 500 labels, each a direction, and individuals around it with variances that
fall over their axes; a tenth of the rows has no label. Every command is one of `birder`, in a process of its own;
memory is the highest resident set that the kernel saw in it. The exponent is the slope between the logarithms of rows
and of processor time, of the two largest sizes: 1 where twice the rows take twice the time. What every start takes
(importing packages) makes it lower where a command takes seconds.

Writes growth.json into the working folder (BIRDER_BENCH, or demo/bench), and prints a table. A million rows take 15 GB
of disk.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

ROOT = Path(__file__).parents[1]
WORK = Path(os.environ.get("BIRDER_BENCH", ROOT / "demo" / "bench"))
LABELS = 500
AT_ONCE = 4096
MOST_TIME = {"map": 1.3, "duplicates": 1.3}
"""Exponents that are wanted at most; 1.1 for the others."""
MOST_MEMORY = 3_000_000_000

STEPS: dict[str, list[str]] = {
    "plan": ["embed", "photos", "--in", "c.birder"],
    "stats": ["stats", "c.birder"],
    "stats --column": ["stats", "c.birder", "--column", "label"],
    "export": ["export", "c.birder", "--to", "rows.parquet", "--force"],
    "import": ["import", "imported.birder", "rows.parquet", "--model", "efficientnet_lite0_in1k"],
    "predict --like": ["predict", "--in", "c.birder", "--like", "c.birder", "--column", "label", "--save"],
    "adapt": ["adapt", "c.birder", "--column", "label", "--to", "labels.head.safetensors", "--detached", "--force"],
    "predict --model": ["predict", "--in", "c.birder", "--model", "labels.head.safetensors", "--save"],
    "tidy": ["tidy", "c.birder"],
    "duplicates": ["duplicates", "c.birder", "--to", "duplicates.csv", "--force"],
    "map": ["map", "c.birder", "--recompute"],
}


def draw(folder: Path, rows: int) -> Iterator[Path]:
    """So many images in folders of a thousand; the files of a folder are links to one."""
    for number in range(rows):
        to = folder / f"{number // 1000:04}" / f"{number % 1000:03}.png"
        if number % 1000 == 0:
            to.parent.mkdir(parents=True)
            buffer = io.BytesIO()
            Image.new("RGB", (8, 8), (number // 1000 % 256, number // 256_000, 99)).save(buffer, "PNG")
            to.write_bytes(buffer.getvalue())
        else:
            to.hardlink_to(to.with_name("000.png"))
        yield to


def embeddings(first: int, count: int, size: int) -> npt.NDArray[np.float32]:
    """Rows of the synthetic embeddings."""
    spread = np.sqrt((np.arange(size) + 1) ** -0.45 * np.exp(-np.arange(size) / 130)).astype(np.float32)
    kinds = np.random.default_rng(0).normal(size=(LABELS, size)).astype(np.float32) * spread * 0.77
    noise = np.random.default_rng([1, first]).normal(size=(count, size)).astype(np.float32) * spread * 0.63
    rows: npt.NDArray[np.float32] = kinds[np.arange(first, first + count) % LABELS] + noise
    return rows


def make(folder: Path, rows: int) -> None:
    """The images and their collection."""
    from birder.collection.model import load_encoder
    from birder.collection.storage import Content, Row, Storage
    from birder.registry import DEFAULT_WEIGHTS
    from birder.sources import Stamp, path_to_uri

    card = load_encoder(DEFAULT_WEIGHTS, "cpu").card
    storage = Storage.create_or_open(folder / "c.birder", card)
    files = draw(folder / "photos", rows)
    with storage.writing():
        for first in range(0, rows, AT_ONCE):
            vectors = embeddings(first, min(AT_ONCE, rows - first), card.embedding_size)
            block = []
            for number, vector in enumerate(vectors, first):
                file = next(files)
                status = file.stat()
                stamp = Stamp(status.st_size, status.st_mtime_ns // 1000)
                content = Content(vector, 8, 8, None, None, None)
                columns = {"label": f"kind {number % LABELS:03}" if number % 10 else None}
                block.append(Row(path_to_uri(file), f"{number:064x}", stamp, content, columns=columns))
            storage.write(block)


def measure(folder: Path, arguments: list[str]) -> dict[str, float]:
    """Seconds and peak bytes of a command."""
    begun = time.perf_counter()
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "birder", *arguments], cwd=folder, stdout=said, stderr=said,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"birder {' '.join(arguments)} failed:\n{(folder / 'said.txt').read_text()[-3000:]}")
    processor = usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": time.perf_counter() - begun, "processor_seconds": processor, "peak": peak}


def exponent(figures: dict[str, dict[str, float]], what: str) -> float | None:
    """The slope of the two largest sizes in logarithms."""
    sizes = sorted(figures, key=int)[-2:]
    if len(sizes) < 2:
        return None
    few, many = (figures[size][what] for size in sizes)
    return math.log(many / few) / math.log(int(sizes[1]) / int(sizes[0]))


def table(figures: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """What was measured, as Markdown: seconds and MB at each size, and the exponents."""
    sizes = sorted({size for step in figures.values() for size in step}, key=int)
    lines = ["| command | " + " | ".join(f"{int(size):,} rows" for size in sizes) + " | exponent of time | wanted |"]
    lines.append("|---" * (len(sizes) + 3) + "|")
    for step, found in figures.items():
        cells = [
            f"{found[size]['seconds']:.1f} s, {found[size]['peak'] / 1e6:,.0f} MB" if size in found else ""
            for size in sizes
        ]
        slope = exponent(found, "processor_seconds")
        told = "" if slope is None else f"{slope:.2f}"
        lines.append(f"| `birder {step}` | {' | '.join(cells)} | {told} | {MOST_TIME.get(step, 1.1)} |")
    return lines


def main() -> None:
    """Measure what was asked for and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--only", help=f"comma-separated: {', '.join(STEPS)}")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else list(STEPS)
    kept = WORK / "growth.json"
    figures: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for rows in map(int, options.rows.split(",")):
        folder = WORK / f"growth-{rows}"
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            maker = multiprocessing.get_context("spawn").Process(target=make, args=(folder, rows))
            maker.start()  # a command's peak counts what its parent had when it started it
            maker.join()
            if maker.exitcode:
                raise SystemExit(f"{folder} cannot be made.")
            (folder / "made").touch()
        for step in wanted:
            if step == "import":
                shutil.rmtree(folder / "imported.birder", ignore_errors=True)
            figures.setdefault(step, {})[str(rows)] = found = measure(folder, STEPS[step])
            print(f"{rows:,} rows: {step} {found}", file=sys.stderr, flush=True)
            kept.write_text(json.dumps(figures, indent=1))
    print("\n".join(table(figures)))


if __name__ == "__main__":
    main()
