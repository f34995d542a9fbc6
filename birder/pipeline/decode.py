"""Reading: a source that is due becomes pixels for the network, or a reason why it cannot, in any thread or process."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from birder.collection.detection import NO_ANIMAL
from birder.collection.schema import Content, Former
from birder.errors import ConfigError, ImageError
from birder.images.open import Photo, decoded_photo
from birder.images.suspect import why_suspect
from birder.images.transform import ClassificationTransform
from birder.pipeline.boxes import Detecting
from birder.pipeline.known import Found, Pending
from birder.sources import NO_COLUMNS, Box, Loaded, Stamp, held_source, stamp_of

_WHOLE = Box(0, 0, 1, 1)


class Decoded(NamedTuple):
    """An image, or a box of it, as pixels (H, W, 3) uint8 for the network; width and height are its own.

    `sha256` identifies the content: of the file's bytes; for a box, of the file's sha256 and the box. `columns` are
    those of the shard, and after `outcomes.described` those of the row; `off_earth` is set there too. `pixels` is None
    where another source with this content was claimed before. `suspect` says what makes the image look damaged, though
    it decodes.
    """

    item: Pending
    sha256: str
    columns: Mapping[str, Any] = NO_COLUMNS
    pixels: npt.NDArray[np.uint8] | None = None
    width: int = 0
    height: int = 0
    taken_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    suspect: str | None = None
    off_earth: bool = False

    def content(self, embedding: npt.NDArray[np.float32], patches: npt.NDArray[np.float16] | None) -> Content:
        """What the collection keeps of it: with its embedding (D,) and its patch tokens in a row, if there are any."""
        return Content(
            embedding,
            self.width,
            self.height,
            self.taken_at,
            self.latitude,
            self.longitude,
            suspect=self.suspect,
            patches=patches,
        )


class Unreadable(NamedTuple):
    """A source without an embedding, and why; `sha256` is None if not even its bytes could be read."""

    item: Pending
    sha256: str | None
    reason: str


Claim = Callable[[str], bool]
"""Whether the caller should decode a content, by its sha256; False: another caller has claimed it."""


def read_one(
    pending: Pending, transform: ClassificationTransform, draft: bool, claim: Claim | None = None
) -> Decoded | Unreadable:
    """Read and decode one image. A file that cannot be read raises nothing: it is an outcome; see `read_group`."""
    return read_group([pending], transform, draft, claim)[0]


def read_group(
    items: Sequence[Pending],
    transform: ClassificationTransform,
    draft: bool,
    claim: Claim | None = None,
    detecting: Detecting | None = None,
) -> list[Decoded | Unreadable]:
    """Read one file, and decode it once for all the boxes of it that are due, or that are found on it.

    Parameters
    ----------
    items
        Boxes of one image, or a single image. Their stamps are set to what the file is when it is read.
    draft
        Decode JPEGs at a reduced size where that is enough for the transform, of the smallest box too.
    claim
        Asked before decoding; everything is decoded without it.
    detecting
        How boxes are found; the outcomes are then those of the boxes, or of an image without an animal.
    """
    refused: list[Decoded | Unreadable] = []
    for item in items:
        if item.source.problem is not None:
            refused.append(Unreadable(item, None, item.source.problem))
    if refused:
        rest = [item for item in items if item.source.problem is None]
        return refused + (read_group(rest, transform, draft, claim, detecting) if rest else [])
    first = items[0].source
    try:
        # Taken before reading: a file that changes meanwhile is found changed by the next run.
        stamp = stamp_of(first)
        for item in items:
            item.stamp = stamp
        with held_source(first, stamp) as loaded:
            for item in items:
                if item.stamp is None:  # it did not exist a moment ago, or its server says nothing about it
                    item.stamp = Stamp(len(loaded.data), None)
            return _decode(items, loaded, transform, draft, claim, detecting)
    except UNREADABLE as error:
        reason = why_unreadable(error)
    return [Unreadable(item, None, reason) for item in items]


UNREADABLE = (OSError, MemoryError, ConfigError, ImageError)
"""What reading a source raises where its bytes cannot be had: also for URLs without a library, and for frames."""


def why_unreadable(error: BaseException) -> str:
    """The reason to give for an error of `UNREADABLE`."""
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if isinstance(error, PermissionError):
        return "no permission to read the file"
    if isinstance(error, OSError):
        return f"it cannot be read ({error.strerror or error})"
    return "not enough memory to read it" if isinstance(error, MemoryError) else str(error)


def _decode(
    items: Sequence[Pending],
    loaded: Loaded,
    transform: ClassificationTransform,
    draft: bool,
    claim: Claim | None,
    detecting: Detecting | None,
) -> list[Decoded | Unreadable]:
    file_sha256 = hashlib.sha256(loaded.data).hexdigest()
    if detecting is not None:
        return _detect(items, loaded, file_sha256, transform, claim, detecting)
    outcomes, claimed = _claimed(items, loaded, file_sha256, claim)
    if not claimed:
        return outcomes
    boxes = [item.source.box or _WHOLE for item, _ in claimed]
    decoded: list[Decoded | Unreadable] = []
    try:
        with decoded_photo(loaded.data, draft=_draft_size(transform, boxes) if draft else None) as photo:
            for each in claimed:
                decoded.append(_cut_out(photo, *each, loaded, transform))
    except ImageError as error:
        left = claimed[len(decoded) :]
        return outcomes + decoded + [Unreadable(item, sha256, str(error)) for item, sha256 in left]
    return outcomes + decoded


def _detect(
    items: Sequence[Pending],
    loaded: Loaded,
    file_sha256: str,
    transform: ClassificationTransform,
    claim: Claim | None,
    detecting: Detecting,
) -> list[Decoded | Unreadable]:
    """Find the boxes on each of the same image, and cut them out of the pixels in which they were found.

    It is decoded at full size: how small the smallest box is, and so what a draft had to keep of it, is known only
    when the image is decoded.
    """
    outcomes: list[Decoded | Unreadable] = []
    try:
        with decoded_photo(loaded.data) as photo:
            for item in items:
                due = detecting.due(item, photo.image)
                if not due:
                    found = Found(True, 0, Former(sorted(item.boxes.rows), sorted(item.boxes.failures)))
                    outcomes.append(Unreadable(replace(item, found=found), None, NO_ANIMAL))
                others, claimed = _claimed(due, loaded, file_sha256, claim)
                outcomes += others
                outcomes += [_cut_out(photo, *each, loaded, transform) for each in claimed]
    except ImageError as error:
        return [
            Unreadable(replace(item, found=Found(True, 0, Former(sorted(item.boxes.rows)))), file_sha256, str(error))
            for item in items
        ]
    return outcomes


def _claimed(
    items: Sequence[Pending], loaded: Loaded, file_sha256: str, claim: Claim | None
) -> tuple[list[Decoded | Unreadable], list[tuple[Pending, str]]]:
    """Those whose content another source has claimed, and the others with the sha256 of their content."""
    outcomes: list[Decoded | Unreadable] = []
    claimed: list[tuple[Pending, str]] = []
    for item in items:
        box = item.source.box
        sha256 = file_sha256
        if box is not None:
            sha256 = hashlib.sha256(f"{file_sha256}#{box.fragment}".encode()).hexdigest()
        if claim is None or claim(sha256):
            claimed.append((item, sha256))
        else:
            outcomes.append(Decoded(item, sha256, loaded.columns))
    return outcomes, claimed


def _cut_out(photo: Photo, item: Pending, sha256: str, loaded: Loaded, transform: ClassificationTransform) -> Decoded:
    """The pixels of a source, for the network."""
    image, width, height = cut(photo, item.source.box or _WHOLE)
    pixels = transform.to_uint8(image)
    suspect = why_suspect(loaded.data, pixels)
    return Decoded(item, sha256, loaded.columns, pixels, width, height, *photo.metadata, suspect)


def _draft_size(transform: ClassificationTransform, boxes: Sequence[Box]) -> tuple[int, int]:
    """(height, width) of the whole image at which its smallest box still covers what the transform needs."""
    height, width = transform.resize_to
    return (
        math.ceil(height / max(min(box.height for box in boxes), 1e-6)),
        math.ceil(width / max(min(box.width for box in boxes), 1e-6)),
    )


def cut(photo: Photo, box: Box) -> tuple[Image.Image, int, int]:
    """The pixels that a box touches, and its width and height in the image at full size."""
    if box == _WHOLE:
        return photo.image, photo.width, photo.height
    left, top, right, bottom = _touched(box, photo.image.width, photo.image.height)
    full = _touched(box, photo.width, photo.height)
    return photo.image.crop((left, top, right, bottom)), full[2] - full[0], full[3] - full[1]


def _touched(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    # The tolerance keeps an edge that lies on a pixel's edge, but for the last digit, from taking one pixel more.
    left, top = min(int(box.x * width + 1e-6), width - 1), min(int(box.y * height + 1e-6), height - 1)
    right = min(math.ceil((box.x + box.width) * width - 1e-6), width)
    bottom = min(math.ceil((box.y + box.height) * height - 1e-6), height)
    return left, top, max(right, left + 1), max(bottom, top + 1)
