"""From a row's uri to its image: a file of this machine, a box of one, a member of a shard, a frame; never a URL.

Files are opened through the uris of rows alone, and what comes out is decoded pixels: a request can neither name a file
nor get the bytes of one. Videos alone are also sent as they are (`birder.sources.row_videos`).
"""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from PIL import Image

from birder.errors import BirderError, ConfigError, ImageError, MissingExtraError
from birder.images.open import decoded_photo
from birder.sources import read_source, uri_to_path
from birder.sources.parquet import ParquetShard, image_column, open_parquet
from birder.sources.source import Part, box_of, image_of
from birder.sources.tar import TarShard
from birder.sources.video import frame_of

_SHARDS = 8  # that are kept open, or whose members are known


class Place(NamedTuple):
    """Where an image is: a file, and behind # the part of it."""

    path: str
    fragment: str


def place_of(uri: str) -> Place | None:
    """The place that a uri names on this machine; None for URLs and other names."""
    if not uri.startswith("file://"):
        return None
    try:
        return Place(uri_to_path(uri), uri.partition("#")[2])
    except (BirderError, ValueError):
        return None


def stamp_of_place(place: Place) -> str | None:
    """What changes when the file does; None if there is no regular file."""
    try:
        status = os.stat(place.path)  # noqa: PTH116 - the path may not be text
    except (OSError, ValueError):
        return None
    return f"{status.st_size} {status.st_mtime_ns}" if os.path.isfile(place.path) else None  # noqa: PTH113


class RowImages:
    """Opens images; the contents of shards are remembered, because finding a member means scanning them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shards: OrderedDict[str, tuple[str | None, dict[str, Part] | ParquetShard]] = OrderedDict()

    def read(self, place: Place) -> bytes:
        """The bytes of the whole image; of a frame of a video, as a BMP file.

        Raises
        ------
        ImageError
            It cannot be read.
        """
        try:
            frame = frame_of(place.path, place.fragment)
            if frame is not None and frame.part is not None:
                return frame.part.load().data
            inside = image_of(f"#{place.fragment}").removeprefix("#")
            if not inside:
                return read_source(place.path, images=True)
            return self._read_part(Place(place.path, inside))
        except FileNotFoundError:
            raise ImageError("the file no longer exists") from None
        except (OSError, ConfigError, MissingExtraError, ValueError, MemoryError) as error:
            raise ImageError(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error

    def _read_part(self, place: Place) -> bytes:
        stamp = stamp_of_place(place)
        if stamp is None:
            raise FileNotFoundError
        with self._lock:
            kept = self._shards.get(place.path)
            if kept is None or kept[0] != stamp:
                kept = (stamp, _open_shard(place.path))
                self._shards[place.path] = kept
                if len(self._shards) > _SHARDS:
                    self._shards.popitem(last=False)
            self._shards.move_to_end(place.path)
        shard = kept[1]
        if isinstance(shard, ParquetShard):
            return shard.load(int(place.fragment.removeprefix("row="))).data
        part = shard.get(os.fsdecode(unquote_to_bytes(place.fragment)))
        if part is None:
            raise OSError("it is no longer in the tar file")
        return part.load().data


def _open_shard(path: str) -> dict[str, Part] | ParquetShard:
    if path.lower().endswith(".parquet"):
        with open_parquet(path) as file:
            schema = file.schema_arrow
        if image_column(schema) is None:
            raise OSError("the Parquet file has no images")
        return ParquetShard(path, schema)
    members: dict[str, Part] = {}
    for source in TarShard(path).sources():
        if source.part is not None:
            members[os.fsdecode(unquote_to_bytes(source.part.fragment))] = source.part
    return members


def shrunk(data: bytes, fragment: str, side: int) -> Image.Image:
    """Decode an image, or the box of it that a fragment names, to at most `side` pixels on its longest side.

    Raises
    ------
    ImageError
        It cannot be decoded.
    """
    box = box_of(fragment)
    share = 1.0 if box is None else max(min(box.width, box.height), 1e-3)
    needed = min(int(side / share), 65_535)
    with decoded_photo(data, draft=(needed, needed)) as photo:
        image = photo.image
        if box is not None:
            left, top = int(box.x * image.width), int(box.y * image.height)
            right = max(left + 1, round((box.x + box.width) * image.width))
            bottom = max(top + 1, round((box.y + box.height) * image.height))
            image = image.crop((left, top, min(right, image.width), min(bottom, image.height)))
        scale = min(1.0, side / max(image.size))
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        # An image that only `reduce` brings near its size is several times faster and looks the same.
        return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def to_jpeg(image: Image.Image, quality: int) -> bytes:
    """Encode an image again, without anything but its pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def exists(place: Place | None) -> bool:
    """Whether the file of a place is there."""
    return place is not None and stamp_of_place(place) is not None
