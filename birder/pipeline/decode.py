"""Reading: from a source that is due to the network's pixels, or to the reason why not, in any thread or process."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from birder.errors import ConfigError, ImageError
from birder.images.open import Photo, decoded_photo
from birder.images.suspect import why_suspect
from birder.images.transform import ClassificationTransform
from birder.sources import NO_COLUMNS, Box, Loaded, Source, Stamp, held_source, stamp_of


@dataclass(slots=True)
class Pending:
    """A photograph that is due: `known` and `failed` say that the collection has its row, or its failure, already."""

    source: Source
    stamp: Stamp | None
    known: bool = False
    failed: bool = False

    @property
    def uri(self) -> str:
        """The key of its row."""
        return self.source.uri


class Decoded(NamedTuple):
    """A photograph, or a box of it, as pixels (H, W, 3) uint8 for the network; width and height are its own.

    `suspect` says what makes it look damaged, though it decodes. `sha256` stands for the content: of the file's bytes;
    for a box, of the file's sha256 and the box. `pixels` is None where another photograph with this content was claimed
    before.
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


class Unreadable(NamedTuple):
    """What could not be read, and why; `sha256` None: not even the bytes could."""

    item: Pending
    sha256: str | None
    reason: str


Claim = Callable[[str], bool]
"""Says of a content's sha256 whether whoever asks shall decode it; False: someone else has."""


def read_one(
    pending: Pending, transform: ClassificationTransform, draft: bool, claim: Claim | None = None
) -> Decoded | Unreadable:
    """Read and decode one photograph. It never raises for what is wrong with the photograph; see `read_group`."""
    return read_group([pending], transform, draft, claim)[0]


def read_group(
    items: Sequence[Pending], transform: ClassificationTransform, draft: bool, claim: Claim | None = None
) -> list[Decoded | Unreadable]:
    """Read one file, and decode it once for all the boxes of it that are due.

    Parameters
    ----------
    items
        Boxes of one photograph, or a single photograph. Their stamps are set to what the file is when it is read.
    draft
        Decode JPEGs at a reduced size where that is enough for the transform, of the smallest box too.
    claim
        Asked before decoding; everything is decoded without it.
    """
    hopeless: list[Decoded | Unreadable] = []
    for item in items:
        if item.source.problem is not None:
            hopeless.append(Unreadable(item, None, item.source.problem))
    if hopeless:
        rest = [item for item in items if item.source.problem is None]
        return hopeless + (read_group(rest, transform, draft, claim) if rest else [])
    first = items[0].source
    try:
        # Taken before reading: a file that changes meanwhile is found changed by the next run.
        stamp = stamp_of(first)
        for item in items:
            item.stamp = stamp
        with held_source(first, stamp) as loaded:
            for item in items:
                if item.stamp is None:  # it was not there a moment ago, or its server tells nothing about it
                    item.stamp = Stamp(len(loaded.data), None)
            return _decode(items, loaded, transform, draft, claim)
    except FileNotFoundError:
        reason = "the file does not exist (any more)"
    except PermissionError:
        reason = "no permission to read the file"
    except OSError as error:
        reason = f"it cannot be read ({error.strerror or error})"
    except MemoryError:
        reason = "not enough memory to read it"
    except ConfigError as error:  # a URL that no installed library opens
        reason = str(error)
    return [Unreadable(item, None, reason) for item in items]


def _decode(
    items: Sequence[Pending], loaded: Loaded, transform: ClassificationTransform, draft: bool, claim: Claim | None
) -> list[Decoded | Unreadable]:
    outcomes: list[Decoded | Unreadable] = []
    mine: list[tuple[Pending, str]] = []
    whole = hashlib.sha256(loaded.data).hexdigest()
    for item in items:
        box = item.source.box
        name = whole if box is None else hashlib.sha256(f"{whole}#{box.fragment}".encode()).hexdigest()
        if claim is None or claim(name):
            mine.append((item, name))
        else:
            outcomes.append(Decoded(item, name, loaded.columns))
    if not mine:
        return outcomes
    boxes = [item.source.box or Box(0, 0, 1, 1) for item, _ in mine]
    decoded: list[Decoded | Unreadable] = []
    try:
        with decoded_photo(loaded.data, draft=_draft_size(transform, boxes) if draft else None) as photo:
            for (item, name), box in zip(mine, boxes, strict=True):
                image, width, height = _cut(photo, box)
                pixels = transform.to_uint8(image)
                suspect = why_suspect(loaded.data, pixels)
                decoded.append(Decoded(item, name, loaded.columns, pixels, width, height, *photo.metadata, suspect))
    except ImageError as error:
        return outcomes + decoded + [Unreadable(item, name, str(error)) for item, name in mine[len(decoded) :]]
    return outcomes + decoded


def _draft_size(transform: ClassificationTransform, boxes: Sequence[Box]) -> tuple[int, int]:
    """(height, width) of the whole photograph at which its smallest box still covers what the transform needs."""
    height, width = transform.resize_to
    return (
        math.ceil(height / max(min(box.height for box in boxes), 1e-6)),
        math.ceil(width / max(min(box.width for box in boxes), 1e-6)),
    )


def _cut(photo: Photo, box: Box) -> tuple[Image.Image, int, int]:
    """The pixels that a box touches, and its width and height in the undrafted photograph."""
    if box == (0, 0, 1, 1):
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
