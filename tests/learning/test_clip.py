"""Training CLIP: what it learns, that a killed training ends as if it had not been, and what is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import birder
from birder.errors import ConfigError
from birder.learning.clip import (
    LARGEST_LOG_SCALE,
    ClipRecipe,
    parameter_groups,
    statistics_held,
)
from birder.learning.clip_checkpoint import ClipFolder
from birder.learning.clip_data import ClipBatches, text_of_step
from birder.learning.clip_judge import retrieval
from birder.learning.clip_loss import add_gradients, clip_loss
from birder.learning.clip_process import random_crop
from birder.net.tokenizer import ClipTokenizer
from tests.learning.clip_runs import (
    ALONE,
    killed_recipe,
    killed_start,
    run,
    tiny_start,
    together,
    write_shards,
)

NAMES = ("sci", "com", "taxon", "sci_com", "taxon_com")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_shards(tmp_path_factory.mktemp("shards"), 32, 2)


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
    assert {"image.pos_embedding", "text.pos_embedding", "image.conv_proj.weight", "image.classifier.weight"} <= set(
        kept
    )
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
        return float(loss.detach()), [each.grad.clone() for each in net.parameters() if each.grad is not None]

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
    assert net[0].running_mean.min() > 0.3  # type: ignore[operator]


@pytest.mark.slow
def test_scale_stays_below_100_and_replay_has_a_projection_of_its_own(tmp_path: Path, shards: list[str]) -> None:
    captions = write_shards(tmp_path / "replay", 12, 1, first=100)
    start = tiny_start()
    with torch.no_grad():
        start.clip.log_logit_scale.fill_(LARGEST_LOG_SCALE)
    recipe = ClipRecipe(batch_size=8, accumulate=2, epochs=3, warmup=1, lr=1e-3, replay_batch_size=4)
    _, trained = run(tmp_path / "run", shards, recipe, start=start, replay=captions)
    assert trained is not None
    assert float(trained.state["log_logit_scale"]) <= LARGEST_LOG_SCALE
    _, saved = ClipFolder(tmp_path / "run").read()
    first, second = saved["net"]["clip.image.classifier.weight"], saved["net"]["replay.weight"]
    assert first.shape == second.shape and 1e-4 < (first - second).abs().max() < 0.1  # both began alike
    assert not any(name.startswith("replay") for name in trained.state)
    _, without = run(tmp_path / "without", shards, recipe)
    assert without is not None and without.history[0]["loss"] != trained.history[0]["loss"]


@pytest.mark.slow
def test_what_is_damaged_or_missing_is_counted(tmp_path: Path) -> None:
    broken = write_shards(tmp_path / "broken", 32, 2, damaged=True)
    recipe = ClipRecipe(batch_size=10, accumulate=1, epochs=1, warmup=0, texts=("sci", "scientific_name"))
    _, trained = run(tmp_path / "run", broken, replace(recipe, resample=False), samples=100, workers=2)
    assert trained is not None
    places = {name.rsplit(" ", 1)[1] for name in trained.report.failed}
    assert places == {"0003", "0011", "0019", "0027"}
    assert set(trained.report.replaced) == {("scientific_name", "taxon")}
    drawn = [text_of_step(("sci", "scientific_name"), step) for step in range(10)]
    assert trained.report.replaced["scientific_name", "taxon"] == 10 * drawn.count("scientific_name")


@pytest.mark.slow
def test_batches_that_are_closed_or_lost_do_not_hang(shards: list[str]) -> None:
    card = tiny_start().card
    with ClipBatches(shards, card, ClipTokenizer(16), 4, lambda _: ["sci"], ALONE, workers=2) as batches:
        first = next(iter(batches))
        assert first.pixels.shape == (4, 48, 48, 3) and first.tokens.shape == (4, 16)
    with ClipBatches(shards, card, ClipTokenizer(16), 4, lambda _: ["sci"], ALONE, workers=2) as batches:
        next(iter(batches))
        os.kill(batches._workers[0]._process.pid, signal.SIGKILL)
        with pytest.raises(birder.BirderError, match="has ended, perhaps for lack of memory"):
            for _ in batches:
                pass


@pytest.mark.slow
def test_validation_sees_each_sample_once(shards: list[str]) -> None:
    card = tiny_start().card
    with ClipBatches(
        shards, card, ClipTokenizer(16), 5, lambda _: ["sci"], ALONE, workers=2, crop=False, once=True
    ) as batches:
        keys = [key for batch in batches for key in batch.keys]
    assert sorted(keys) == [f"{number:04d}" for number in range(32)]


def test_retrieval_counts_equal_texts_as_one() -> None:
    images = torch.eye(4)[[0, 0, 1, 2, 3, 3]]
    texts = torch.eye(4)[[0, 1, 2, 2]] + torch.tensor([[0.0] * 4, [0.0] * 4, [0.0] * 4, [0, 0, 0, -0.1]])
    found = retrieval(images, texts, torch.tensor([0, 0, 1, 2, 3, 3]), 10.0, 6)
    assert (found["n"], found["texts"]) == (6, 4)
    assert found["image_to_text_r1"] == pytest.approx(3 / 6)  # nothing speaks for the last text; the third ties with it
    assert found["text_to_image_r1"] == pytest.approx(3 / 4)
    assert (found["image_to_text_r5"], found["text_to_image_r5"]) == (1.0, 1.0)
    same = retrieval(torch.ones(6, 4) / 2, torch.ones(4, 4) / 2, torch.tensor([0, 0, 1, 2, 3, 3]), 10.0, 6)
    assert same["image_to_text_r1"] == same["text_to_image_r1"] == 0.0  # features that are all the same find nothing
    with pytest.raises(ConfigError, match="not finite"):
        retrieval(images * torch.nan, texts, torch.tensor([0, 0, 1, 2, 3, 3]), 10.0, 6)


def test_crops_show_nearly_all_of_an_image() -> None:
    """As torchvision's RandomResizedCrop(scale=(0.9, 1)): area and aspect ratio by what the crop's ramps show."""
    ramp = np.stack(np.broadcast_arrays(*np.meshgrid(np.arange(200), np.arange(180)), 0), axis=2).astype(np.uint8)
    image = Image.fromarray(ramp)
    areas, lefts = [], []
    for seed in range(200):
        seen = random_crop(image, (32, 48), np.random.default_rng(seed)).astype(float)
        assert seen.shape == (32, 48, 3)
        width = (seen[:, -1, 0] - seen[:, 0, 0]).mean() * 48 / 47
        height = (seen[-1, :, 1] - seen[0, :, 1]).mean() * 32 / 31
        areas.append(width * height / (200 * 180))
        lefts.append(seen[:, 0, 0].mean())
    assert min(areas) > 0.87 and max(areas) < 1.02 and np.std(areas) > 0.02
    assert np.std(lefts) > 1


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("free", (3, 7)), ("locked", (5,))])
def test_killed_training_ends_in_the_same_weights(
    tmp_path: Path, shards: list[str], kind: str, kills: tuple[int, ...]
) -> None:
    """SIGKILL after some updates, at no special place; also with an image encoder that is locked."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.learning import clip_runs as t\n"
        "from birder.learning import clip\nclip.SECONDS_BETWEEN_SAVES = 0.0\n"
        "recipe = t.killed_recipe(sys.argv[2] == 'locked')\n"
        "t.run(Path(sys.argv[1]), sys.argv[3:], recipe, resumed=t.ClipFolder(Path(sys.argv[1])).checkpoints() != [], "
        "start=t.killed_start(sys.argv[2] == 'locked'), workers=2, tell=lambda told: print(told.update, flush=True))\n"
    )
    recipe, locked = killed_recipe(kind == "locked"), kind == "locked"
    for kill_at in kills:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "run"), kind, *shards], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == kill_at:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
        assert process.returncode == -signal.SIGKILL
    assert ClipFolder(tmp_path / "run").checkpoints()
    _, resumed = run(tmp_path / "run", shards, recipe, resumed=True, start=killed_start(locked), workers=2)
    _, whole = run(tmp_path / "whole", shards, recipe, start=killed_start(locked), workers=2)
    assert resumed is not None and whole is not None
    assert same(resumed.state, whole.state)
    assert [each["loss"] for each in resumed.history] == [each["loss"] for each in whole.history]
    assert resumed.report == whole.report


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path, shards: list[str]) -> None:
    """The same samples, as both have two streams; and the same gradients, up to rounding."""
    code = tmp_path / "two.py"
    code.write_text(
        "import sys\nfrom pathlib import Path\nimport torch\nfrom tests.learning import clip_runs as t\n"
        "with t.Parallel.join('cpu') as parallel:\n"
        "    t.together(Path(sys.argv[1]), sys.argv[2:], parallel)\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(code)]
    root = Path(__file__).parents[2]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [*launch, str(tmp_path / "two"), *shards],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one = together(tmp_path / "one", shards, ALONE)
    two = json.loads((tmp_path / "two.json").read_text())
    assert two["processes"] == 2
    assert two["loss"] == pytest.approx([each["loss"] for each in one.history], rel=1e-5)
    assert two["val"] == pytest.approx(one.history[-1]["val"]["loss"], rel=1e-4)
    _, saved = ClipFolder(tmp_path / "two").read()
    for name, value in one.state.items():
        torch.testing.assert_close(saved["net"][f"clip.{name}"], value, rtol=1e-3, atol=1e-4)
