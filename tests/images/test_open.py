"""Opening photographs: any mode becomes upright RGB, anything else a reason."""

from __future__ import annotations

import io
import struct
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from birder.errors import ImageError
from birder.images.open import MAX_PIXELS, open_image, open_photo, to_rgb

DATA = Path(__file__).parents[1] / "data"


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(mode: str = "RGB", size: tuple[int, int] = (40, 20)) -> Image.Image:
    ramp = np.linspace(0, 255, size[0], dtype=np.uint8)[None].repeat(size[1], 0)
    return Image.fromarray(np.dstack([ramp, ramp[:, ::-1], ramp]), "RGB").convert(mode)


def exif(**tags: object) -> Image.Exif:
    block = Image.Exif()
    for name, value in tags.items():
        block[ExifTags.Base[name]] = value
    return block


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = gradient()
    upright.paste("red", (0, 0, 16, 8))
    # What a camera stores is the upright picture turned by the inverse of what the tag asks for.
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(inverse[orientation])) if orientation > 1 else upright
    photo = open_photo(encoded(stored, exif=exif(Orientation=orientation)))
    assert (photo.width, photo.height) == upright.size == photo.image.size
    assert np.array_equal(np.asarray(photo.image), np.asarray(upright))


def test_transparency_becomes_white():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (10, 20, 30, 255))
    image.putpixel((2, 2), (0, 0, 0, 127))
    opened = open_image(encoded(image))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((1, 1)) == (10, 20, 30)
    assert opened.getpixel((2, 2)) == pytest.approx((128, 128, 128), abs=1)


def test_transparent_palette_colour_becomes_white():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((0, 0), 0)
    opened = open_image(encoded(image, transparency=0))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((3, 3)) == (200, 100, 50)


def test_transparent_colour_of_an_rgb_png_becomes_white():
    image = Image.new("RGB", (4, 4), (9, 9, 9))
    image.putpixel((0, 0), (1, 2, 3))
    opened = open_image(encoded(image, transparency=(1, 2, 3)))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((3, 3)) == (9, 9, 9)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind):
    values = np.array([[0, 257 * 64, 257 * 128, 65535]], np.uint16)
    opened = open_image(encoded(Image.fromarray(values), kind))
    assert [opened.getpixel((i, 0))[0] for i in range(4)] == [0, 64, 128, 255]


def test_cmyk_without_profile_and_grey_and_bilevel():
    assert open_image(encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "TIFF")).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(encoded(Image.new("L", (4, 4), 99))).getpixel((0, 0)) == (99, 99, 99)
    assert open_image(encoded(Image.new("1", (4, 4), 1))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "I;16"]
)
def test_every_pillow_mode_becomes_rgb(mode):
    image = to_rgb(Image.new(mode, (3, 2)))
    assert image.mode == "RGB"
    assert image.size == (3, 2)


def test_draft_is_smaller_but_covers_what_is_needed_and_tells_the_real_size():
    photo = open_photo(encoded(gradient(size=(1600, 800)), "JPEG"), draft=(100, 300))
    assert photo.image.width >= 300
    assert photo.image.height >= 100
    assert photo.image.width < 1600
    assert (photo.width, photo.height) == (1600, 800)


def test_draft_of_a_turned_photograph():
    data = encoded(gradient(size=(1600, 800)), "JPEG", exif=exif(Orientation=6))
    photo = open_photo(data, draft=(300, 300))
    assert (photo.width, photo.height) == (800, 1600)
    assert photo.image.height == 2 * photo.image.width
    assert photo.image.width >= 300


def test_time_and_place():
    block = exif(DateTime="2020:01:01 00:00:00")
    block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:05:01 06:07:08"
    gps = block.get_ifd(ExifTags.IFD.GPSInfo)
    gps.update({1: "S", 2: (33.0, 30.0, 36.0), 3: "E", 4: (151.0, 12.0, 0.0)})
    metadata = open_photo(encoded(gradient(), "JPEG", exif=block)).metadata
    assert metadata.taken_at == datetime(2024, 5, 1, 6, 7, 8)
    assert metadata.latitude == pytest.approx(-33.51)
    assert metadata.longitude == pytest.approx(151.2)


@pytest.mark.parametrize("stamp", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", ""])
def test_broken_time_is_no_time(stamp):
    assert open_photo(encoded(gradient(), "JPEG", exif=exif(DateTime=stamp))).metadata.taken_at is None


def test_broken_exif_does_not_lose_the_photograph():
    data = encoded(gradient(), "JPEG", exif=exif(Orientation=3))
    broken = data.replace(b"Exif\0\0MM\0*\0\0\0\x08\0\x01", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert broken != data
    assert open_image(broken).size == (40, 20)


PNG = encoded(gradient(size=(200, 200)))
JPEG = encoded(gradient(size=(200, 200)), "JPEG")


def bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\0" * 500, "only zeros"),
        (b"hello, this is a text", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (PNG[: len(PNG) // 2], "truncated"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (bomb(), "bomb"),
    ],
)
def test_what_is_no_photograph_has_a_reason(data, reason):
    with pytest.raises(ImageError, match=reason):
        open_image(data)


def test_reasons_of_paths(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        open_image(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="folder"):
        open_image(tmp_path)
    empty = tmp_path / "empty.jpg"
    empty.touch()
    with pytest.raises(ImageError, match="empty"):
        open_image(empty)


def test_limit_is_pillows_own():
    assert MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([PNG, JPEG]), st.data())
def test_damage_is_an_image_or_an_image_error(data, draw):
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 20))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    try:
        assert open_image(bytes(damaged)).mode == "RGB"
    except ImageError as error:
        assert str(error)
