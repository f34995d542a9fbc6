"""Training CLIP: what it learns, that a killed training ends as if it had not been, and what is written."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

import birder
from birder.collection.clip_training import train_clip
from birder.errors import ConfigError, FileExistsError, WeightsError
from birder.learning.clip import (
    LARGEST_LOG_SCALE,
    ClipData,
    ClipRecipe,
    ClipTold,
    TrainedClip,
    chosen_precision,
    parameter_groups,
    statistics_held,
)
from birder.learning.clip import train_clip as train
from birder.learning.clip_checkpoint import ClipFolder
from birder.learning.clip_data import ClipBatches, DataReport, text_of_step
from birder.learning.clip_judge import ClipJudge, retrieval
from birder.learning.clip_loss import add_gradients, clip_loss
from birder.learning.clip_model import Start, TextSize, start_of, with_new_text
from birder.learning.clip_process import random_crop
from birder.learning.parallel import Parallel
from birder.net.clip import CLIP, TextEncoder
from birder.net.tokenizer import ClipTokenizer
from birder.registry import create_network
from birder.weights.loaded_clip import load_openclip

ALONE = Parallel(0, 1, 1, torch.device("cpu"))
TINY = Path(__file__).parents[1] / "data" / "openclip"
NAMES = ("sci", "com", "taxon", "sci_com", "taxon_com")
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


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_shards(tmp_path_factory.mktemp("shards"), 32, 2)


def run(
    folder: Path, shards: list[str], recipe: ClipRecipe, *, start: Start | None = None, resumed: bool = False, **also: Any
) -> tuple[Start, TrainedClip | None]:
    start = start or tiny_start()
    state = ClipFolder(folder)
    state.begin({}, resume=resumed, force=False)
    data = ClipData(shards, also.pop("samples", 32), also.pop("replay", ()), also.pop("workers", 1))
    return start, train(start, data, recipe, state, ALONE, resumed=resumed, **also)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_text_of_a_step_is_that_of_bioclips_training() -> None:
    import random

    for step in range(200):
        random.seed(step)
        assert text_of_step(NAMES, step) == random.choice(list(NAMES))
    assert {text_of_step(NAMES, step) for step in range(30)} == set(NAMES)


def test_parameters_that_do_not_decay_are_norms_biases_class_token_and_scale() -> None:
    net = tiny_start().clip
    rows, others = parameter_groups(net)
    names = {id(each): name for name, each in net.named_parameters()}
    told = [names[id(each)] for each in rows["params"]]
    assert {"log_logit_scale", "image.class_token", "text.norm.weight", "image.encoder.block.0.mlp.0.bias"} <= set(told)
    assert all("norm" in name or name.endswith(("bias", "pre_block.0.weight", "class_token", "scale")) for name in told)
    kept = [names[id(each)] for each in others["params"]]
    assert {"image.pos_embedding", "text.pos_embedding", "image.conv_proj.weight", "image.classifier.weight"} <= set(kept)
    assert len(told) + len(kept) == len(names)
    assert (rows["weight_decay"], others["weight_decay"]) == (0.0, 0.2)


def test_gradients_of_several_batches_are_those_of_one(shards: list[str]) -> None:
    """With what the network drops, too: the second look at a batch drops the same."""
    start = tiny_start(drop=0.5)
    net = start.clip.train()
    pixels = torch.randn(12, 3, 48, 48)
    tokens = start.tokenizer([f"bird {number}" for number in range(12)])

    def encode(rows: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        torch.manual_seed(int(rows[0]))
        return [(net.encode_image(pixels[rows], normalize=True), net.encode_text(tokens[rows], normalize=True))]

    def gradients(batches: list[torch.Tensor], *, whole: bool) -> tuple[float, list[torch.Tensor]]:
        net.zero_grad()
        if whole:
            parts = [encode(rows)[0] for rows in batches]
            images, texts = (torch.cat([part[side] for part in parts]) for side in (0, 1))
            loss = clip_loss(images, texts, net.log_logit_scale.exp(), ALONE)
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            (loss,) = add_gradients(batches, encode, net.log_logit_scale, ALONE, lambda each: each.backward())  # type: ignore[no-untyped-call]
        return float(loss), [each.grad.clone() for each in net.parameters() if each.grad is not None]

    batches = [torch.arange(first, first + 4) for first in (0, 4, 8)]
    loss, found = gradients(batches, whole=False)
    wanted_loss, wanted = gradients(batches, whole=True)
    assert loss == pytest.approx(wanted_loss, abs=1e-6)
    assert len(found) == len(wanted) == len(list(net.parameters()))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_batch_norms_count_a_batch_once() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3))
    with statistics_held(net):
        net(torch.randn(8, 3) + 5)
    assert torch.equal(net[0].running_mean, torch.zeros(3))  # type: ignore[arg-type]
    net(torch.randn(8, 3) + 5)
    assert net[0].running_mean.min() > 0.3  # type: ignore[union-attr, operator]


def test_learns_images_by_heart_and_writes_what_others_load(
    tmp_path: Path, shards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tiny_start()
    told: list[ClipTold] = []
    judge = ClipJudge(start, shards, "taxon_com", 32, None, ALONE)
    recipe = ClipRecipe(batch_size=32, epochs=2, warmup=5, lr=3e-3, resample=False, crop=False)
    _, trained = run(tmp_path / "run", shards, recipe, start=start, judge=judge, tell=told.append, samples=32 * 30)
    assert trained is not None
    last = trained.history[-1]["val"]
    assert (last["image_to_text_r1"], last["text_to_image_r1"], last["n"], last["texts"]) == (1.0, 1.0, 32, 32)
    assert last["loss"] < 0.3 < 3.0 < trained.history[0]["val"]["loss"]
    assert [each.update for each in told] == list(range(1, 61))
    assert told[-1].left == 0.0 and told[5].rate > 0 and 0 <= told[-1].waited < 1
    assert max(each.scale for each in told) <= 100.001
    assert told[4].lr == pytest.approx(2e-3) and told[-1].lr < 1e-5
    assert len(ClipFolder(tmp_path / "run").checkpoints()) == 2


def test_killed_training_ends_in_the_same_weights(tmp_path: Path, shards: list[str]) -> None:
    """SIGKILL after some updates, at no special place, and again; and once with an image encoder that is locked."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.learning import test_clip as t\n"
        "from birder.learning import clip\nclip.SECONDS_BETWEEN_SAVES = 0.0\n"
        "recipe = t.killed_recipe(sys.argv[2] == 'locked')\n"
        "t.run(Path(sys.argv[1]), sys.argv[3:], recipe, resumed=t.ClipFolder(Path(sys.argv[1])).checkpoints() != [], "
        "start=t.tiny_start(drop=0.3), workers=2, tell=lambda told: print(told.update, flush=True))\n"
    )
    for kind in ("free", "locked"):
        folder = tmp_path / kind
        for kill_at in (3, 7):
            process = subprocess.Popen(
                [sys.executable, "-c", code, str(folder), kind, *shards], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) == kill_at:
                    process.send_signal(signal.SIGKILL)
                    break
            process.wait()
            process.stdout.close()
            assert process.returncode == -signal.SIGKILL
        assert ClipFolder(folder).checkpoints()
        _, resumed = run(
            folder, shards, killed_recipe(kind == "locked"), resumed=True, start=tiny_start(drop=0.3), workers=2
        )
        _, whole = run(
            tmp_path / f"{kind} whole", shards, killed_recipe(kind == "locked"), start=tiny_start(drop=0.3), workers=2
        )
        assert resumed is not None and whole is not None
        assert same(resumed.state, whole.state)
        assert [each["loss"] for each in resumed.history] == [each["loss"] for each in whole.history]
        assert resumed.report == whole.report


def killed_recipe(locked: bool) -> ClipRecipe:
    return ClipRecipe(
        batch_size=6, accumulate=2, epochs=4, warmup=2, lr=1e-3, mix="per-sample", resample=not locked,
        lock_image=locked, crop=not locked,
    )  # fmt: skip
