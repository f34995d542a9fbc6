"""`python -m birder.learning.view_process`: read images and make views of them, for a training in another process.

What comes in on standard input, again and again: a request as JSON after its length (4 bytes, big-endian), with `uris`,
`seeds` (for a random view; null for the whole image), and `transform`, a card's. What goes out: JSON after its length,
with a list of one object an image, `colour` or `reason`; then the pixels of those that could be read, (H, W, 3) uint8
each. It ends when standard input does, as when the training is killed.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from birder.images.decoding_process import say
from birder.images.open import decoded_photo
from birder.images.transform import ClassificationTransform
from birder.learning.augment import LEAST_AREA, View, random_view
from birder.pipeline.decode import UNREADABLE, cut, why_unreadable
from birder.sources import is_url
from birder.sources.read import read_source
from birder.sources.row_images import RowImages, place_of
from birder.sources.source import Box, box_of

_WHOLE = Box(0, 0, 1, 1)
_SMALLEST = math.sqrt(LEAST_AREA * 3 / 4)  # the shortest side of a crop, as a share of the image's


def main() -> None:
    """Answer requests until standard input ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not corrupt the stream
    opened = RowImages()
    while len(length := requests.read(4)) == 4:
        wanted = json.loads(requests.read(struct.unpack(">I", length)[0]))
        transform = ClassificationTransform.from_card(wanted["transform"])
        told: list[dict[str, Any]] = []
        views: list[View] = []
        for uri, seed in zip(wanted["uris"], wanted["seeds"], strict=True):
            try:
                views.append(view_of(uri, seed, transform, opened))
            except UNREADABLE as error:
                told.append({"reason": why_unreadable(error)})
            else:
                told.append({"colour": views[-1].colour})
        say(answers, {"images": told})
        for view in views:
            answers.write(view.pixels.tobytes())
        answers.flush()


def view_of(uri: str, seed: Sequence[int] | None, transform: ClassificationTransform, opened: RowImages) -> View:
    """The view of an image that a seed draws, or the whole image as a collection embeds it; raises `UNREADABLE`."""
    place = place_of(uri)
    fragment = uri.partition("#")[2]
    data = opened.read(place) if place is not None else _remote(uri)
    box = box_of(fragment) or _WHOLE
    share = max(min(box.width, box.height), 1e-6) * (1.0 if seed is None else _SMALLEST)
    height, width = transform.resize_to
    with decoded_photo(data, draft=(math.ceil(height / share), math.ceil(width / share))) as photo:
        image = cut(photo, box)[0]
        if seed is None:
            return View(np.ascontiguousarray(transform.to_uint8(image)), (1.0, 1.0, 1.0))
        return random_view(image, transform.size, np.random.default_rng(seed))


def _remote(uri: str) -> bytes:
    if not is_url(uri):
        raise OSError("its name is neither that of a file here nor a URL")
    return read_source(uri.partition("#")[0], images=True)


if __name__ == "__main__":
    main()
