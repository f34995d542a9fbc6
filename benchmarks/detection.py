"""How good the detector that ships with Birder is, and how fast.

    .venv/bin/python benchmarks/detection.py RACCOON [CAMERA_TRAP]

RACCOON is Tran's raccoon_dataset (200 images, 217 boxes in Pascal VOC's XML): the average precision of `animal` at an
intersection over union of 0.5, by pycocotools and by faster-coco-eval, which must agree, and precision and recall at
some thresholds. CAMERA_TRAP is a folder of camera-trap images with `megadetector-v5a.csv`, what MegaDetector v5a found
on them: how many of its surest boxes ours meets, and what ours says of the images without anything. Speed is of whole
runs, decoding included, beside that of embedding the same images with the default model.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import re
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO as FastCOCO
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import birder
from birder.inference.detector import CATEGORIES, Detection, ImageDetections

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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raccoon", type=Path)
    parser.add_argument("camera_trap", type=Path, nargs="?")
    arguments = parser.parse_args()
    truth = truth_of(arguments.raccoon)
    birder.detect(arguments.raccoon, progress=None)  # once to warm the disk's cache
    began = time.perf_counter()
    images = birder.detect(arguments.raccoon, progress=None).images
    rate = len(images) / (time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        _, report = birder.embed(arguments.raccoon, Path(folder) / "c", progress=None)
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
    if arguments.camera_trap is not None:
        print("\n".join(camera_traps(arguments.camera_trap)))


if __name__ == "__main__":
    main()
