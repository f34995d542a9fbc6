"""Thumbnails: made at first need, each once, and kept beside the collection under thumbnails/.

A thumbnail is kept under the sha256 of the content that it shows, so images with the same content share one. A
file that is no longer what was embedded is shown as it is now, and kept under its place, size and time instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from birder.errors import BirderError, ImageError
from birder.files import replacing
from birder.server.limits.work import Workers
from birder.sources.row_images import Place, RowImages, shrunk, stamp_of_place, to_jpeg

_QUALITY = 82


class Thumbnail(NamedTuple):
    """A thumbnail as JPEG, and what changes when it does."""

    data: bytes
    key: str


class Thumbnails:
    """The thumbnails of a collection; any thread may ask."""

    def __init__(self, collection: Path, row_images: RowImages) -> None:
        self._folder = collection / "thumbnails"
        self._row_images = row_images
        self.workers = Workers("thumbnails", threads=3, waiting=5000)
        self._lock = threading.Lock()
        self._being_made: dict[str, Future[Thumbnail]] = {}

    async def get(self, sha256: str, place: Place, size: int) -> Thumbnail:
        """A stored thumbnail, or a new one; a caller that asks for one that is being made waits for it.

        Raises
        ------
        ImageError
            The image cannot be read.
        HTTPException
            503: too many callers are waiting.
        """
        name = f"{sha256} {size} {place}"
        with self._lock:
            future = self._being_made.get(name)
            if future is None:
                future = self.workers.submit(self._get, sha256, place, size)
                self._being_made[name] = future
        future.add_done_callback(lambda _: self._forget(name))
        return await asyncio.shield(asyncio.wrap_future(future))

    def _forget(self, name: str) -> None:
        with self._lock:
            self._being_made.pop(name, None)

    def _get(self, sha256: str, place: Place, size: int) -> Thumbnail:
        return self._kept(sha256, place, size) or self._make(sha256, place, size)

    def _kept(self, sha256: str, place: Place, size: int) -> Thumbnail | None:
        found = self._read(sha256, size)
        if found is None and (stamp := stamp_of_place(place)) is not None:
            found = self._read(_changed_key(place, stamp), size)
        return found

    def _make(self, sha256: str, place: Place, size: int) -> Thumbnail:
        stamp = stamp_of_place(place)  # before reading: a file that changes meanwhile gets another key next time
        if stamp is None:
            raise ImageError("the file no longer exists")
        data = self._row_images.read(place)
        content = hashlib.sha256(data).hexdigest()
        if place.fragment:  # as the collection names a box; a shard's member is its own bytes
            box = place.fragment.rpartition("&")[2]
            boxed = hashlib.sha256(f"{content}#{box}".encode()).hexdigest()
            content = boxed if boxed == sha256 else content
        key = sha256 if content == sha256 else _changed_key(place, stamp)
        jpeg = to_jpeg(shrunk(data, place.fragment, size), _QUALITY)
        self._keep(key, size, jpeg)
        return Thumbnail(jpeg, f"{key}-{size}")

    def _path(self, key: str, size: int) -> Path:
        # A collection made by other software may have any text there, and it must not lead elsewhere.
        safe = key if len(key) == 64 and key.isalnum() else hashlib.sha256(key.encode()).hexdigest()
        return self._folder / safe[:2] / f"{safe}-{size}.jpg"

    def _read(self, key: str, size: int) -> Thumbnail | None:
        try:
            return Thumbnail(self._path(key, size).read_bytes(), f"{key}-{size}")
        except OSError:
            return None

    def _keep(self, key: str, size: int, jpeg: bytes) -> None:
        path = self._path(key, size)
        with contextlib.suppress(BirderError), replacing(path) as draft:  # without it, it is made again next time
            draft.write_bytes(jpeg)


def _changed_key(place: Place, stamp: str) -> str:
    return hashlib.sha256(f"{place.path}#{place.fragment} {stamp}".encode("utf-8", "surrogateescape")).hexdigest()
