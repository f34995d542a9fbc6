"""Detections on images, written for other tools: MegaDetector's results, format 1.4, and COCO's JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from birder.files import replacing
from birder.formats.megadetector import BOX_DIGITS, CONFIDENCE_DIGITS
from birder.inference.detector import CATEGORIES, Detection, ImageDetections
from birder.version import __version__

BoxFormat = Literal["megadetector", "coco"]
_KEYS = {category: str(number) for number, category in enumerate(CATEGORIES, 1)}
"""MegaDetector's: animal "1", person "2", vehicle "3"."""


@dataclass(frozen=True)
class DetectorFacts:
    """What the results say of the detector: its name, sha256, input size, and the minimum confidence of the boxes.

    `classes` are those that a user trained it on, which are written beside the categories; of others they are empty.
    """

    name: str
    sha256: str
    size: tuple[int, int]
    min_conf: float
    classes: tuple[str, ...] = ()

    def class_of(self, box: Detection) -> int:
        """The number of a box's class in `classes`, from 1."""
        name = box.hint or next(each for each in self.classes if each.lower() == box.category)
        return self.classes.index(name) + 1


def write_boxes(
    to: str | Path, found: Sequence[ImageDetections], detector: DetectorFacts, form: BoxFormat, *, force: bool
) -> None:
    """Write detections; `FileExistsError` (Birder's own) where the file exists, unless `force`."""
    document = _FORMS[form](found, detector)
    with replacing(to, force=force) as draft:
        draft.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _megadetector(results: Sequence[ImageDetections], detector: DetectorFacts) -> dict[str, Any]:
    classes = list(enumerate(detector.classes, 1))
    images: list[dict[str, Any]] = []
    for each in results:
        if each.detections is None:
            images.append({"file": each.name, "detections": None, "failure": each.failure or "unknown"})
            continue
        boxes = [
            {
                "category": _KEYS[box.category],
                "conf": round(box.confidence, CONFIDENCE_DIGITS),
                "bbox": [round(value, BOX_DIGITS) for value in (box.x, box.y, box.width, box.height)],
            }
            | (
                {"classifications": [[str(detector.class_of(box)), round(box.confidence, CONFIDENCE_DIGITS)]]}
                if detector.classes
                else {}
            )
            for box in each.detections
        ]
        images.append({"file": each.name, "width": each.width, "height": each.height, "detections": boxes})
    return {
        "info": _info(detector) | {"format_version": "1.4"},
        "detection_categories": {key: name for name, key in _KEYS.items()},
        **({"classification_categories": {str(n): name for n, name in classes}} if classes else {}),
        "images": images,
    }


def _coco(results: Sequence[ImageDetections], detector: DetectorFacts) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, each in enumerate((each for each in results if each.detections is not None), 1):
        images.append({"id": number, "file_name": each.name, "width": each.width, "height": each.height})
        for box in each.detections or ():
            left, width = box.x * each.width, box.width * each.width
            top, height = box.y * each.height, box.height * each.height
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": detector.class_of(box) if detector.classes else int(_KEYS[box.category]),
                    "bbox": [round(value, 2) for value in (left, top, width, height)],
                    "area": round(width * height, 2),
                    "iscrowd": 0,
                    "score": round(box.confidence, CONFIDENCE_DIGITS),
                }
            )
    return {
        "info": _info(detector),
        "images": images,
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for n, name in enumerate(detector.classes or CATEGORIES, 1)],
        "failures": [{"file_name": each.name, "reason": each.failure} for each in results if each.detections is None],
    }


_FORMS: dict[str, Callable[[Sequence[ImageDetections], DetectorFacts], dict[str, Any]]] = {
    "megadetector": _megadetector,
    "coco": _coco,
}


def _info(detector: DetectorFacts) -> dict[str, Any]:
    return {
        "detector": detector.name,
        "detector_metadata": {
            "sha256": detector.sha256,
            "image_size": list(detector.size),
            "minimum_confidence": detector.min_conf,
            "software": f"birder {__version__}",
        },
    }
