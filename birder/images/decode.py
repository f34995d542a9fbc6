"""From a file's bytes to an upright RGB image, in this process, or to an `ImageError` with a reason."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from birder.errors import ImageError
from birder.images.bounded import JpegHeader, count_scans, jpeg_header
from birder.images.guard import MAX_PIXELS, decoding, formats, pillow_guard
from birder.images.reasons import MEANINGLESS, why_undecodable, why_unidentified
from birder.images.scans import for_an_eighth

try:
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()

MAX_SCANS = 100
"""A JPEG of more scans is refused: cameras and programs write about ten, each costs a pass over it all."""

_BYTES_PER_PIXEL = {"JPEG2000": 24, "HEIF": 16, "AVIF": 16, "WEBP": 12, "TIFF": 12}
"""What decoding takes at its peak where that is more than 8: the image as 32 bits a pixel, and that turned."""
_STRIP = 4_000_000  # pixels that are converted at once
_LARGE = 16_000_000  # pixels from which on a draft of what is no JPEG pays off
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


class PhotoMetadata(NamedTuple):
    """EXIF data: local time without a zone, WGS 84 degrees; None where absent or invalid."""

    taken_at: datetime | None
    latitude: float | None
    longitude: float | None


class Photo(NamedTuple):
    """An opened image; width and height in pixels are the file's own, upright, whatever `image` was drafted to."""

    image: Image.Image
    width: int
    height: int
    metadata: PhotoMetadata


def decode(data: bytes, draft: tuple[int, int] | None, take: Callable[[int, int], None]) -> Photo:
    """Decode an image in this process; see `birder.images.open.open_photo`.

    Parameters
    ----------
    data
        The file.
    draft
        (height, width) in pixels that the caller needs at least; None for all of them.
    take
        Called before the pixels are decoded, with the bytes that this takes and the number of pixels.

    Raises
    ------
    ImageError
        With a short reason.
    """
    try:
        return _decode(data, draft, take)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"more than {MAX_PIXELS:,} pixels: refused as a decompression bomb") from None
    except MemoryError:
        raise ImageError("not enough memory to decode it") from None
    except RecursionError:
        raise ImageError("corrupt file structure (it refers to itself)") from None
    except Exception as error:  # Pillow's plugins may raise anything on a damaged file
        raise ImageError(why_undecodable(error)) from error


def _decode(data: bytes, draft: tuple[int, int] | None, take: Callable[[int, int], None]) -> Photo:
    with pillow_guard:
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=formats())
        except UnidentifiedImageError:
            raise ImageError(why_unidentified(data[:64], formats())) from None
        if image.width < 1 or image.height < 1:
            raise ImageError("it has no pixels")
        _check_pixels(*image.size)
        width, height = image.size
        jpeg = image.format in ("JPEG", "MPO")
        # A PNG's EXIF may come after its pixels, so that asking for it decodes them: that has to wait, for the memory
        # and because an error that asking hides is one that decoding shows no more.
        told = None if image.format == "PNG" else (read_exif(image), _orientation(image))
        header = jpeg_header(data) if jpeg else None
        amount = _coefficients(data, image, header) if jpeg else 0
        if draft is not None and jpeg and image.mode in ("RGB", "L"):
            needed = _as_stored(draft, _orientation(image))
            image.draft(None, needed)
            if header is not None and image.format == "JPEG" and _is_an_eighth(image.width, width):
                less = for_an_eighth(data, header)
                if less is not None:
                    amount += len(less)
                    image = Image.open(io.BytesIO(less), formats=["JPEG"])
                    image.draft(None, needed)
        amount += _memory(image)
    take(amount, width * height)
    with pillow_guard:
        image.load()
        metadata, orientation = told or (read_exif(image), _orientation(image))
        rgb = _in_strips(image, 1 if draft is None else _shrinkable(image, _as_stored(draft, orientation)))
        del image
        turn = _TURNS.get(orientation)
        # Turned by hand: Pillow's own helper rewrites the EXIF block too, which fails on broken ones.
        upright = rgb if turn is None else rgb.transpose(turn)
    return Photo(upright, *((height, width) if orientation >= 5 else (width, height)), metadata)


def _as_stored(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """An upright (height, width) as the (width, height) that the file has it in."""
    return size if orientation >= 5 else (size[1], size[0])


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}: refused as a decompression bomb")


