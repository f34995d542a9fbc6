"""Why a file cannot be read as an image, from Pillow's exceptions and the file's first bytes."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Collection

from birder.errors import install_extra

TRUNCATED = "truncated image data"
UNDECODABLE = "corrupt image data"
MEANINGLESS = "corrupt file structure"

_OTHERS = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "an EPS drawing"),
    (b"\xc5\xd0\xd3\xc6", "an EPS drawing"),
    (b"PK\x03\x04", "a ZIP archive or office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document or FlashPix file"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"\xd7\xcd\xc6\x9a", "a WMF drawing"),
    (b"\x89HDF", "an HDF5 file"),
    (b"qoif", "a QOI image, which Birder does not read: convert it to PNG"),
    (b"DDS ", "a DDS texture"),
    (b"BLP1", "a BLP texture"),
    (b"BLP2", "a BLP texture"),
    (b"SIMPLE  =", "a FITS file"),
)
_IMAGES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"8BPS", "PSD"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)
_TEXTS = (
    (r"truncat|not enough image data|expected to read|unexpected end|ran out of|EOF|no more data", TRUNCATED),
    (r"data stream|overrun|decod(er|ing) error|decompress(ing|ion) data|failed to (read|decode)", UNDECODABLE),
    (r"could not create decoder", UNDECODABLE),
    (
        r"Decompressed data too large|MAX_TEXT|Too much memory used",
        "refused: a text or colour profile is too large",
    ),
    (r"broken PNG|bad (CRC|checksum)|checksum", "corrupt image data (checksum mismatch)"),
    (r"out of memory", "not enough memory to decode it"),
    (r"(negative )?seek|cannot load this image|frame", MEANINGLESS),
)
_CONFUSED = (
    AssertionError,
    AttributeError,
    KeyError,
    IndexError,
    OverflowError,
    TypeError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)


def why_undecodable(error: Exception) -> str:
    """The reason why a file that was recognised does not decode, from what Pillow raised."""
    if isinstance(error, EOFError):
        return TRUNCATED
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return f"it cannot be read ({error.strerror or text})"
    for pattern, reason in _TEXTS:
        if re.search(pattern, text, re.IGNORECASE):
            return reason
    if isinstance(error, _CONFUSED):
        return MEANINGLESS
    # An address in memory means nothing to a user, and makes the same reason differ each time.
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "the file", text)
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())[:100]
    unsupported = re.search(r"unsupported|unimplemented|not supported|cannot handle|unknown", text, re.IGNORECASE)
    return f"unsupported image format ({text})" if unsupported else f"corrupt image data ({text or 'unknown error'})"


def why_unidentified(start: bytes, formats: Collection[str] = ()) -> str:
    """The reason why nothing recognised a file, from its first 64 bytes; `formats` are those that can be read here."""
    if not start:
        return "the file is empty"
    if not any(start):
        return "the file contains only zeros"
    kind = start[8:12] if start[4:8] == b"ftyp" else b""
    if kind in (b"heic", b"heix", b"mif1", b"heif", b"msf1"):
        if "HEIF" not in formats:
            return f"HEIC: install its reader with {install_extra('heic')}"
        return "corrupt HEIC header"
    if kind in (b"avif", b"avis"):
        return "corrupt AVIF header"
    if kind:
        return "not an image but a video"
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "not an image but a video"
    for prefix, name in _OTHERS:
        if start.startswith(prefix):
            return f"not an image but {name}"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "not an image but a web page"
    for prefix, name in _IMAGES:
        if start.startswith(prefix):
            return f"corrupt {name} header"
    return "unknown file format"
