"""How fast a CLIP learns, beside open_clip_train, in one run and from the same shards.

Run by the interpreter that has open_clip_train, with this project first on its path:

    PYTHONPATH=. .venv-peers/bin/python benchmarks/clip_training.py [--rounds 5] [--batch-size 32] [--updates 12]

The shards are written first: the example images, each cropped a few times at random, as JPEG of 224 x 224 with the ten
texts of TreeOfLife. Both trainings begin with the same weights, in a process of their own, with the same threads, one
process that loads, and one text of each sample. Rounds alternate, so that what else the machine does meets both. Images
a second are those of all updates but the first ones, during which buffers fill. The same by the time of the processor
that the training took, without the process that loads, hardly depends on what else the machine does. Data wait is the
share of the time in which the training waits for its next batch.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 256,
        "vision_cfg": {"image_size": 224, "layers": 4, "width": 256, "patch_size": 16, "head_width": 64},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 4},
    },
    "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]},
}
SHARDS, CROPS = 4, 8
FIRST = 3
"""Updates that are not timed."""


def write_shards(folder: Path) -> None:
    """A thousand samples in the layout of TreeOfLife, and `KEY.txt`, which is the text that open_clip_train reads."""
    from PIL import Image

    random = np.random.default_rng(0)
    with (ROOT / "examples" / "photos" / "photos.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    members: list[list[tuple[str, bytes]]] = []
    for number in range(CROPS * len(rows)):
        row = rows[number % len(rows)]
        with Image.open(ROOT / "examples" / "photos" / row["file_name"]) as opened:
            image = opened.convert("RGB")
        side = int(min(image.size) * random.uniform(0.6, 1.0))
        left, top = (int(random.integers(0, edge - side + 1)) for edge in image.size)
        image = image.resize((224, 224), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=100)
        key = str(uuid.UUID(int=int(random.integers(0, 2**62)) << 64 | number))
        taxon = f"{row['kingdom']} {row['group']} {row['label']}"
        texts = {
            "scientific_name": row["label"], "taxonomic_name": taxon, "common_name": row["label"],
            "sci": f"a photo of {row['label']}.", "com": f"a photo of {row['label']}.", "taxon": f"a photo of {taxon}.",
            "taxonTag": f"a photo of kingdom {taxon}.", "sci_com": f"a photo of {row['label']}.",
            "taxon_com": f"a photo of {taxon} with common name {row['label']}.",
            "taxonTag_com": f"a photo of kingdom {taxon} with common name {row['label']}.",
        }  # fmt: skip
        members.append(
            [(f"{key}.jpg", buffer.getvalue())]
            + [(f"{key}.{name}.txt", text.encode()) for name, text in texts.items()]
            + [(f"{key}.txt", texts["taxon"].encode())]
        )
    order = random.permutation(len(members)).tolist()
    sizes = {}
    for shard in range(SHARDS):
        chosen = order[shard::SHARDS]
        name = f"shard-{shard:06}.tar"
        with tarfile.open(folder / name, "w") as tar:
            for number in chosen:
                for member, data in members[number]:
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        sizes[name] = len(chosen)
    (folder / "sizes.json").write_text(json.dumps(sizes))


def write_model(folder: Path) -> None:
    """The weights that both begin with, in OpenCLIP's layout."""
    import open_clip
    import torch

    torch.manual_seed(0)
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    torch.save(open_clip.CLIP(**CONFIG["model_cfg"]).state_dict(), folder / "open_clip_pytorch_model.bin")


