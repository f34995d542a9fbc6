"""Opening photographs safely: any bytes in, an upright RGB image out, or an `ImageError` with a reason."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from birder.errors import ImageError

try:
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()

IMAGE_EXTENSIONS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
        ".jp2",
        ".j2k",
        ".heic",
        ".heif",
        ".avif",
        ".ppm",
        ".pgm",
    ]
)
MAX_PIXELS = 178_956_970
"""More pixels than this are refused before they are decoded: 512 MiB of RGB, where Pillow draws its line too."""

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


class PhotoMetadata(NamedTuple):
    """What the camera wrote: local time without zone, WGS 84 degrees; None where absent or broken."""

    taken_at: datetime | None
    latitude: float | None
    longitude: float | None


class Photo(NamedTuple):
    """An opened photograph; width and height in pixels are the file's own, upright, whatever `image` was drafted to."""

    image: Image.Image
    width: int
    height: int
    metadata: PhotoMetadata


def open_image(source: str | Path | bytes | BinaryIO, *, draft: tuple[int, int] | None = None) -> Image.Image:
    """Open a photograph as an upright RGB image, fully decoded. See `open_photo`."""
    return open_photo(source, draft=draft).image


def open_photo(source: str | Path | bytes | BinaryIO, *, draft: tuple[int, int] | None = None) -> Photo:
    """Open a photograph: decode it fully, turn it upright by its EXIF orientation, make it RGB.

    Parameters
    ----------
    source
        A path, the file's bytes, or a binary file object.
    draft
        (height, width) in pixels that the caller needs at least: a JPEG is then decoded at 1/2, 1/4 or 1/8 of its size
        where that still covers it, several times faster.

    Raises
    ------
    ImageError
        With a short reason: missing, no permission, empty, not an image, truncated, too many pixels, ...
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _open(io.BytesIO(source) if isinstance(source, bytes) else source, draft)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("the file does not exist") from None
    except PermissionError:
        raise ImageError("no permission to read the file") from None
    except IsADirectoryError:
        raise ImageError("it is a folder, not a file") from None
    except UnidentifiedImageError:
        raise ImageError(_why_unidentified(source)) from None
    except Image.DecompressionBombError:
        raise ImageError(f"more than {MAX_PIXELS:,} pixels: refused as a decompression bomb") from None
    except MemoryError:
        raise ImageError("not enough memory to decode it") from None
    except RecursionError:
        raise ImageError("damaged: its structure refers to itself") from None
    except Exception as error:  # Pillow's plugins raise whatever their parsing trips over: it is the file's fault
        detail = str(error).strip().splitlines()
        text = detail[0] if detail else type(error).__name__
        raise ImageError(f"truncated ({text})" if "truncated" in text.lower() else f"damaged ({text})") from error


def _open(source: str | Path | BinaryIO, draft: tuple[int, int] | None) -> Photo:
    with Image.open(source) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(
                f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}: refused as a decompression bomb"
            )
        if image.width < 1 or image.height < 1:
            raise ImageError("it has no pixels")
        width, height = image.size
        metadata = read_exif(image)
        turned = _orientation(image) >= 5
        if draft is not None and image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            needed = draft if turned else (draft[1], draft[0])
            image.draft(None, needed)
        image.load()
        upright = _upright(image)
        return Photo(to_rgb(upright), *((height, width) if turned else (width, height)), metadata)


def _why_unidentified(source: object) -> str:
    """The reason why nothing recognised the file."""
    data = b""
    with contextlib.suppress(OSError):
        if isinstance(source, bytes):
            data = source[:64]
        elif isinstance(source, str | Path):
            with Path(source).open("rb") as file:
                data = file.read(64)
        elif isinstance(source, io.IOBase):
            source.seek(0)
            data = source.read(64)
    if not data:
        return "the file is empty"
    if not any(data):
        return "the file holds only zeros"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypheif"):
        return 'HEIC: install its reader with pip install "birder[heic]"'
    return "not an image that Birder knows"


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return int(value) if value in range(1, 9) else 1
    except Exception:  # broken EXIF says nothing about the pixels
        return 1


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    """Turned by hand: Pillow's own helper rewrites the EXIF block too, which fails on broken ones."""
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB: alpha composited on white, 16-bit grey scaled to 8, CMYK through its own profile."""
    if image.mode == "RGB":
        # A palette-free RGB PNG may still name one colour as transparent.
        return _on_white(image.convert("RGBA")) if "transparency" in image.info else image
    if image.mode in _SIXTEEN_BIT:
        return _grey16_to_rgb(image)
    if image.mode in ("RGBA", "LA", "La", "RGBa", "PA") or "transparency" in image.info:
        return _on_white(image.convert("RGBA"))
    if image.mode == "CMYK" and (profile := image.info.get("icc_profile")):
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            converted = ImageCms.profileToProfile(
                image, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits: 16-bit files span 0..65535; "I" and "F" that fit in 8 bits stay as they are."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=65535.0, neginf=0.0)
    if image.mode == "F" and values.size and values.max() <= 1.0:
        values = values * 255.0
    elif image.mode.startswith("I;16") or (values.size and values.max() > 255.0):
        values = values / 257.0
    return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8), "L").convert("RGB")


def read_exif(image: Image.Image) -> PhotoMetadata:
    """Time and place from EXIF; None where they are absent or broken. Never raises."""
    try:
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        stamp = details.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:  # Pillow raises whatever a broken block trips over; the photograph itself is fine
        return PhotoMetadata(None, None, None)
    latitude = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), 90)
    longitude = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), 180)
    if latitude is None or longitude is None:
        latitude = longitude = None
    return PhotoMetadata(_time(stamp), latitude, longitude)


def _time(stamp: object) -> datetime | None:
    if not isinstance(stamp, str):
        return None
    try:
        return datetime.strptime(stamp.strip("\0 ")[:19], "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None


def _degrees(value: object, reference: object, limit: int) -> float | None:
    try:
        degrees, minutes, seconds = (float(part) for part in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError, struct.error):
        return None
    angle = degrees + minutes / 60 + seconds / 3600
    if not 0 <= angle <= limit:  # also false for NaN, which Pillow gives for a denominator of 0
        return None
    return -angle if str(reference).strip("\0 ").upper() in ("S", "W") else angle
