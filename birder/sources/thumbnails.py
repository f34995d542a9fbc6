"""Thumbnails of the images of rows, by their uris."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from birder.errors import ImageError
from birder.sources.row_images import RowImages, place_of, shrunk, to_jpeg

_QUALITY = 80


def thumbnails(uris: Iterable[str], side: int) -> dict[str, bytes | str]:
    """Small JPEGs, at most `side` pixels on their longest side, by uri; or the reason why there is none."""
    opened = RowImages()

    def make(uri: str) -> bytes | str:
        place = place_of(uri)
        if place is None:
            return "it is not on this machine"
        try:
            return to_jpeg(shrunk(opened.read(place), place.fragment, side), _QUALITY)
        except ImageError as error:
            return str(error)

    uris = dict.fromkeys(uris)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(uris, pool.map(make, uris), strict=True))
