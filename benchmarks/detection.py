"""How good the detector that ships with Birder is, and how fast.

    .venv/bin/python benchmarks/detection.py RACCOON [CAMERA_TRAP] [--only quality,run] [--images 10000]

RACCOON is Tran's raccoon_dataset (200 images, 217 boxes in Pascal VOC's XML): the average precision of `animal` at an
intersection over union of 0.5, by pycocotools and by faster-coco-eval, which must agree, and precision and recall at
some thresholds. CAMERA_TRAP is a folder of camera-trap images with `megadetector-v5a.csv`, what MegaDetector v5a found
on them: how many of its surest boxes ours meets, and what ours says of the images without anything. Speed is of whole
runs, decoding included, beside that of embedding the same images with the default model.

The part `run` is `birder embed --detect` over many stills, each of them one of RACCOON's images at 1024 x 768 pixels
with grain of its own: images/s of the whole process's run, beside detector and encoder alone on pixels in memory, one
after the other with all processors; and the process's peak memory. The stills stay in BIRDER_BENCH, or demo/bench.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO as FastCOCO
from faster_coco_eval import COCOeval_faster
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import birder
from birder.collection.model import load_encoder
from birder.inference.detector import CATEGORIES, Detection, Detector, ImageDetections
from birder.registry import DEFAULT_WEIGHTS
from birder.weights.detector import resolve_detector

ROOT = Path(__file__).parents[1]
WORK = Path(os.environ.get("BIRDER_BENCH", ROOT / "demo" / "bench"))
STILL = (1024, 768)
SAMPLE = 64
THRESHOLDS = (0.1, 0.3, 0.5)
SIDES = ("xmin", "ymin", "xmax", "ymax")
Corners = tuple[float, float, float, float]
Truth = dict[str, list[Corners]]
Records = list[dict[str, Any]]


def truth_of(folder: Path) -> Truth:
    """The boxes (left, top, right, bottom, in pixels) of each image, by its name, from Pascal VOC's XML."""
    found: Truth = {}
    for file in sorted(folder.rglob("*.xml")):
        root = ElementTree.parse(file).getroot()
        boxes = [each.find("bndbox") for each in root.iter("object")]
        corners = [
            [float(box.findtext(side, "nan")) for side in ("xmin", "ymin", "xmax", "ymax")]
            for box in boxes
            if box is not None
        ]
        found[root.findtext("filename", "")] = [(a, b, c, d) for a, b, c, d in corners]
    return found


def corners_of(box: Detection, image: ImageDetections) -> Corners:
    """A detection's left, top, right and bottom in pixels."""
    return (
        box.x * image.width,
        box.y * image.height,
        (box.x + box.width) * image.width,
        (box.y + box.height) * image.height,
    )


def coco_of(images: Sequence[ImageDetections], truth: Truth) -> tuple[dict[str, Any], Records]:
    """The truth as a COCO data set with one category, and the detections of `animal` as results."""
    annotations: Records = []
    results: Records = []
    for number, image in enumerate(images, 1):
        for left, top, right, bottom in truth[Path(image.name).name]:
            width, height = right - left, bottom - top
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
        for box in image.detections or ():
            if box.category == "animal":
                left, top, right, bottom = corners_of(box, image)
                results.append(
                    {
                        "image_id": number,
                        "category_id": 1,
                        "bbox": [left, top, right - left, bottom - top],
                        "score": box.confidence,
                    }
                )
    listed = [{"id": number, "width": image.width, "height": image.height} for number, image in enumerate(images, 1)]
    return {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "animal"}]}, results


def precision_by(coco: Any, evaluator: Any, data: dict[str, Any], results: Records) -> tuple[float, float]:
    """AP at IoU 0.5, and over 0.5 to 0.95, by one of the two packages."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco()
        truth.dataset = data
        truth.createIndex()
        evaluation = evaluator(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[1]), float(evaluation.stats[0])


def overlap(a: Corners, b: Corners) -> float:
    """Intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (area - width * height)


