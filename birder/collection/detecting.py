"""Detection without embedding: from images to the boxes on them, and to a file that other tools read.

The images of a collection may be those. Then its rows of whole images are told what is on them, and labels are not
touched.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, Unpack

import pyarrow as pa

from birder.collection.filter import Filter, as_filter
from birder.collection.storage import Storage
from birder.errors import ConfigError, file_exists
from birder.formats.boxes import BoxFormat, DetectorFacts, write_boxes
from birder.formats.sources import find_sources
from birder.inference.detector import CATEGORIES, Detector, ImageDetections
from birder.pipeline.boxes import EMPTY, category_of
from birder.pipeline.detect import DetectProgress, Kept, detect_images
from birder.pipeline.run import MIN_CONFIDENCE
from birder.sources import Source, image_of, is_url, sources_again, uri_to_path
from birder.weights.detector import resolve_detector


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
    folder
        What names in the file are relative to; None where they are whole paths, URLs or uris.
    updated
        Rows of the collection that got another `category` or `confidence`.
    """

    images: Sequence[ImageDetections]
    detector: str
    seconds: float
    before: int = 0
    stopped: bool = False
    folder: Path | None = None
    updated: int = 0

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


class DetectOptions(TypedDict):
    """Options of a run; `birder.detect` explains them."""

    model: str | Path | None
    min_conf: float
    to: str | Path | None
    form: BoxFormat
    force: bool
    threads: int | None
    on_progress: Callable[[DetectProgress], None] | None
    stop: threading.Event | None


def detect_files(images: Sequence[str | Path], **options: Unpack[DetectOptions]) -> Detected:
    """Detect what is on images, and write it to a file if one is named; see `birder.detect`."""
    _check(options)
    sources = find_sources(images, labels=False)
    if not sources:
        raise ConfigError(f"Found no images in {', '.join(map(str, images))}.")
    one = len(images) == 1 and os.path.isdir(images[0])  # noqa: PTH112
    root = os.path.abspath(images[0]) if one else None  # noqa: PTH100 - as all sources' paths are made
    return _detect(sources, root, options)


def detect_rows(collection: Storage, where: str | Filter | None = None, **options: Unpack[DetectOptions]) -> Detected:
    """Detect what is on the images of a collection; see `birder.Collection.detect`."""
    _check(options)
    chosen = as_filter(where, collection.columns)
    uris = [uri for batch in collection.scan(["uri"], where=chosen) for uri in batch["uri"].to_pylist()]
    if not uris:
        raise ConfigError(f"{collection.path} has no rows{'' if where is None else ' that match the filter'}.")
    _check_categories(collection)
    sources = _images_of(set(map(image_of, uris)))
    files = [source.path for source in sources if source.part is None and not is_url(source.path)]
    found = _detect(sources, os.path.commonpath(map(os.path.dirname, files)) if files else None, options)
    if found.stopped:
        return found
    # both are in the order of their names
    told = {source.uri: each for source, each in zip(sources, found.images, strict=True) if each.detections is not None}
    return replace(found, updated=_tell_rows(collection, chosen, told, max(options["min_conf"], MIN_CONFIDENCE)))


def _check(options: DetectOptions) -> None:
    if not 0.0 < options["min_conf"] <= 1.0:
        raise ConfigError(f"The minimum confidence must be above 0 and at most 1, not {options['min_conf']}.")
    if options["to"] is not None and not options["force"] and os.path.lexists(options["to"]):
        raise file_exists(Path(options["to"]))


def _detect(sources: Sequence[Source], root: str | None, options: DetectOptions) -> Detected:
    """Detect what is on images; names in the file are relative to `root`, as tools that read it expect them."""
    to, min_conf = options["to"], options["min_conf"]
    file = resolve_detector(options["model"])
    detector = Detector(file.path)
    classes = detector.form.names if detector.form.others is not None else ()
    facts = DetectorFacts(file.name, file.sha256, detector.form.size, min_conf, classes)
    kept = None if to is None else Kept(Path(to), {"detector": file.sha256, "minimum_confidence": min_conf})
    last = DetectProgress(0)

    def show(progress: DetectProgress) -> None:
        nonlocal last
        last = progress
        if options["on_progress"] is not None:
            options["on_progress"](progress)

    done = False
    with contextlib.ExitStack() as after:
        if kept is not None:
            after.callback(lambda: kept.close(done=done))
        found = list(
            detect_images(
                sources,
                detector,
                min_conf=min_conf,
                kept=kept,
                threads=options["threads"],
                on_progress=show,
                stop=options["stop"],
            )
        )
        stopped = len(found) < last.total
        if to is not None and not stopped:
            named = sorted((_named(each, root) for each in found), key=lambda each: each.name)
            write_boxes(to, named, facts, options["form"], force=options["force"])
            done = True
    images = sorted(found, key=lambda each: each.name)
    folder = None if root is None else Path(root)
    return Detected(images, file.name, last.seconds, last.before, stopped, folder)


def _named(found: ImageDetections, root: str | None) -> ImageDetections:
    """The image with its name relative to a folder."""
    if root is not None and found.name.startswith(root.rstrip(os.sep) + os.sep):
        return found._replace(name=os.path.relpath(found.name, root).replace(os.sep, "/"))
    return found


def _images_of(uris: set[str]) -> list[Source]:
    """The images that uris name, in the order of their names; those that are gone have a problem."""
    again, _ = sources_again(sorted(uris), labels=False)
    found = {
        each.uri: each
        for source in again
        for each in ([source] if source.members is None else source.members.sources())
        if each.uri in uris
    }
    for uri in uris - found.keys():
        found[uri] = Source(uri if is_url(uri) else uri_to_path(uri), problem="the file no longer exists")
    return sorted(found.values(), key=lambda each: each.name)


def _check_categories(collection: Storage) -> None:
    """Refuse to write over a user's own column of categories."""
    if "category" not in collection.columns:
        return
    for batch in collection.scan(["category"]):
        own = {each for each in batch["category"].to_pylist() if each is not None} - {*CATEGORIES, EMPTY}
        if own:
            raise ConfigError(
                f"The column category of {collection.path} is not of detections: it has {min(map(str, own))}. "
                "Detect on the folder of its images instead."
            )


def _tell_rows(collection: Storage, where: Filter | None, told: Mapping[str, ImageDetections], min_conf: float) -> int:
    """Write what is on an image into its row, if that matches and is of the whole image; how many rows changed."""
    uris, categories, confidences = [], [], []
    names = [name for name in ("category", "confidence") if name in collection.columns]
    for batch in collection.scan(["uri", *names], where=where):
        for row in batch.to_pylist():
            if (found := told.get(row["uri"])) is None:
                continue
            category, confidence = category_of(found.detections or (), min_conf)
            if (row.get("category"), row.get("confidence")) != (category, confidence):
                uris.append(row["uri"])
                categories.append(category)
                confidences.append(confidence)
    if uris:
        columns = {"uri": uris, "category": categories, "confidence": pa.array(confidences, pa.float64())}
        collection.write_columns(pa.table(columns))
    return len(uris)
