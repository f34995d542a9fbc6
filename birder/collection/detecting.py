"""Detection without a collection: from images to the boxes on them, and to a file that other tools read."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from birder.errors import ConfigError, file_exists
from birder.formats.boxes import BoxFormat, DetectorFacts, write_boxes
from birder.formats.sources import find_sources
from birder.inference.detector import Detector, ImageDetections
from birder.pipeline.detect import DetectProgress, Kept, detect_images
from birder.weights.detector import resolve_detector

DetectShow = Callable[[DetectProgress], None] | Literal["auto"] | None
"""A callable; "auto" for a bar in a terminal or notebook; None for nothing."""


@dataclass(frozen=True)
class Detected:
    """What was found on images.

    Attributes
    ----------
    images
        Each image with its boxes, or why it could not be read; in the order of their names.
    detector
        The detector's name.
    seconds
        Time that the run took.
    before
        Images that an earlier run had dealt with, which was stopped.
    stopped
        Whether the run was stopped before its end; the next one with the same arguments goes on.
    """

    images: Sequence[ImageDetections]
    detector: str
    seconds: float
    before: int = 0
    stopped: bool = False

    @property
    def failed(self) -> list[ImageDetections]:
        """The images that could not be read."""
        return [each for each in self.images if each.detections is None]

    def with_category(self, category: str, min_conf: float = 0.0) -> list[ImageDetections]:
        """The images with a box of a category ("animal", "person", "vehicle") of at least a confidence."""
        return [
            each
            for each in self.images
            if any(box.category == category and box.confidence >= min_conf for box in each.detections or ())
        ]


def detect_files(
    images: Sequence[str | Path],
    *,
    model: str | Path | None,
    min_conf: float,
    to: str | Path | None,
    form: BoxFormat,
    force: bool,
    threads: int | None,
    on_progress: Callable[[DetectProgress], None] | None,
    stop: threading.Event | None,
) -> Detected:
    """Detect what is on images, and write it to a file if one is named; see `birder.detect`."""
    if not 0.0 < min_conf <= 1.0:
        raise ConfigError(f"The minimum confidence must be above 0 and at most 1, not {min_conf}.")
    if to is not None and not force and os.path.lexists(to):
        raise file_exists(Path(to))
    sources = find_sources(images, labels=False)
    if not sources:
        raise ConfigError(f"Found no images in {', '.join(map(str, images))}.")
    file = resolve_detector(model)
    detector = Detector(file.path)
    classes = detector.form.names if detector.form.others is not None else ()
    facts = DetectorFacts(file.name, file.sha256, detector.form.size, min_conf, classes)
    kept = None if to is None else Kept(Path(to), {"detector": file.sha256, "minimum_confidence": min_conf})
    last = DetectProgress(0)

    def show(progress: DetectProgress) -> None:
        nonlocal last
        last = progress
        if on_progress is not None:
            on_progress(progress)

    done = False
    with contextlib.ExitStack() as after:
        if kept is not None:
            after.callback(lambda: kept.close(done=done))
        found = list(
            detect_images(sources, detector, min_conf=min_conf, kept=kept, threads=threads, on_progress=show, stop=stop)
        )
        stopped = len(found) < last.total
        if to is not None and not stopped:
            named = sorted((_named(each, images) for each in found), key=lambda each: each.name)
            write_boxes(to, named, facts, form, force=force)
            done = True
    return Detected(sorted(found, key=lambda each: each.name), file.name, last.seconds, last.before, stopped)


def _named(found: ImageDetections, images: Sequence[str | Path]) -> ImageDetections:
    """The image with its name relative to the one folder that was given, as tools that read the results expect it."""
    if len(images) == 1 and os.path.isdir(images[0]):  # noqa: PTH112
        root = os.path.abspath(images[0])  # noqa: PTH100 - as all sources' paths are made
        if found.name.startswith(root.rstrip(os.sep) + os.sep):
            return found._replace(name=os.path.relpath(found.name, root).replace(os.sep, "/"))
    return found