def _is_an_eighth(drafted: int, width: int) -> bool:
    """Whether an image is drafted to 1/8 of its width, and certainly not to 1/4."""
    return drafted == -(-width // 8) < -(-width // 4)


def _coefficients(data: bytes, image: Image.Image, header: JpegHeader | None) -> int:
    """The bytes that a JPEG's decoder takes for the scans that it must see before it can give a pixel.

    Too many of them are refused, for an empty scan takes ten bytes of the file and costs a pass over the whole image.
    """
    if header is None:
        return 8 * image.width * image.height
    if (header.width, header.height) != image.size:
        raise ImageError(MEANINGLESS)
    if not header.several:
        return 0
    scans = count_scans(data, header.scans, MAX_SCANS)
    if scans > MAX_SCANS:
        raise ImageError(f"a JPEG of {scans:,} scans, more than {MAX_SCANS}: refused, it would take minutes to decode")
    return 2 * header.components * header.width * header.height


def _memory(image: Image.Image) -> int:
    """The bytes that decoding an opened image takes at its peak."""
    if image.format in ("ICO", "ICNS"):
        return decoding.limit // 2  # they hold whole files of which their header does not tell the sizes
    pixels = image.width * image.height
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        tile = (tags.get(ExifTags.Base.TileWidth, 0), tags.get(ExifTags.Base.TileLength, 0))
        if all(isinstance(side, int) for side in tile):
            _check_pixels(*tile)  # a tile may be larger than the image that it is a part of
            pixels = max(pixels, tile[0] * tile[1])
    return pixels * _BYTES_PER_PIXEL.get(image.format or "", 8)


def _shrinkable(image: Image.Image, needed: tuple[int, int]) -> int:
    """The factor by which a large image can be averaged down and still have four times the needed width and height."""
    if image.width * image.height < _LARGE:
        return 1
    return max(1, min(image.width // (4 * needed[0]), image.height // (4 * needed[1])))


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


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB: alpha composited on white, 16-bit grey scaled to 8, CMYK through its own profile."""
    return _in_strips(image, 1)


def _in_strips(image: Image.Image, shrink: int) -> Image.Image:
    """Convert to RGB and average squares of `shrink` pixels, a strip at a time: few copies of a large image."""
    # A palette-free RGB PNG may still name one colour as transparent.
    if image.mode == "RGB" and "transparency" not in image.info:
        return image if shrink == 1 else image.reduce(shrink)
    scale = _grey_scale(image) if image.mode in _SIXTEEN_BIT else 1.0
    rows = max(1, _STRIP // image.width // shrink) * shrink
    if rows >= image.height:
        rgb = _convert(image, scale)
        return rgb if shrink == 1 else rgb.reduce(shrink)
    result = Image.new("RGB", (-(-image.width // shrink), -(-image.height // shrink)))
    for top in range(0, image.height, rows):
        strip = _convert(image.crop((0, top, image.width, min(top + rows, image.height))), scale)
        result.paste(strip if shrink == 1 else strip.reduce(shrink), (0, top // shrink))
    return result


def _convert(image: Image.Image, scale: float) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=65535.0, neginf=0.0) * scale
        return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8), "L").convert("RGB")
    if image.mode in ("RGBA", "LA", "La", "RGBa", "PA") or "transparency" in image.info:
        return _on_white(image.convert("RGBA"))
    if image.mode == "CMYK" and (profile := image.info.get("icc_profile")):
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            converted = ImageCms.profileToProfile(
                image, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _grey_scale(image: Image.Image) -> float:
    """Turns grey of more than 8 bits into 0..255: 16-bit files span 65535; "I" and "F" that fit in 8 bits stay."""
    if image.mode.startswith("I;16"):
        return 1 / 257
    brightest = 0.0
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        values = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))), dtype=np.float32)
        brightest = max(brightest, float(np.nan_to_num(values, nan=0.0, posinf=65535.0).max()))
    if image.mode == "F" and brightest <= 1.0:
        return 255.0
    return 1 / 257 if brightest > 255.0 else 1.0


def read_exif(image: Image.Image) -> PhotoMetadata:
    """Time and place from EXIF; None where they are absent or invalid. Never raises."""
    try:
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        stamp = details.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:  # Pillow may raise anything on a broken block; the image itself is fine
        return PhotoMetadata(None, None, None)
    latitude = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "NS", 90)
    longitude = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "EW", 180)
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


def _degrees(value: object, reference: object, sides: str, limit: int) -> float | None:
    """Degrees from degrees, minutes and seconds; `sides` names the positive and the negative half of the earth."""
    try:
        degrees, minutes, seconds = (float(part) for part in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ArithmeticError, struct.error):
        return None
    angle = degrees + minutes / 60 + seconds / 3600
    side = reference.decode("latin-1") if isinstance(reference, bytes) else str(reference)
    side = side.strip("\0 ").upper()[:1]
    # The range is also false for NaN, which Pillow gives for a denominator of 0. Without its half, a place is unknown.
    if not 0 <= angle <= limit or not side or side not in sides:
        return None
    return -angle if side == sides[1] else angle
