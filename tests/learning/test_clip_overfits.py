"""A tiny CLIP learns real images and their texts by heart: each image finds its text, each text its image."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

import birder
from birder.learning.clip import ClipData, ClipRecipe, ClipTold, train_clip
from birder.learning.clip_checkpoint import KEPT, ClipFolder
from birder.learning.clip_judge import ClipJudge
from birder.learning.clip_model import TextSize, with_new_text
from birder.learning.parallel import Parallel
from birder.registry import create_network
from tests.learning.tiny import CONFIG, RGB, write_network

IMAGES, SIZE = 24, 48
ALONE = Parallel(0, 1, 1, torch.device("cpu"))


@pytest.mark.slow
def test_each_image_finds_its_text_and_each_text_its_image(tmp_path: Path, photos: Path) -> None:
    with (photos / "photos.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}  # an image of each label
    table = tmp_path / "some.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", "kingdom"])
        writer.writerows([photos / row["file_name"], row["label"], row["kingdom"]] for row in [*rows.values()][::5])
    weights = write_network(
        tmp_path / "vit_b16_pn_tiny.pt", [photos / row["file_name"] for row in [*rows.values()][:2]]
    )
    embedded, _ = birder.embed(table, tmp_path / "c.birder", str(weights), engine="torch", device="cpu", progress=None)
    made = embedded.shards(tmp_path / "shards", size=SIZE, val_share=0.0, progress=None)
    shards = [str(tmp_path / "shards" / "train" / "shard-000000.tar")]
    assert made.records("train") == IMAGES

    torch.manual_seed(0)
    image = create_network("vit_b16_pn", 32, size=(SIZE, SIZE), config=CONFIG | {"head_bias": False})
    start = with_new_text("vit_b16_pn", image, TextSize(32, 32, 2, 1, context=16), RGB, None, None)
    judge = ClipJudge(start, shards, "com", IMAGES, None, ALONE)
    before = judge(start.clip.eval())["val"]
    folder = ClipFolder(tmp_path / "run")
    folder.begin({}, resume=False, force=False)
    recipe = ClipRecipe(texts=("com",), batch_size=IMAGES, accumulate=1, lr=3e-3, warmup=5, epochs=3, resample=False)
    told: list[ClipTold] = []
    # An epoch has each image twenty times, so that the state is saved three times, not sixty.
    data = ClipData(shards, 20 * IMAGES)
    trained = train_clip(start, data, recipe, folder, ALONE, judge=judge, tell=told.append)
    assert trained is not None
    after = trained.history[-1]["val"]
    assert (before["n"], before["texts"]) == (after["n"], after["texts"]) == (IMAGES, IMAGES)
    assert max(before["image_to_text_r1"], before["text_to_image_r1"]) < 0.3
    assert after["image_to_text_r1"] == after["text_to_image_r1"] == 1.0
    assert after["loss"] < 0.5 < before["loss"]
    assert [each.update for each in told] == list(range(1, 61))
    assert told[-1].left == 0.0 and told[5].rate > 0 and 0 <= told[-1].waited < 1
    assert told[4].lr == pytest.approx(3e-3) and told[-1].lr < 1e-4
    assert len(folder.checkpoints()) == KEPT == 2
    assert (trained.report.failed, trained.report.replaced) == ({}, {})
