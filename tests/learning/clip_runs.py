"""Small trainings of CLIP: their samples, what they begin with, and how tests and their children run them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from birder.learning.clip import (
    ClipData,
    ClipRecipe,
    TrainedClip,
)
from birder.learning.clip import train_clip as train
from birder.learning.clip_checkpoint import ClipFolder
from birder.learning.clip_judge import ClipJudge
from birder.learning.clip_locked import LockedEncoder
from birder.learning.clip_model import Start, TextSize, start_of, with_new_text
from birder.learning.parallel import Parallel
from birder.registry import create_network

ALONE = Parallel(0, 1, 1, torch.device("cpu"))
TINY = Path(__file__).parents[1] / "data" / "openclip"
CONFIG: dict[str, Any] = {
    "patch_size": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 64, "mlp_dim": 128, "head_bias": False
}  # fmt: skip
RGB = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


def write_shards(folder: Path, images: int, shards: int, *, first: int = 0, damaged: bool = False) -> list[str]:
    """Shards of images in colours and stripes of their own, each with texts of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"shard-{number}.tar" for number in range(shards)]
    for shard, path in enumerate(paths):
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(first + shard, first + images, shards):
                random = np.random.default_rng(number)
                pixels = random.integers(0, 255, (4, 4, 3), dtype=np.uint8).repeat(12, axis=0).repeat(12, axis=1)
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
                data = buffer.getvalue()[:100] if damaged and number % 8 == 3 else buffer.getvalue()
                name = f"Genus{number // 4} species{number}"
                texts = {"sci": name, "com": f"bird {number}", "taxon": f"Animalia Aves {name}", "text": name}
                texts |= {"sci_com": f"{name} or bird {number}", "taxon_com": f"Animalia {name} or bird {number}"}
                for ending, content in [("jpg", data), *((f"{k}.txt", v.encode()) for k, v in texts.items())]:
                    info = tarfile.TarInfo(f"{number:04d}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    (folder / "sizes.json").write_text(json.dumps({path.name: images // shards for path in paths}))
    return [str(path) for path in paths]


def tiny_start(seed: int = 0, *, drop: float = 0.0) -> Start:
    """A tiny CLIP of new weights."""
    torch.manual_seed(seed)
    image = create_network("vit_b16_pn", 32, size=(48, 48), config=CONFIG | {"drop_path_rate": drop})
    return with_new_text("vit_b16_pn", image, TextSize(32, 32, 2, 1, context=16), RGB, None, None)


def run(
    folder: Path,
    shards: list[str],
    recipe: ClipRecipe,
    *,
    start: Start | None = None,
    resumed: bool = False,
    **also: Any,
) -> tuple[Start, TrainedClip | None]:
    start = start or tiny_start()
    state = ClipFolder(folder)
    state.begin({}, resume=resumed, force=False)
    data = ClipData(shards, also.pop("samples", 32), also.pop("replay", ()), also.pop("workers", 1))
    locked = LockedEncoder(start, ALONE.device, "fp32") if recipe.lock_image else None
    return start, train(start, data, recipe, state, ALONE, locked=locked, resumed=resumed, **also)


def killed_start(locked: bool) -> Start:
    return start_of(None, TINY) if locked else tiny_start(drop=0.3)


def killed_recipe(locked: bool) -> ClipRecipe:
    return ClipRecipe(
        batch_size=6, accumulate=2, epochs=4, warmup=2, lr=1e-3, mix="per-sample", resample=not locked,
        lock_image=locked,
    )  # fmt: skip


def together(folder: Path, shards: list[str], parallel: Parallel) -> TrainedClip:
    """Six updates of 16 images, however many processes share them."""
    start, state = tiny_start(parallel.rank), ClipFolder(folder)
    if parallel.rank == 0:
        state.begin({}, resume=False, force=False)
    recipe = ClipRecipe(batch_size=8 // parallel.processes, accumulate=2, epochs=3, warmup=2, lr=1e-3, resample=False)
    judge = ClipJudge(start, shards, "sci", 32, None, parallel)
    trained = train(start, ClipData(shards, 32, workers=2 // parallel.processes), recipe, state, parallel, judge=judge)
    assert trained is not None
    if parallel.rank == 0 and parallel.processes == 2:
        told = {
            "loss": [each["loss"] for each in trained.history],
            "val": trained.history[-1]["val"]["loss"],
            "processes": parallel.processes,
        }
        folder.with_name("two.json").write_text(json.dumps(told))
    return trained
