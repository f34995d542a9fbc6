"""Detection over many images: what becomes of each, and runs that are stopped and go on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools.coco import COCO

import birder
from birder.errors import ConfigError, FileExistsError, UnknownNameError
from birder.formats.megadetector import read_boxes
from birder.pipeline.detect import KEPT_ENDING, DetectProgress

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cat in a folder of its own, nothing, a broken image, and a name that is not ASCII."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "card").mkdir()
    shutil.copy(DATA / "chelsea.png", folder / "card" / "cat.png")
    shutil.copy(DATA / "chelsea.png", folder / "Kätzchen.png")
    Image.new("RGB", (300, 200), (90, 120, 90)).save(folder / "empty.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not more than this")
    return folder


def test_every_image_is_in_the_results_with_its_boxes_or_the_reason(folder: Path, tmp_path: Path) -> None:
    found = birder.detect(folder, to=tmp_path / "boxes.json", progress=None)
    told = json.loads((tmp_path / "boxes.json").read_text("utf-8"))
    assert told["info"]["format_version"] == "1.4" and told["info"]["detector"] == "nanodet_g_coco"
    images = {each["file"]: each for each in told["images"]}
    assert list(images) == ["Kätzchen.png", "broken.jpg", "card/cat.png", "empty.png"]
    assert images["broken.jpg"]["detections"] is None and "truncated" in images["broken.jpg"]["failure"]
    assert not [box for box in images["empty.png"]["detections"] if box["conf"] >= 0.2]
    cat = max(images["card/cat.png"]["detections"], key=lambda box: (box["category"] == "1", box["conf"]))
    assert told["detection_categories"][cat["category"]] == "animal" and cat["conf"] > 0.3
    assert images["card/cat.png"]["width"] == 451
    assert images["card/cat.png"]["detections"] == images["Kätzchen.png"]["detections"]
    assert [each.failure is None for each in found.images].count(False) == len(found.failed) == 1
    assert not list(tmp_path.glob(f"*{KEPT_ENDING}"))


def test_results_are_read_as_megadetector_s(folder: Path, tmp_path: Path) -> None:
    birder.detect(folder, to=tmp_path / "boxes.json", progress=None, min_conf=0.3)
    sources = read_boxes(tmp_path / "boxes.json", folder, 0.3)
    boxes = [source for source in sources if source.problem is None]
    assert {source.columns["category"] for source in boxes} == {"animal"}
    assert [source.problem for source in sources if source.problem] != []


def test_coco_results_are_read_by_pycocotools(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = birder.detect(folder, to=tmp_path / "boxes.json", format="coco", progress=None)
    coco = COCO(str(tmp_path / "boxes.json"))
    capsys.readouterr()
    (animal,) = coco.getCatIds(catNms=["animal"])
    (cat,) = (number for number, image in coco.imgs.items() if image["file_name"] == "card/cat.png")
    best = max(coco.loadAnns(coco.getAnnIds(imgIds=[cat], catIds=[animal])), key=lambda each: each["score"])
    (mine,) = (each for each in found.images if each.name.endswith("cat.png"))
    box = max((each for each in mine.detections or () if each.category == "animal"), key=lambda each: each.confidence)
    assert best["bbox"] == pytest.approx([box.x * 451, box.y * 300, box.width * 451, box.height * 300], abs=0.01)
    assert [each["file_name"] for each in coco.dataset["failures"]] == ["broken.jpg"]


@pytest.mark.slow
def test_stopped_run_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(24):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(images / f"{number:02}.png")
    stop = threading.Event()
    first = birder.detect(images, to=tmp_path / "b.json", progress=lambda _: stop.set(), stop=stop)
    assert first.stopped and 0 < len(first.images) < 24 and not (tmp_path / "b.json").exists()
    (images / "00.png").write_bytes((DATA / "chelsea.png").read_bytes())  # another image now
    seen: list[DetectProgress] = []
    second = birder.detect(images, to=tmp_path / "b.json", progress=seen.append)
    assert second.before == len(first.images) - 1
    assert seen[-1].finished == 24 and len(json.loads((tmp_path / "b.json").read_text())["images"]) == 24
    assert birder.detect(images, progress=None).images == second.images


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut short", "another run", "not JSON"])
def test_what_an_earlier_run_has_kept_is_used_only_where_it_is_whole(tmp_path: Path, damage: str) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(24):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(images / f"{number:02}.png")
    stop = threading.Event()
    options: dict[str, Any] = {"to": tmp_path / "b.json", "threads": 1}
    birder.detect(images, progress=lambda _: stop.set(), stop=stop, **options)
    kept = tmp_path / f"b.json{KEPT_ENDING}"
    lines = kept.read_bytes()
    if damage == "cut short":
        kept.write_bytes(lines[:-20])
    elif damage == "not JSON":
        kept.write_bytes(lines[:30] + b"\n" + lines[30:])
    done = birder.detect(images, progress=None, min_conf=0.1 if damage == "another run" else 0.05, **options)
    assert (done.before > 0) == (damage == "cut short") and not done.stopped
    assert len(json.loads((tmp_path / "b.json").read_text())["images"]) == 24


def test_wrong_arguments_are_refused_before_the_work(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("mine")
    with pytest.raises(FileExistsError):
        birder.detect(folder, to=tmp_path / "there.json")
    with pytest.raises(UnknownNameError, match=r"an ONNX file"):
        birder.detect(folder, model="yolo")
    with pytest.raises(ConfigError, match="No files match"):
        birder.detect(tmp_path / "none*.jpg")
    with pytest.raises(ConfigError, match="minimum confidence"):
        birder.detect(folder, min_conf=0.0)
    assert (tmp_path / "there.json").read_text() == "mine"


@pytest.mark.slow
def test_ctrl_c_on_the_command_line_loses_nothing(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(400):
        Image.new("RGB", (800, 800), (number % 256, number // 256, 0)).save(images / f"{number:03}.png")
    command = [
        sys.executable,
        "-m",
        "birder",
        "detect",
        str(images),
        "--to",
        str(tmp_path / "b.json"),
        "--threads",
        "1",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    kept = tmp_path / f"b.json{KEPT_ENDING}"
    while not kept.exists() or kept.read_bytes().count(b"\n") < 10:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "run the same command again" in said, said
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0 and " were done before." in again.stderr
    assert len(json.loads((tmp_path / "b.json").read_text())["images"]) == 400
