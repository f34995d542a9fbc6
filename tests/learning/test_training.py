"""A network trained on a collection: what is written, what is said, and that it goes on after a stop or a crash."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import birder
from birder.cli import app
from birder.errors import ConfigError, ImageError
from birder.learning import finetune
from birder.learning.finetune import chosen_mix
from birder.weights.checkpoint import read_checkpoint
from birder.weights.resolve import resolve
from tests.cli.running import COMMAND, with_path
from tests.learning.tiny import KINDS, collection, write_images

pytestmark = pytest.mark.slow  # trainings

OPTIONS: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 8,
    "lr": 2e-3,
    "unfreeze_last": "all",
    "device": "cpu",
    "progress": None,
}
ASKED = ["--epochs", "4", "--lr", "2e-3", "--unfreeze-last", "all", "--device", "cpu"]
"""The same on the command line, but the batch size."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, their network and their collection, one of whose images has been damaged since."""
    home = tmp_path_factory.mktemp("training")
    collection(home, each=16)
    (home / "images" / "owl" / "003.png").write_bytes(b"damaged")
    return home


Losses = dict[float, npt.NDArray[np.float64]]


@pytest.fixture(scope="module")
def losses() -> Losses:
    """For each share of the trained weights, the loss of each validation image: what `trained` chose its mix by."""
    return {}


@pytest.fixture(scope="module")
def trained(home: Path, losses: Losses) -> birder.Trained:
    def choose(found: Losses) -> float:
        losses.update(found)
        return chosen_mix(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "chosen_mix", choose)
        return birder.open_collection(home / "c.birder").train("label", home / "t.pt", **OPTIONS)


def test_the_network_learns_and_its_files_say_how_well(home: Path, trained: birder.Trained, losses: Losses) -> None:
    told = json.loads((trained.report / "metrics.json").read_text("utf-8"))
    assert told == json.loads(json.dumps(trained.evaluation))
    training, comparison = told["training"], told["comparison"]
    epochs = [each["epoch"] for each in training["history"]]
    assert epochs in ([0, 1, 2, 3], [0, 1, 2, 3, 4])  # it may have stopped early
    assert training["history"][-1]["loss"] < training["history"][1]["loss"]
    assert training["failures"] == {(home / "images" / "owl" / "003.png").as_uri(): "unknown file format"}
    assert training["images"] + training["validation"] in (47, 48)

    # Before and after are of the same images, and are what the curve begins with and what the mix gave.
    mixes = {each["share"]: each for each in training["mixes"]}
    assert comparison["second"]["top1"] == pytest.approx(training["history"][0]["accuracy"])
    assert mixes[0.0]["accuracy"] == training["history"][0]["accuracy"]
    assert mixes[1.0]["accuracy"] == training["history"][training["best"]]["accuracy"]
    assert told["metrics"]["top1"]["estimate"] == pytest.approx(mixes[training["mix"]]["accuracy"])
    assert {share: each["log_loss"] for share, each in mixes.items()} == {
        share: pytest.approx(each.mean()) for share, each in losses.items()
    }
    # The largest share that is not clearly worse than the best one (tests/learning/test_finetune.py).
    assert training["mix"] == chosen_mix(losses)
    assert training["mix"] >= min(mixes, key=lambda share: float(mixes[share]["log_loss"]))

    page = (trained.report / "report.html").read_text("utf-8")
    assert "How it learned" in page
    assert page.count("<polyline") >= 3
    assert sorted(each.name for each in trained.report.iterdir()) == [
        "metrics.json", "predictions.parquet", "report.html",
    ]  # fmt: skip
    assert not (home / "t.training").exists()


def test_the_file_is_a_classifier_as_that_of_adapt(home: Path, trained: birder.Trained) -> None:
    model = resolve(trained.path).load_image_encoder()
    net, transform = model.net, model.transform()
    assert sorted(model.info.class_to_idx) == list(KINDS)
    judged = pq.read_table(trained.report / "predictions.parquet")
    images = [birder.open_image(uri.removeprefix("file://")) for uri in judged["uri"].to_pylist()]
    with torch.no_grad():
        probabilities = net(torch.stack([transform(image) for image in images])).softmax(dim=1).max(dim=1).values
    told = judged["probability"].to_numpy()
    assert np.abs(probabilities.numpy() - told).max() < 0.1  # which may have been computed in bf16

    again, _ = birder.embed(home / "images", home / "again.birder", str(trained.path), engine="torch", progress=None)
    assert len(again) == 47
    with pytest.raises(birder.CollectionError, match="was trained on all 47"):  # its images are known as its own
        again.evaluate("label", model=trained.path, progress=None)
    named = {row["uri"]: row["label"] for row in again.predict(model=trained.path, k=1, progress=None)}
    agree = [named[row["uri"]] == row["predicted"] for row in judged.select(["uri", "predicted"]).to_pylist()]
    assert np.mean(agree) > 0.7
    assert len(named) == 47


def test_a_finished_training_is_not_replaced_unasked(home: Path, trained: birder.Trained) -> None:
    opened = birder.open_collection(home / "c.birder")
    with pytest.raises(birder.FileExistsError, match=r"t\.pt"):
        opened.train("label", trained.path, **OPTIONS)
    with pytest.raises(ConfigError, match="no training to go on with"):
        opened.train("label", trained.path, resume=True, **OPTIONS)
    with pytest.raises(ConfigError, match="in .pt or .safetensors"):
        opened.train("label", home / "t.head.safetensors", **OPTIONS)


