"""Files made to take a decoder's memory or time, small and the same each time."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

_FUZZED = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "ICO", "SGI", "TGA", "PCX")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file."""
    buffer = io.BytesIO()
    image.copy().save(buffer, kind, **options)
    return buffer.getvalue()


def picture(seed: int = 0, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Something smooth and colourful."""
    colours = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def precincts(width: int, height: int) -> bytes:
    """A JPEG 2000 of 116 bytes whose every four pixels are a precinct, of which each takes hundreds of bytes."""
    size = struct.pack(">HHIIIIIIIIH", 47, 0, width, height, 0, 0, width, height, 0, 0, 3) + 3 * bytes([7, 1, 1])
    style = struct.pack(">H10B", 18, 1, 0, 0, 1, 0, 5, 0, 0, 0, 1) + b"\0" + 5 * b"\x11"
    levels = struct.pack(">H17B", 19, 0x40, 0x40, *(5 * (0x48, 0x48, 0x50)))
    tile = struct.pack(">HHIBB", 10, 0, 0, 0, 1)
    head = b"\xff\x4f\xff\x51" + size + b"\xff\x52" + style + b"\xff\x5c" + levels
    return head + b"\xff\x90" + tile + b"\xff\x93" + bytes(8) + b"\xff\xd9"


def jpeg_of_scans(width: int, height: int, scans: int, *, progressive: bool = False) -> bytes:
    """A JPEG with one scan a component, again and again, each of them empty."""
    data = encoded(Image.new("RGB", (8, 8), "olive"), "JPEG", quality=50, subsampling=0, progressive=progressive)
    frame, first = data.index(b"\xff\xc2" if progressive else b"\xff\xc0"), data.index(b"\xff\xda")
    sized = data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]
    if progressive:
        last = data.rindex(b"\xff\xda")
        return sized[:last] + scans * sized[last:-2] + b"\xff\xd9"
    each = [b"\xff\xda\0\x08\1" + bytes([1 + i % 3, 0x11 if i % 3 else 0, 0, 63, 0]) + b"\0\0" for i in range(scans)]
    return sized[:first] + b"".join(each) + b"\xff\xd9"


def jpeg_of_markers(count: int) -> bytes:
    """A JPEG with empty comments before its image."""
    data = encoded(picture(), "JPEG")
    return data[:2] + count * b"\xff\xfe\0\2" + data[2:]


def jpeg_with_exif_upon_itself() -> bytes:
    """A JPEG whose EXIF has 5,000 entries, each all of its 60,000 bytes."""
    entries = b"".join(struct.pack("<HHII", 0x8000 + i, 7, 60_000, 0) for i in range(5000))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000) + entries + bytes(4)
    return encoded(picture(), "JPEG", exif=exif.ljust(60_020, b"\0"))


def run_length_bmp(width: int, height: int) -> bytes:
    """A BMP of lines that end after their first pixel; Pillow fills them up byte by byte, in Python."""
    pixels = height * b"\1\1\0\0" + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 1, 1, 256, 0)
    start = 14 + len(head) + 1024
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + bytes(1024) + pixels


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_chunks(count: int) -> bytes:
    """A PNG with empty chunks before its image."""
    data = encoded(picture(), "PNG")
    return data[:33] + count * png_chunk(b"teSt", b"") + data[33:]


def png_with_exif_as_text(size: int) -> bytes:
    """A PNG whose EXIF is text, compressed."""
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", size // 12) + struct.pack("<HHII", 0x8000, 7, 9, 0) * (size // 12)
    text = b"\nexif\n%8d\n" % len(exif) + exif.hex().encode()
    data = encoded(picture(), "PNG")
    return data[:33] + png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)) + data[33:]


def half_zero(data: bytes) -> bytes:
    """A file of which the second half was never written, as a copy that broke off leaves it."""
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def half_zero_files() -> dict[str, bytes]:
    """Half-written files of formats that cannot tell."""
    whole = picture(3, (600, 450))
    kinds = {"webp": "WEBP", "avif": "AVIF", "tif": "TIFF", "bmp": "BMP", "ppm": "PPM"}
    return {f"half-zero.{suffix}": half_zero(encoded(whole, kind)) for suffix, kind in kinds.items()}


def fuzzed(count: int, seed: int = 9) -> Iterator[tuple[str, bytes]]:
    """Files of many formats with bytes changed, cut out, doubled."""
    chance = random.Random(seed)
    originals = {kind: encoded(picture(1, (48, 40)), kind) for kind in _FUZZED}
    for number in range(count):
        kind = _FUZZED[number % len(_FUZZED)]
        data = bytearray(originals[kind])
        for _ in range(chance.randrange(1, 8)):
            place = chance.randrange(min(len(data), 400) if chance.random() < 0.7 else len(data))
            match chance.randrange(4):
                case 0:
                    data[place] = chance.randrange(256)
                case 1:
                    data[place : place + 4] = chance.choice([b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff"])
                case 2:
                    del data[place : place + chance.randrange(1, 20)]
                case _:
                    data[place:place] = data[place : place + chance.randrange(1, 200)]
        yield f"fuzzed-{number:03}.{kind.lower()}", bytes(data)