def precision_and_recall(images: Sequence[ImageDetections], truth: Truth, threshold: float) -> tuple[float, float]:
    """Of boxes with at least a confidence, each matched with at most one of the truth, the surest first."""
    right = said = there = 0
    for image in images:
        left = list(truth[Path(image.name).name])
        there += len(left)
        for box in image.detections or ():
            if box.category != "animal" or box.confidence < threshold:
                continue
            said += 1
            best = max(left, key=lambda each: overlap(each, corners_of(box, image)), default=None)
            if best is not None and overlap(best, corners_of(box, image)) >= 0.5:
                right += 1
                left.remove(best)
    return right / max(said, 1), right / there


def surest(image: ImageDetections) -> str:
    """The two boxes of an image with the highest confidence."""
    return ", ".join(f"{box.category} {box.confidence:.2f}" for box in (image.detections or ())[:2]) or "nothing"


def camera_traps(folder: Path) -> list[str]:
    """Lines about a folder on which MegaDetector's boxes are known."""
    (file,) = folder.rglob("megadetector-v5a.csv")
    found = {Path(image.name).name: image for image in birder.detect(folder, progress=None).images}
    theirs: dict[str, Records] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            theirs.setdefault(row["file_name"], []).append(row)
    table, met, asked = [], 0, 0
    for name, rows in sorted(theirs.items()):
        image = found[name]
        ours = surest(image)
        sure = max(rows, key=lambda row: float(row["conf"] or 0))
        if sure["category"] == "0":
            table.append(f"| {name} | nothing | {ours} | |")
            continue
        x, y, width, height = (float(sure[key]) for key in ("x", "y", "width", "height"))
        box = (x * image.width, y * image.height, (x + width) * image.width, (y + height) * image.height)
        wanted = CATEGORIES[int(sure["category"]) - 1]
        near = [each for each in image.detections or () if overlap(corners_of(each, image), box) >= 0.5]
        hit = next((each for each in near if each.category == wanted), None)
        asked, met = asked + 1, met + (hit is not None)
        at = f"{hit.confidence:.2f}" if hit else "no"
        table.append(f"| {name} | {wanted} {float(sure['conf']):.2f} | {ours} | {at} |")
    for name, image in sorted(found.items()):
        if name not in theirs and re.search("blank|empty", name):
            ours = (
                ", ".join(f"{box.category} {box.confidence:.2f}" for box in (image.detections or ())[:2]) or "nothing"
            )
            table.append(f"| {name} | (empty, as its name says) | {ours} | |")
    return [
        f"Of MegaDetector v5a's surest boxes on {asked} images, ours meets {met} (IoU 0.5, the same category).",
        "",
        "| image | MegaDetector v5a | ours, the two surest | met, at |",
        "|---|---|---|---|",
        *table,
    ]


def make_stills(raccoon: Path, count: int) -> Path:
    """Stills, each a file of its own."""
    folder = WORK / f"stills-{count}"
    if len(list(folder.glob("*.jpg"))) == count:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = sorted(raccoon.rglob("*.jpg"))
    random = np.random.default_rng(0)
    grain = random.integers(-6, 7, (STILL[1] + 64, STILL[0] + 64, 3), dtype=np.int16)
    for number in range(count):
        with Image.open(files[number % len(files)]) as opened:
            pixels = np.asarray(opened.convert("RGB").resize(STILL), np.int16)
        top, left = random.integers(0, 64, 2)
        noisy = np.clip(pixels + grain[top : top + STILL[1], left : left + STILL[0]], 0, 255)
        noisy[0, 0] = number % 256, number // 256 % 256, number // 65_536
        Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{number:06}.jpg", quality=88)
    return folder


def rate_of(run: Callable[[], object], images: int, seconds: float = 10.0) -> float:
    """Images/s of something that is done to some at once, over and over."""
    run()
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        run()
        count += images
    return count / took