class Log:
    """When each update ended, what the processors had done until then, and how long it had waited for its batch."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.used: list[float] = []
        self.waits: list[float] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """What open_clip_train calls, as if this were TensorBoard."""
        if name == "train/data_time":
            self.updated(value)

    def updated(self, waited: float) -> None:
        """An update has ended."""
        self.ends.append(time.perf_counter())
        self.used.append(time.process_time())
        self.waits.append(waited)

    def figures(self, batch_size: int) -> dict[str, float]:
        """Images a second, images a second of processor time without the loading process, and data wait."""
        images, seconds = batch_size * (len(self.ends) - FIRST), self.ends[-1] - self.ends[FIRST - 1]
        used = self.used[-1] - self.used[FIRST - 1]
        return {"rate": images / seconds, "of processor": images / used, "wait": sum(self.waits[FIRST:]) / seconds}


def theirs(folder: Path, asked: argparse.Namespace) -> dict[str, float]:
    """The main program of open_clip_train, with what it tells TensorBoard."""
    from open_clip_train import data as shards
    from open_clip_train import main as program

    # From 0.2.90 on, webdataset marks the end of a shard, which this reader, written for older versions, stumbles over.
    shards.tar_file_expander = functools.partial(shards.tar_file_expander, eof_value=None)
    log = Log()
    train_one_epoch = program.train_one_epoch
    program.train_one_epoch = lambda *given, **named: train_one_epoch(*given, **(named | {"tb_writer": log}))
    program.main([
        "--model", f"local-dir:{folder / 'model'}", "--dataset-type", "webdataset", "--dataset-resampled",
        "--train-data", str(folder / f"shard-{{000000..{SHARDS - 1:06}}}.tar"),
        "--train-num-samples", str(asked.batch_size * asked.updates), "--epochs", "1", "--workers", "1",
        "--batch-size", str(asked.batch_size), "--device", "cpu", "--precision", asked.precision, "--lr", "1e-4",
        "--beta1", "0.9", "--beta2", "0.98", "--eps", "1e-6", "--wd", "0.2", "--warmup", "2", "--local-loss",
        "--gather-with-grad", "--log-every-n-steps", "1", "--logs", str(folder), "--name", f"theirs {time.time_ns()}",
        "--save-frequency", "0", "--aug-cfg", "scale=(0.9, 1.0)",
    ])  # fmt: skip
    return log.figures(asked.batch_size)


def ours(folder: Path, asked: argparse.Namespace) -> dict[str, float]:
    """`train_clip`, which `birder train-clip` runs."""
    import torch

    from birder.learning import clip
    from birder.learning.clip_checkpoint import ClipFolder
    from birder.learning.clip_data import ClipBatch, ClipBatches
    from birder.learning.clip_model import start_of
    from birder.learning.parallel import Parallel

    log = Log()
    waits = []

    class Timed(ClipBatches):
        def __iter__(self) -> Iterator[ClipBatch]:
            batches = super().__iter__()
            while True:
                began = time.perf_counter()
                batch = next(batches)
                waits.append(time.perf_counter() - began)
                yield batch

    clip.ClipBatches = Timed  # type: ignore[attr-defined]
    recipe = clip.ClipRecipe(
        texts=("taxon",), batch_size=asked.batch_size, accumulate=1, epochs=1, warmup=2,
        precision="bf16" if asked.precision == "amp_bf16" else "fp32",
    )  # fmt: skip
    data = clip.ClipData(
        [str(folder / f"shard-{number:06}.tar") for number in range(SHARDS)], asked.batch_size * asked.updates
    )
    with tempfile.TemporaryDirectory() as to:
        clip.train_clip(
            start_of(None, folder / "model"), data, recipe, ClipFolder(Path(to)),
            Parallel(0, 1, 1, torch.device("cpu")), tell=lambda _: log.updated(waits[-1]),
        )  # fmt: skip
    return log.figures(asked.batch_size)


def child(who: str, folder: Path, asked: argparse.Namespace) -> dict[str, float]:
    """One training in a process of its own."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(asked.threads), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    command = [sys.executable, __file__, "--child", who, str(folder), "--batch-size", str(asked.batch_size)]
    command += ["--updates", str(asked.updates), "--precision", asked.precision, "--threads", str(asked.threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def spread(values: list[float], digits: int = 1) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", choices=("fp32", "amp_bf16"), default="fp32")
    parser.add_argument("--child", nargs=2, metavar=("WHO", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        who, folder = asked.child
        print(json.dumps({"ours": ours, "theirs": theirs}[who](Path(folder), asked)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder)
        write_model(folder / "model")
        found: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
        for number in range(asked.rounds):
            for who, results in found.items():
                results.append(child(who, folder, asked))
                print(f"round {number + 1}: {who} {results[-1]}", file=sys.stderr, flush=True)
    for who, results in found.items():
        waits = spread([100 * each["wait"] for each in results])
        print(f"{who}: {spread([each['rate'] for each in results], 2)} images/s, waiting for data {waits} %")
    for figure, what in (("rate", "images/s"), ("of processor", "images per second of processor time")):
        ratios = [100 * a[figure] / b[figure] for a, b in zip(found["ours"], found["theirs"], strict=True)]
        print(f"ours / theirs, {what}: {spread(ratios)} %")


if __name__ == "__main__":
    main()
