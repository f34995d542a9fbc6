"""Training a detector, on small images with a square each: it learns, stops, goes on, and survives what it promises."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import birder
from birder.collection.detector_training import TrainedDetector, train_detector
from birder.errors import ConfigError, FileExistsError, ImageError, WeightsError
from birder.inference.detector import Detector
from birder.learning.detector_data import read_coco
from birder.learning.schedule import warmed_cosine
from birder.learning.train_detector import WARM_UP
from birder.weights.checkpoint import make_signature, read_checkpoint, save_model
from birder.weights.detector import load_detector
from tests.cli.running import COMMAND, run_birder, with_path

pytestmark = pytest.mark.slow  # trainings

COLOURS = {"fox": (220, 90, 20), "owl": (40, 60, 200)}
QUICK: dict[str, Any] = {"size": 64, "width": 64, "epochs": 3, "batch_size": 4, "progress": None}
VIT: dict[str, Any] = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}


def squares(folder: Path, count: int = 10) -> Path:
    """A COCO file of images with one coloured square each on noise; the last has none."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(count):
        pixels = random.integers(90, 140, (60, 80, 3), np.uint8)
        name = f"{number:02}.png"
        images.append({"id": number, "file_name": name, "width": 80, "height": 60})
        if number < count - 1:
            side, x, y = int(random.integers(16, 36)), int(random.integers(0, 44)), int(random.integers(0, 24))
            pixels[y : y + side, x : x + side] = COLOURS["fox" if number % 2 else "owl"]
            box = [x, y, side, side]
            annotations.append({"id": number, "image_id": number, "category_id": 1 + number % 2, "bbox": box})
        Image.fromarray(pixels).save(folder / name)
    categories = [{"id": 1, "name": "owl"}, {"id": 2, "name": "fox"}]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(data))
    (folder / "judged.txt").write_text("03\n06.png\n")
    return folder / "boxes.json"


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def trained(boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedDetector:
    """Trained without a pause, judged, with its report."""
    folder = tmp_path_factory.mktemp("trained")
    told: list[float] = []
    found = train_detector(
        folder / "squares.pt",
        coco=boxes,
        val=boxes.with_name("judged.txt"),
        report=folder / "report",
        expect=told.append,
        **QUICK | {"epochs": 6, "lr": 3e-3},
    )
    assert len(told) == 1 and told[0] > 0
    return found


def state_of(file: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(file).state


def assert_equal(one: Path, other: Path) -> None:
    states = state_of(one), state_of(other)
    assert states[0].keys() == states[1].keys()
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []


def test_a_trained_detector_is_judged_and_its_checkpoint_says_what_it_is(trained: TrainedDetector) -> None:
    assert (trained.classes, trained.images, trained.boxes) == (("owl", "fox"), 8, 7)
    history = trained.figures["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    assert all("AP50" in each for each in history)
    judged = trained.figures["judged"]
    assert (judged["images"], judged["boxes"]) == (2, 2)
    assert trained.figures["training"]["validation"] == ["03.png", "06.png"]
    assert trained.figures["beside"]["installed"]["boxes"] == 2
    assert not trained.path.with_name("squares.pt.training").exists()
    checkpoint = read_checkpoint(trained.path)
    assert (checkpoint.task, checkpoint.detector, checkpoint.network) == (
        "object_detection", "fcos", "efficientnet_lite0",
    )  # fmt: skip
    assert checkpoint.class_to_idx == {"owl": 1, "fox": 2}
    assert checkpoint.config == {"fpn_width": 64}
    assert trained.path.stat().st_size < 18e6  # the backbone, which has two names, is there once
    folder = trained.path.parent / "report"
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(trained.figures))
    table = pq.read_table(folder / "detections.parquet")
    assert table.filter(table["score"].is_null())["image"].to_pylist() == ["03.png", "06.png"]
    page = (folder / "report.html").read_text()
    assert "AP50" in page and "http" not in page.replace("http-equiv", "")


def test_the_detector_runs_as_any_other_and_finds_what_the_network_finds(
    trained: TrainedDetector, boxes: Path, tmp_path: Path
) -> None:
    detector = Detector(trained.path)
    network = load_detector(trained.path)
    with Image.open(boxes.with_name("03.png")) as image:
        pixels, place = detector.prepare(image)
    found = detector.detect([pixels], [place], min_conf=0.01)[0]
    mean, std = (torch.tensor(network.rgb_stats[key]).view(3, 1, 1) for key in ("mean", "std"))
    x = (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255 - mean) / std
    with torch.no_grad():
        theirs = network.net.detections(*network.net.outputs(network.net.maps(x)), min_score=0.01)[0]
    best = theirs["boxes"][0].numpy()
    ours = found[0]
    left, top = ours.x * place.width + place.left, ours.y * place.height + place.top
    assert ours.confidence == pytest.approx(float(theirs["scores"][0]), abs=1e-4)
    assert ours.hint == network.classes[int(theirs["labels"][0]) - 1]
    assert ours.category == "animal"
    assert [left, top] == pytest.approx(np.maximum(best[:2], [place.left, place.top]), abs=0.02)
    listed = birder.detect(boxes.parent, model=trained.path, to=tmp_path / "boxes.json", progress=None)
    assert len(listed.images) == 10 and not listed.failed
    written = json.loads((tmp_path / "boxes.json").read_text())
    assert written["classification_categories"] == {"1": "owl", "2": "fox"}
    classes = {each.name: [box.hint for box in each.detections or ()] for each in listed.images}
    for image in written["images"]:
        names = [written["classification_categories"][box["classifications"][0][0]] for box in image["detections"]]
        assert names == classes[str(boxes.parent / image["file"])]
    birder.detect(boxes.parent, model=trained.path, to=tmp_path / "coco.json", format="coco", progress=None)
    assert read_coco(tmp_path / "coco.json", boxes.parent).classes == ("owl", "fox")
    backbone, _ = birder.load_model("efficientnet_lite0", trained.path, inference=True)
    assert set(backbone.detection_features(x)) == {"stage1", "stage2", "stage3", "stage4"}


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_it_is_exported_with_its_suppression(trained: TrainedDetector, tmp_path: Path, ending: str) -> None:
    # what is written was compared with `birder detect`, on images on which both find something
    done = birder.export_model(trained.path, tmp_path / f"squares{ending}")
    assert (done.outputs, done.agreement.inputs) == (("boxes", "scores", "classes"), 16)
    assert (tmp_path / "labels.txt").read_text().split() == ["owl", "fox"]
    with pytest.raises(ConfigError, match=r"as \.onnx or \.xml"):
        birder.export_model(trained.path, tmp_path / "squares.pt2")


@pytest.mark.parametrize("unfreeze_last", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    boxes: Path, tmp_path: Path, unfreeze_last: int
) -> None:
    options: dict[str, Any] = QUICK | {"coco": boxes, "unfreeze_last": unfreeze_last, "epochs": 2}
    train_detector(tmp_path / "whole.pt", **options)
    halves = tmp_path / "halves.pt"
    # While the maps are computed, within the first epoch, and in the second.
    moments = [("Epoch 1 ", 1), ("Epoch 2 ", 1)] if unfreeze_last else [("Comp", 3), ("Epoch 1 ", 1), ("Epoch 2 ", 1)]
    for place, moment in enumerate(moments):
        stop, seen = threading.Event(), 0

        def count(stage: str, _: float, stop: threading.Event = stop, moment: tuple[str, int] = moment) -> None:
            nonlocal seen
            seen += stage.startswith(moment[0])
            if seen == moment[1]:
                stop.set()

        stopped = train_detector(halves, **options | {"progress": count}, stop=stop, resume=place > 0)
        assert stopped.stopped and not halves.exists()
    with pytest.raises(FileExistsError, match="--resume"):
        train_detector(halves, **options)
    with pytest.raises(ConfigError, match="epochs"):
        train_detector(halves, **options | {"epochs": 3}, resume=True)
    train_detector(halves, **options, resume=True)
    assert_equal(tmp_path / "whole.pt", halves)
    if unfreeze_last:
        before = birder.load_pretrained_model("efficientnet_lite0_in1k")[0].published_state()
        after_it = state_of(halves)
        changed = {
            key.split(".block.")[0] for key, value in before.items()
            if f"backbone.{key}" in after_it and not torch.equal(value, after_it[f"backbone.{key}"])
        }  # fmt: skip
        assert changed == {"body.stage4.4"}


def test_a_killed_training_loses_no_more_than_an_epoch(boxes: Path, tmp_path: Path) -> None:
    options = QUICK | {"coco": str(boxes), "progress": "PROGRESS"}
    text = repr(options).replace("'PROGRESS'", "show")
    code = (
        "import os, signal, birder\ncount = 0\n"
        "def show(stage, _):\n    global count\n    count += stage.startswith('Epoch 2')\n"
        "    if count == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"birder.train_detector('killed.pt', **{text})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    seen: list[str] = []
    train_detector(
        tmp_path / "killed.pt", **QUICK | {"progress": lambda stage, _: seen.append(stage)}, coco=boxes, resume=True
    )
    assert not any(each.startswith(("Epoch 1 ", "Computing")) for each in seen)
    train_detector(tmp_path / "whole.pt", **QUICK, coco=boxes)
    assert_equal(tmp_path / "whole.pt", tmp_path / "killed.pt")


def test_ctrl_c_keeps_the_state_and_says_how_to_go_on(boxes: Path, tmp_path: Path) -> None:
    command = [
        *COMMAND, "train-detector", "--coco", str(boxes), "--to", "a.pt", "--size", "64", "--epochs", "500",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=with_path(None)) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("The training will take"):
                break
        running.send_signal(signal.SIGINT)
        told = running.stderr.read()
    assert running.returncode == 130
    assert "run the same command with --resume" in told
    assert (tmp_path / "a.pt.training" / "state.safetensors").exists() and not (tmp_path / "a.pt").exists()


@pytest.mark.parametrize("unfreeze_last", [0, 1])
def test_images_that_cannot_be_used_are_failures_and_never_the_end(tmp_path: Path, unfreeze_last: int) -> None:
    boxes = squares(tmp_path / "squares", 6)
    folder = boxes.parent
    (folder / "00.png").write_bytes(b"no image")
    (folder / "01.png").unlink()
    Image.new("RGB", (60, 80)).save(folder / "02.png")  # turned, as against its annotations
    (folder / "judged.txt").write_text("02\n03\n")
    options: dict[str, Any] = QUICK | {"coco": boxes, "epochs": 1, "unfreeze_last": unfreeze_last}
    found = train_detector(tmp_path / "a.pt", val=folder / "judged.txt", **options)
    assert found.failures.keys() == {"00.png", "01.png", "02.png"}
    assert found.failures["01.png"] == "the file does not exist"
    assert found.failures["02.png"] == "its boxes are for 80 x 60 pixels, and it has 60 x 80"
    assert found.figures["judged"]["images"] == 1
    for name in ("04.png", "05.png"):
        (folder / name).unlink()
    if not unfreeze_last:
        with pytest.raises(ImageError, match=r"No image .* can be read; 00\.png: "):
            train_detector(tmp_path / "b.pt", val=folder / "judged.txt", **options)


def test_a_vit_has_a_simple_pyramid_over_the_map_before_its_final_norm(boxes: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = birder.create_network("vit_b16_pn", 0, size=(64, 64), config=VIT)
    stats = {"mean": [0.5] * 3, "std": [0.25] * 3}
    save_model(net, tmp_path / "vit.pt", signature=make_signature((64, 64), 0), rgb_stats=stats, config=VIT)
    train_detector(tmp_path / "a.pt", coco=boxes, backbone=tmp_path / "vit.pt", **QUICK | {"epochs": 1})
    checkpoint = read_checkpoint(tmp_path / "a.pt")
    assert checkpoint.config == {"fpn_width": 64, "pyramid": "simple"}
    assert checkpoint.backbone_config == VIT | {"out_indices": [-1]}
    assert not any(key.startswith("backbone.norm") for key in checkpoint.state)
    loaded = load_detector(tmp_path / "a.pt").net
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        (found,) = loaded.maps(x).values()
        unnormed = birder.create_network("vit_b16_pn", 0, size=(64, 64), config=VIT | {"out_indices": [1]})
        unnormed.load_state_dict(net.state_dict())
        (expected,) = unnormed.eval().detection_features(x).values()
    assert torch.allclose(found, expected, atol=1e-5)
    assert Detector(tmp_path / "a.pt").form.size == (64, 64)


def test_wrong_use_is_told_before_any_work(boxes: Path, tmp_path: Path, trained: TrainedDetector) -> None:
    for options, says in (
        ({"to": tmp_path / "a.onnx"}, "end it in .pt"),
        ({"report": tmp_path}, "give --val"),
        ({"width": 80}, "multiple of 32"),
        ({"lr": 2.0}, "learning rate"),
        ({"unfreeze_last": 99}, "has 16 blocks"),
    ):
        with pytest.raises(ConfigError, match=says):
            train_detector(**{"to": tmp_path / "a.pt", "coco": boxes} | QUICK | options)
        assert list(tmp_path.glob("a.*")) == []
    with pytest.raises(FileExistsError, match="already exists"):
        train_detector(trained.path, coco=boxes, **QUICK)
    plain = save_model(
        birder.create_network("efficientnet_lite0", 2),
        tmp_path / "plain.pt",
        signature=make_signature((224, 224), 2),
        rgb_stats={"mean": [0.5] * 3, "std": [0.5] * 3},
    )
    with pytest.raises(WeightsError, match="birder train-detector"):
        Detector(plain)


def test_the_learning_rate_rises_in_a_line_and_falls_to_nothing() -> None:
    rates = [warmed_cosine(step, 10, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] < 1e-3 and 0 < WARM_UP < 0.5


def test_the_command_says_how_good_it_is_and_how_to_use_it(boxes: Path, tmp_path: Path) -> None:
    done = run_birder(
        "train-detector", "--coco", boxes, "--val", boxes.with_name("judged.txt"), "--to", tmp_path / "a.pt",
        "--size", "64", "--width", "64", "--epochs", "1", "--report", tmp_path / "report",
    )  # fmt: skip
    assert "On 2 images with 2 boxes that it had not seen:" in done.stdout
    assert f"birder detect IMAGES --model {tmp_path / 'a.pt'} --to boxes.json" in done.stdout
    assert "The training will take about" in done.stderr
    again = run_birder("train-detector", "--coco", boxes, "--to", tmp_path / "a.pt", code=2)
    assert "already exists" in again.stderr
