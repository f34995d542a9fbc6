"""Detection within a run of `embed`: the image that was decoded for its boxes becomes a `Pending` for each of them.

A box has the uri, the columns and the content's sha256 that `--crops` gives it from a file of boxes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from birder.collection.detection import DETECTIONS, DetectionRecord, Empty
from birder.collection.schema import Former
from birder.formats.megadetector import BOX_DIGITS, CONFIDENCE_DIGITS, box_on_image
from birder.pipeline.known import Found, Pending
from birder.sources import Box, Source
from birder.weights.detector import DetectorFile

if TYPE_CHECKING:
    from PIL import Image

    from birder.inference.detector import Detection, Detector

COLUMNS: Mapping[str, pa.DataType] = {
    "category": pa.string(),
    "confidence": pa.float64(),
    **{f"box_{name}": pa.float64() for name in Box._fields},
    DETECTIONS: pa.int64(),
}
"""What detection tells of a row."""
EMPTY = "empty"
"""The category of an image on which nothing is."""


@dataclass(frozen=True)
class Detecting:
    """How a run detects: by which file, from which confidence on, and what becomes of images without an animal."""

    file: DetectorFile
    min_conf: float
    empty: Empty

    @property
    def record(self) -> DetectionRecord:
        """What the collection keeps of it."""
        return DetectionRecord(self.file.name, self.file.sha256, self.min_conf)

    def load(self) -> Detector:
        """The detector; each process has one."""
        return _load(self.file)

    def due(self, item: Pending, image: Image.Image) -> list[Pending]:
        """Detect what is on an image, and tell what is to be embedded: none if the image is to be noted as empty.

        Rows of its boxes that are there already are left out, unless nothing would be left.
        """
        # a hair lower, because the confidence is rounded as in files of boxes, and then compared
        boxes = [_rounded(each) for each in self.load().find(image, min_conf=max(self.min_conf - 1e-4, 1e-6))]
        boxes = [each for each in boxes if each.confidence >= self.min_conf]
        sources = list(_animals(item.source, boxes))
        animals = len(sources)
        if not sources and (self.empty == "keep" or item.known):
            category, confidence = category_of(boxes, self.min_conf)
            sources = [_with(item.source, None, {"category": category, "confidence": confidence, DETECTIONS: 0})]
        before, failures = item.boxes.rows, item.boxes.failures
        there = {uri for uri, (stamp, count) in before.items() if stamp == item.stamp and count == animals}
        uris = [source.uri for source in sources]
        due = [
            Pending(
                source,
                item.stamp,
                known=uri in before or (item.known and uri == item.uri),
                failed=uri in failures or (item.failed and uri == item.uri),
                found=Found(False, animals),
            )
            for source, uri in zip(sources, uris, strict=True)
            if uri not in there or there.issuperset(uris)
        ]
        if due:
            failed = {*failures, *([item.uri] if item.failed else [])}
            former = Former(sorted(before.keys() - set(uris)), sorted(failed - set(uris)))
            due[0].found = Found(True, animals, former)
        return due


@functools.cache
def _load(file: DetectorFile) -> Detector:
    from birder.inference.detector import Detector

    return Detector(file.path)


def category_of(boxes: Sequence[Detection], min_conf: float) -> tuple[str, float | None]:
    """What is on an image, by the surest box, an animal's before any other; and its confidence."""
    sure = [each for each in boxes if each.confidence >= min_conf]
    best = max(sure, key=lambda each: (each.category == "animal", each.confidence), default=None)
    return (EMPTY, None) if best is None else (best.category, round(best.confidence, CONFIDENCE_DIGITS))


def _rounded(box: Detection) -> Detection:
    """As files of boxes have it."""
    return box._replace(
        confidence=round(box.confidence, CONFIDENCE_DIGITS),
        x=round(box.x, BOX_DIGITS),
        y=round(box.y, BOX_DIGITS),
        width=round(box.width, BOX_DIGITS),
        height=round(box.height, BOX_DIGITS),
    )


def _animals(image: Source, boxes: Sequence[Detection]) -> Iterator[Source]:
    """A source for each animal; of two boxes that are equal to the last digit, the one with more confidence."""
    places: dict[Box, float] = {}
    for each in boxes:
        box = box_on_image([each.x, each.y, each.width, each.height])
        if each.category == "animal" and box is not None and box.width > 0 and box.height > 0:
            places.setdefault(box, each.confidence)
    for box, confidence in places.items():
        told = {"confidence": confidence, "category": "animal", DETECTIONS: len(places)}
        yield _with(image, box, told | {f"box_{name}": value for name, value in box._asdict().items()})


def _with(image: Source, box: Box | None, columns: Mapping[str, Any]) -> Source:
    return replace(image, box=box, columns={**image.columns, **columns})