def stopped_after(home: Path, to: Path, updates: int) -> None:
    """Begin a training, and stop it after so many updates."""
    stop, made = threading.Event(), 0

    def count(stage: str, done: float) -> None:
        nonlocal made
        made += stage.startswith("epoch")
        if made == updates:
            stop.set()

    options = OPTIONS | {"progress": count}
    assert birder.open_collection(home / "c.birder").train("label", to, stop=stop, **options).stopped


def test_a_stopped_training_goes_on_to_the_same_weights(home: Path, trained: birder.Trained) -> None:
    to = home / "stopped.pt"
    stopped_after(home, to, 7)  # in the second epoch
    opened = birder.open_collection(home / "c.birder")
    with pytest.raises(birder.FileExistsError, match="go on with --resume"):
        opened.train("label", to, **OPTIONS)
    with pytest.raises(ConfigError, match=r"another lr \(then 0.002\)"):
        opened.train("label", to, resume=True, **OPTIONS | {"lr": 1e-3})
    state = home / "stopped.training" / "state.safetensors"
    kept = state.read_bytes()
    state.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(birder.WeightsError, match="begin anew with --force"):
        opened.train("label", to, resume=True, **OPTIONS)
    state.write_bytes(kept)
    resumed = opened.train("label", to, resume=True, **OPTIONS)
    ours, theirs = read_checkpoint(to).state, read_checkpoint(trained.path).state
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for key in ("history", "best", "mixes", "failures"):
        assert resumed.evaluation["training"][key] == trained.evaluation["training"][key]


def test_it_begins_with_a_classifier_of_a_file(home: Path, trained: birder.Trained) -> None:
    opened = birder.open_collection(home / "c.birder")
    options = OPTIONS | {"epochs": 1, "lr": 1e-8, "unfreeze_last": 0}
    again = opened.train("label", home / "i.safetensors", init=trained.path, size=48, balance=True, **options)
    training = again.evaluation["training"]
    assert training["size"] == [48, 48]
    assert training["strength"] is None
    assert any("t.pt may have been learned from" in note for note in again.evaluation["notes"])
    state, begun = load_file(again.path), read_checkpoint(trained.path).state
    assert torch.equal(state["encoder.block.0.mlp.0.weight"], begun["encoder.block.0.mlp.0.weight"])
    assert resolve(again.path).load_image_encoder().net.size == (48, 48)


def test_on_the_command_line(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["birder.cli.train"], "_LONG", -1.0)
    write_images(tmp_path / "images", 12)
    asked = ["train", "--data", tmp_path / "images", "--init", home / "t.pt", "--to", tmp_path / "o.pt"]
    asked += ["--epochs", "1", "--batch-size", "8", "--device", "cpu", "--accumulate", "2"]
    runner = CliRunner()
    refused = runner.invoke(app, [*map(str, asked)])
    assert refused.exit_code == 2
    assert "will take about" in refused.stderr
    done = runner.invoke(app, [*map(str, asked), "--yes"])
    assert done.exit_code == 0, done.output
    assert "Wrote" in done.stdout
    assert "before:" in done.stdout
    assert not (tmp_path / "o.training").exists()


def test_a_killed_training_goes_on_to_the_same_weights(home: Path, trained: birder.Trained) -> None:
    to = home / "killed.pt"
    asked = ["train", home / "c.birder", "--to", to, "--batch-size", "8", *ASKED]
    process = subprocess.Popen([*COMMAND, *map(str, asked)], env=with_path(None), stderr=subprocess.DEVNULL)
    state = home / "killed.training" / "state.safetensors"
    while process.poll() is None and not state.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.exists()
    assert not to.exists()
    resumed = CliRunner().invoke(app, [*map(str, asked), "--resume"])
    assert resumed.exit_code == 1, resumed.output  # an image is damaged
    ours, theirs = read_checkpoint(to).state, read_checkpoint(trained.path).state
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_two_processes_learn_what_one_does(home: Path, trained: birder.Trained) -> None:
    (home / "images" / "owl" / "003.png").write_bytes((home / "images" / "owl" / "004.png").read_bytes())
    opened = birder.open_collection(home / "c.birder")
    alone = opened.train("label", home / "alone.pt", **OPTIONS | {"epochs": 2})
    asked = ["train", home / "c.birder", "--to", home / "two.pt", "--batch-size", "4", *ASKED, "--epochs", "2"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "birder"]
    done = subprocess.run(
        [*launch, *map(str, asked)], env=with_path(os.environ), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    two = json.loads((home / "two.report" / "metrics.json").read_text("utf-8"))["training"]
    one = alone.evaluation["training"]
    assert two["processes"] == 2
    found, wanted = ([each["log_loss"] for each in told["history"]] for told in (two, one))
    assert len(found) == len(wanted) == 3
    # Sums in another order part the two by ever more; how fast depends on the rows' order, which their paths decide.
    assert found[:2] == pytest.approx(wanted[:2], rel=0.01)
    assert found[2:] == pytest.approx(wanted[2:], rel=0, abs=0.02)


def test_images_that_are_all_gone_end_it_before_it_trains(tmp_path: Path) -> None:
    made = collection(tmp_path, each=8)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(ImageError, match="None of the .* images to validate on can be read"):
        made.train("label", tmp_path / "t.pt", **OPTIONS)
    assert not (tmp_path / "t.pt").exists() and not (tmp_path / "t.training").exists()
    with pytest.raises(ConfigError, match="among the rows of the filter"):
        made.train("label", tmp_path / "t.pt", where="width > 10000", **OPTIONS)
