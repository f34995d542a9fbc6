"""The rows of one image: its boxes, and the whole of it.

Rows are sorted by their uris, in which the boxes of an image follow its own name: they are found among a million by
bisection, and nothing is kept in memory for it.
"""

from __future__ import annotations

import bisect
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from birder.server.catalogue import Snapshot, uri_key
from birder.server.encoded import Positions
from birder.server.review import with_predictions
from birder.sources import box_of

MOST = 300
"""Boxes of one image that are given."""
_TOLD = ("category", "confidence", "box")


class RowsOfImage(NamedTuple):
    """The row of the whole image, None if there is none; and those of its boxes, the first `MOST` by their uris."""

    whole: int | None
    boxes: Positions


def rows_of_image(snapshot: Snapshot, image: str) -> RowsOfImage:
    """The rows of an image, by the uri that `birder.sources.image_of` gives of any of them."""
    uris = snapshot.encoded("uri")
    start = f"{image}{'&' if '#' in image else '#'}xywh="
    whole, first = _place(uris, image), _place(uris, start)
    last = first
    while last < min(len(uris), first + MOST) and uris[last].as_py().startswith(start):
        last += 1
    is_there = whole < len(uris) and uris[whole].as_py() == image
    return RowsOfImage(whole if is_there else None, np.arange(first, last))


def _place(uris: pa.Array, uri: str) -> int:
    return bisect.bisect_left(range(len(uris)), uri_key(uri), key=lambda row: uri_key(uris[row].as_py()))


def boxes_on(snapshot: Snapshot, positions: Positions) -> list[dict[str, Any]]:
    """Boxes as the page draws them, from left to right; rows whose uri is not of a box are left out."""
    uris = snapshot.encoded("uri", positions).to_pylist()
    told = {name: snapshot.column(name, positions).to_pylist() for name in _TOLD if name in snapshot.types}
    found = []
    for number, photo in enumerate(with_predictions(snapshot, positions)):
        place = box_of(uris[number].partition("#")[2])
        if place is None:
            continue
        values = {name: told[name][number] if name in told else None for name in _TOLD}
        for name, kind in (("category", str), ("confidence", float), ("box", str)):
            if not isinstance(values[name], kind):  # a column of the user's own
                values[name] = None
        found.append({**photo, **values, "place": place._asdict()})
    return sorted(found, key=lambda box: (box["place"]["x"], box["place"]["y"], box["id"]))
