"""What a file's header tells: whether decoding it is bounded by width and height, and a JPEG's scans.

Known to be bounded is what cameras and scanners write, by the thousand: it is decoded where it is asked for. All else
is decoded in a separate process, with limits; see `birder.images.apart`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

_MOST_MARKERS = 1000
"""Segments of a JPEG before its image data: a colour profile takes up to 255, EXIF one."""
_MOST_EXIF = 1 << 16
"""Bytes, the most that a JPEG segment can have."""
_MOST_STRIPS = 1 << 16
_TIFF_COMPRESSIONS = (1, 5, 8, 32773, 32946)
"""None, LZW, deflate, PackBits; a TIFF's header does not bound what other compressions take."""
_COMPRESSION, _OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS = 259, 273, 279, 324, 325

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")


class JpegHeader(NamedTuple):
    """What stands before a JPEG's first scan: width and height as stored, components, whether all scans are kept.

    `frame` and `scans` are where its frame header and its first scan begin. Where there are several scans, the decoder
    keeps the coefficients of the whole image.
    """

    width: int
    height: int
    components: int
    several: bool
    frame: int
    scans: int


def is_bounded(data: bytes) -> bool:
    """Whether the memory and time that decoding a file takes follow from its width and height."""
    if data.startswith(b"\xff\xd8\xff"):
        return jpeg_header(data) is not None
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _is_plain_png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _is_plain_webp(data)
    if data.startswith((b"II*\0", b"MM\0*")):
        return _is_plain_tiff(data)
    return (
        data.startswith(b"BM")
        and data[14:18] in (b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")
        and not any(
            data[30:34]  # its compression
        )
    )


def jpeg_header(data: bytes) -> JpegHeader | None:
    """Read the markers up to the first scan; None if no camera or program writes such markers."""
    frame: tuple[int, int, int, bool, int] | None = None
    place, exifs = 2, 0
    for _ in range(_MOST_MARKERS):
        head = data[place : place + 4]
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker, length = head[1], head[2] << 8 | head[3]
        if marker == 0xFF:  # a byte that fills up
            place += 1
            continue
        if not 0xC0 <= marker <= 0xFE or 0xD0 <= marker <= _END or length < 2:
            return None
        if marker == _APP1 and data.startswith(b"Exif\0\0", place + 4):
            exifs += 1  # Pillow joins them
        elif marker in _FRAMES:
            if frame is not None or length < 8:
                return None
            height, width, components = struct.unpack_from(">HHB", data[place + 5 : place + 10].ljust(5, b"\0"))
            frame = width, height, components, marker in _PROGRESSIVE, place
        elif marker == _SCAN:
            if frame is None or exifs > 1:
                return None
            width, height, components, progressive, begin = frame
            several = progressive or data[place + 4 : place + 5] != bytes([components])
            return JpegHeader(width, height, components, several, begin, place)
        place += 2 + length
    return None


def count_scans(data: bytes, start: int, most: int) -> int:
    """Count a JPEG's scans from the first, at `start`; no more than `most` may be too many.

    More than `most` are counted exactly: what follows the image (a film, a second image) is left out.
    """
    if (at_most := data.count(b"\xff\xda", start)) <= most:
        return at_most
    scans, place = 0, start
    while (found := _NEXT_MARKER.search(data, place)) is not None:
        marker, place = found[1][0], found.end()
        if marker == _END:
            break
        scans += marker == _SCAN
        if marker != 0x01:
            place += max(2, int.from_bytes(data[place : place + 2], "big"))
    return scans


def _chunks(data: bytes, start: int, order: Literal["big", "little"]) -> Iterator[tuple[bytes, int, int]]:
    """Kind, length and place of the chunks of PNG (big) and RIFF (little), up to one that makes too many of them."""
    place = start
    for _ in range(1000 + len(data) // 512):
        head = data[place : place + 8]
        if len(head) < 8:
            return
        if order == "big":
            length, kind = int.from_bytes(head[:4], order), head[4:]
            yield kind, length, place + 8
            place += 12 + length
        else:
            kind, length = head[:4], int.from_bytes(head[4:], order)
            yield kind, length, place + 8
            place += 8 + length + length % 2
    yield b"", 0, place


def _is_plain_png(data: bytes) -> bool:
    for kind, length, place in _chunks(data, 8, "big"):
        if not kind or (kind == b"eXIf" and length > _MOST_EXIF):
            return False
        if kind in (b"tEXt", b"zTXt", b"iTXt") and data.startswith(b"Raw profile type", place):
            return False  # EXIF as text, of any size
    return True


def _is_plain_webp(data: bytes) -> bool:
    return all(
        kind and not (kind == b"EXIF" and length > _MOST_EXIF) for kind, length, _ in _chunks(data, 12, "little")
    )


def _is_plain_tiff(data: bytes) -> bool:
    """Whether its directory is short, its compression simple, and no strip or tile is there more than once."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    sign = "<" if order == "little" else ">"
    place = int.from_bytes(data[4:8], order)
    count = int.from_bytes(data[place : place + 2], order)
    if not 0 < count <= 200 or place + 2 + 12 * count > len(data):
        return False
    tags: dict[int, tuple[int, int, int]] = {}
    values = 0
    for at in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(sign + "HHI", data, at)
        tags.setdefault(tag, (kind, number, at + 8))
        values += number if kind not in (1, 2, 6, 7) else 0
    if values > 4 * _MOST_STRIPS:
        return False
    compression = _tiff_values(data, tags.get(_COMPRESSION), order)
    if compression is None or len(compression) != 1 or int(compression[0]) not in _TIFF_COMPRESSIONS:
        return False
    offsets, counts = (_TILE_OFFSETS, _TILE_COUNTS) if _TILE_OFFSETS in tags else (_OFFSETS, _COUNTS)
    sizes = _tiff_values(data, tags.get(counts), order)
    return (
        sizes is not None
        and offsets in tags
        and tags[offsets][1] == len(sizes) <= _MOST_STRIPS
        and int(sizes.sum(dtype=np.uint64)) <= 2 * len(data)
    )


def _tiff_values(
    data: bytes, entry: tuple[int, int, int] | None, order: Literal["little", "big"]
) -> np.ndarray[tuple[int], np.dtype[np.unsignedinteger]] | None:
    """The numbers of an entry of 16 or 32 bits."""
    if entry is None or entry[0] not in (3, 4):
        return None
    kind, number, place = entry
    size = 2 if kind == 3 else 4
    if size * number > 4:
        place = int.from_bytes(data[place : place + 4], order)
    if not 0 < size * number <= len(data) - place:
        return None
    return np.frombuffer(data, f"{'<' if order == 'little' else '>'}u{size}", number, place)