def alone(folder: Path, boxes_of_image: float) -> tuple[float, float, float]:
    """Images/s of the detector and of the encoder on pixels in memory, and of both one after the other."""
    files = sorted(folder.glob("*.jpg"))[:SAMPLE]
    detector, encoder = Detector(resolve_detector().path), load_encoder(DEFAULT_WEIGHTS)
    pixels: list[npt.NDArray[np.uint8]] = []
    crops: list[npt.NDArray[np.uint8]] = []
    for file in files:
        with Image.open(file) as image:
            pixels.append(detector.prepare(image)[0])
            crops.append(encoder.transform.to_uint8(image))
    batches = [np.stack(crops[start : start + 32]) for start in range(0, len(crops), 32)]
    detecting = rate_of(lambda: detector.run(pixels), len(pixels))
    encoding = rate_of(lambda: [encoder.engine.embed(batch) for batch in batches], len(crops))
    return detecting, encoding, 1 / (1 / detecting + boxes_of_image / encoding)


def whole_run(folder: Path) -> tuple[float, float, float]:
    """One run of `birder embed --detect`: images/s as it says, rows an image, and peak memory in GB."""
    to = WORK / "detecting.birder"
    shutil.rmtree(to, ignore_errors=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "birder", "embed", folder, "--in", to, "--detect"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    rate, rows = re.search(r"([\d.]+) images/s", told), re.search(r"Embedded ([\d,]+)", told)
    if status or rate is None or rows is None:
        raise SystemExit(told)
    images = len(list(folder.glob("*.jpg")))
    return float(rate[1]), int(rows[1].replace(",", "")) / images, usage.ru_maxrss / 1e6


def measure_run(raccoon: Path, count: int) -> None:
    """Print a whole run beside detector and encoder alone, which are measured after it."""
    folder = make_stills(raccoon, count)
    rate, boxes, memory = whole_run(folder)
    detecting, encoding, both = alone(folder, boxes)
    print(f"{count:,} stills of {STILL[0]} x {STILL[1]} pixels, {boxes:.2f} rows an image")
    print(f"detector alone {detecting:.1f} images/s, encoder alone {encoding:.1f}, one after the other {both:.1f}")
    print(f"birder embed --detect {rate:.1f} images/s, {rate / both:.0%} of that; peak memory {memory:.2f} GB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raccoon", type=Path)
    parser.add_argument("camera_trap", type=Path, nargs="?")
    parser.add_argument("--only", default="quality,run", help="comma-separated: quality, run")
    parser.add_argument("--images", type=int, default=10_000, help="stills of the part run")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if "quality" in parts:
        measure_quality(arguments.raccoon, arguments.camera_trap)
    if "run" in parts:
        measure_run(arguments.raccoon, arguments.images)


def measure_quality(raccoon: Path, camera_trap: Path | None) -> None:
    """Print what detection finds, and its speed."""
    truth = truth_of(raccoon)
    birder.detect(raccoon, progress=None)  # once to warm the disk's cache
    began = time.perf_counter()
    images = birder.detect(raccoon, progress=None).images
    rate = len(images) / (time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        _, report = birder.embed(raccoon, Path(folder) / "c", progress=None)
    data, results = coco_of(images, truth)
    slow = precision_by(COCO, COCOeval, data, results)
    fast = precision_by(FastCOCO, COCOeval_faster, data, results)
    if not np.allclose(slow, fast, atol=1e-6):
        raise SystemExit(f"pycocotools says {slow}, faster-coco-eval {fast}.")
    boxes = sum(map(len, truth.values()))
    print(f"{len(images)} images, {boxes} boxes: AP50 {slow[0]:.3f}, AP {slow[1]:.3f} (both packages agree)")
    print("| confidence | precision | recall |\n|---|---|---|")
    for threshold in THRESHOLDS:
        precision, recall = precision_and_recall(images, truth, threshold)
        print(f"| {threshold} | {precision:.3f} | {recall:.3f} |")
    print(f"{rate:.1f} images/s; embedding the same images {report.embedded / report.seconds:.1f} images/s")
    if camera_trap is not None:
        print("\n".join(camera_traps(camera_trap)))


if __name__ == "__main__":
    main()
