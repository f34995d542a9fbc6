"""Opening images: any mode becomes upright RGB, anything else a reason."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from birder.errors import ImageError
from birder.images.decode import to_rgb
from birder.images.guard import MAX_PIXELS, decoding, formats
from birder.images.open import decoded_photo, open_image, open_photo
from birder.images.reasons import why_undecodable, why_unidentified
from tests.robustness.hostile import jpeg_of_scans

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
def test_exif_orientation_is_applied(orientation: Any) -> None:
    upright = gradient()
    upright.paste("red", (0, 0, 16, 8))
    # What a camera stores is the upright image turned by the inverse of what the tag asks for.
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(inverse[orientation])) if orientation > 1 else upright
    photo = open_photo(encoded(stored, exif=exif(Orientation=orientation)))
    assert (photo.width, photo.height) == upright.size == photo.image.size
    assert np.array_equal(np.asarray(photo.image), np.asarray(upright))


def test_transparency_becomes_white() -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (10, 20, 30, 255))
    image.putpixel((2, 2), (0, 0, 0, 127))
    opened = open_image(encoded(image))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((1, 1)) == (10, 20, 30)
    assert opened.getpixel((2, 2)) == pytest.approx((128, 128, 128), abs=1)


def test_transparent_palette_colour_becomes_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((0, 0), 0)
    opened = open_image(encoded(image, transparency=0))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((3, 3)) == (200, 100, 50)


def test_transparent_colour_of_an_rgb_png_becomes_white() -> None:
    image = Image.new("RGB", (4, 4), (9, 9, 9))
    image.putpixel((0, 0), (1, 2, 3))
    opened = open_image(encoded(image, transparency=(1, 2, 3)))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((3, 3)) == (9, 9, 9)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: Any) -> None:
    values = np.array([[0, 257 * 64, 257 * 128, 65535]], np.uint16)
    opened = open_image(encoded(Image.fromarray(values), kind))
    assert np.asarray(opened)[0, :, 0].tolist() == [0, 64, 128, 255]


def test_cmyk_without_profile_grey_and_bilevel_become_rgb() -> None:
    assert open_image(encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "TIFF")).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(encoded(Image.new("L", (4, 4), 99))).getpixel((0, 0)) == (99, 99, 99)
    assert open_image(encoded(Image.new("1", (4, 4), 1))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "I;16"]
)
def test_every_pillow_mode_becomes_rgb(mode: Any) -> None:
    image = to_rgb(Image.new(mode, (3, 2)))
    assert image.mode == "RGB"
    assert image.size == (3, 2)


def test_a_draft_is_smaller_covers_what_is_needed_and_has_the_real_size() -> None:
    photo = open_photo(encoded(gradient(size=(1600, 800)), "JPEG"), draft=(100, 300))
    assert photo.image.width >= 300
    assert photo.image.height >= 100
    assert photo.image.width < 1600
    assert (photo.width, photo.height) == (1600, 800)


def test_a_draft_of_a_turned_image_covers_what_is_needed() -> None:
    data = encoded(gradient(size=(1600, 800)), "JPEG", exif=exif(Orientation=6))
    photo = open_photo(data, draft=(300, 300))
    assert (photo.width, photo.height) == (800, 1600)
    assert photo.image.height == 2 * photo.image.width
    assert photo.image.width >= 300


def test_exif_time_and_place_are_read() -> None:
    block = exif(DateTime="2020:01:01 00:00:00")
    block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:05:01 06:07:08"
    gps = block.get_ifd(ExifTags.IFD.GPSInfo)
    gps.update({1: "S", 2: (33.0, 30.0, 36.0), 3: "E", 4: (151.0, 12.0, 0.0)})
    metadata = open_photo(encoded(gradient(), "JPEG", exif=block)).metadata
    assert metadata.taken_at == datetime(2024, 5, 1, 6, 7, 8)
    assert metadata.latitude == pytest.approx(-33.51)
    assert metadata.longitude == pytest.approx(151.2)


@pytest.mark.parametrize("stamp", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", ""])
def test_invalid_exif_time_is_left_empty(stamp: Any) -> None:
    assert open_photo(encoded(gradient(), "JPEG", exif=exif(DateTime=stamp))).metadata.taken_at is None


def test_broken_exif_does_not_lose_the_image() -> None:
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
        (b"hello, this is a text", "unknown file format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unknown file format"),
        (PNG[: len(PNG) // 2], "truncated"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (bomb(), "bomb"),
    ],
)
def test_files_that_are_not_images_have_a_reason(data: bytes, reason: Any) -> None:
    with pytest.raises(ImageError, match=reason):
        open_image(data)


def test_paths_that_cannot_be_read_have_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        open_image(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="folder"):
        open_image(tmp_path)
    empty = tmp_path / "empty.jpg"
    empty.touch()
    with pytest.raises(ImageError, match="empty"):
        open_image(empty)


def test_the_pixel_limit_is_set_as_pillows_own() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None and MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.sampled_from([PNG, JPEG]), st.data())
def test_any_damaged_file_is_an_image_or_an_image_error(data: bytes, draw: Any) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 20))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    try:
        assert open_image(bytes(damaged)).mode == "RGB"
    except ImageError as error:
        assert str(error)


def test_first_frame_is_read_and_the_extension_does_not_matter(tmp_path: Path) -> None:
    frames = [gradient(), gradient().transpose(Image.Transpose.ROTATE_180)]
    for kind in ("GIF", "PNG", "TIFF", "MPO", "WEBP"):
        data = encoded(frames[0].copy(), kind, save_all=True, append_images=[frames[1].copy()])
        path = tmp_path / "photo.xyz"
        path.write_bytes(data)
        opened = np.asarray(open_image(path)).astype(int)
        assert np.abs(opened - np.asarray(frames[0])).mean() < 8, kind


@pytest.mark.parametrize(
    ("mode", "value"), [("RGBA", (9, 8, 7, 128)), ("I;16", 999), ("F", 0.25), ("CMYK", (1, 2, 3, 4)), ("P", 3)]
)
def test_a_large_image_is_converted_in_strips_to_the_same(
    mode: Any, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.new(mode, (60, 41), value)
    image.putpixel(
        (7, 40), {"F": 1000.0, "I;16": 65535, "P": 77}.get(mode, (255, 0, 255, 0))
    )  # the last strip counts too
    whole = np.asarray(to_rgb(image))
    monkeypatch.setattr("birder.images.decode._STRIP", 60 * 7)
    assert np.array_equal(np.asarray(to_rgb(image)), whole)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
def test_a_large_draft_is_averaged_down_but_stays_four_times_as_needed(
    mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = gradient("L" if mode == "I;16" else mode, size=(1000, 410))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    data = encoded(image, exif=exif(Orientation=6))
    exact = open_photo(data, draft=(20, 20))
    assert exact.image.size == (exact.width, exact.height) == (410, 1000)
    monkeypatch.setattr("birder.images.decode._LARGE", 1000)
    monkeypatch.setattr("birder.images.decode._STRIP", 1000 * 30)
    draft = open_photo(data, draft=(20, 20))
    assert (draft.width, draft.height) == (410, 1000)
    assert draft.image.size == (82, 200)
    small = np.asarray(exact.image.resize((20, 20), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(np.asarray(draft.image.resize((20, 20), Image.Resampling.BICUBIC)) - small).max() <= 3


def held_while_decoding(data: bytes, **options: Any) -> int:
    with decoded_photo(data, **options):
        return decoding._held


@pytest.mark.slow
def test_memory_counts_what_is_decoded_until_the_block_ends() -> None:
    image = Image.effect_noise((1600, 800), 50).convert("RGB")
    full = held_while_decoding(encoded(image, "JPEG"))
    assert full == 8 * 1600 * 800
    assert held_while_decoding(encoded(image, "JPEG"), draft=(100, 100)) == full / 64
    # all scans of a progressive one stay in memory, in full size
    progressive = encoded(image, "JPEG", progressive=True)
    held = held_while_decoding(progressive, draft=(100, 100)) - full / 64 - full * 6 / 8
    assert 0 < held < len(progressive)  # what of the file is decoded at an eighth
    # so do the scans of one that has a scan a component
    assert held_while_decoding(jpeg_of_scans(1600, 800, 3), draft=(100, 100)) == full / 64 + full * 6 / 8
    assert held_while_decoding(encoded(image, "JPEG2000")) > full
    assert held_while_decoding(encoded(Image.new("RGB", (64, 64)), "ICO")) >= decoding.limit / 2
    assert decoding._held == 0
    with pytest.raises(ImageError):
        open_image(JPEG[: len(JPEG) // 2])
    assert decoding._held == 0


def test_an_error_in_the_block_is_passed_on() -> None:
    with pytest.raises(ZeroDivisionError), decoded_photo(JPEG):
        _ = 1 / 0
    assert decoding._held == 0


def tiff_with_tile(side: int) -> bytes:
    """A TIFF of 8 x 8 pixels that claims tiles of side x side."""
    tags = [(256, 8), (257, 8), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side), (324, 8), (325, 9)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + zlib.compress(bytes(64))


def test_a_tile_larger_than_its_image_is_a_bomb_too() -> None:
    with pytest.raises(ImageError, match="bomb"):
        open_image(tiff_with_tile(40_000))


def test_a_broken_png_whose_exif_is_asked_for_is_still_broken() -> None:
    """Pillow decodes a PNG when it is asked for EXIF; the error that this gives must not be lost."""
    data = bytearray(PNG)
    place = data.index(b"IDAT") + len("IDAT") + 2
    data[place : place + 50] = b"\xff" * 50
    with pytest.raises(OSError):
        Image.open(io.BytesIO(data)).load()
    with pytest.raises(ImageError, match="corrupt|truncated"):
        open_image(bytes(data))


@pytest.mark.parametrize(
    ("gps", "place"),
    [
        ({1: "N", 2: (47.0, 30.0, 0.0), 3: "W", 4: (8.0, 0.0, 0.0)}, (47.5, -8.0)),
        ({1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (8.0, 0.0, 0.0)}, None),
        ({1: "N", 2: (47.0, 0.0), 3: "E", 4: (8.0, 0.0, 0.0)}, None),
        ({2: (47.0, 30.0, 0.0), 4: (8.0, 0.0, 0.0)}, None),  # of which half of the earth?
        ({1: "X", 2: (47.0, 30.0, 0.0), 3: "E", 4: (8.0, 0.0, 0.0)}, None),
        ({}, None),
    ],
)
def test_exif_place_is_valid_or_empty(gps: Any, place: Any) -> None:
    block = exif(Orientation=1)
    block.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    metadata = open_photo(encoded(gradient(), "JPEG", exif=block)).metadata
    assert (metadata.latitude, metadata.longitude) == (place or (None, None))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="pipe"):
        open_image(tmp_path / "pipe.jpg")


class Strange:
    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {id(self):#x}>"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(5, "Input/output error"), r"^it cannot be read \(Input/output error\)$"),
        (
            OSError(f"cannot understand {Strange()}\n\x1b[31m" + "x" * 500),
            "^corrupt image data .cannot understand the file",
        ),
        (ValueError(""), "corrupt image data"),
        (KeyError(b"II"), "corrupt file structure"),
        (EOFError(), "truncated"),
        (NotImplementedError("Unimplemented DXGI format 93"), "unsupported image format"),
    ],
)
def test_reasons_are_readable(error: Any, reason: Any) -> None:
    text = why_undecodable(error)
    assert re.search(reason, text)
    assert text.isprintable() and "0x" not in text and len(text) < 150


@given(st.binary(max_size=64))
def test_every_unidentified_file_has_a_reason(start: Any) -> None:
    assert why_unidentified(start).isprintable()


HEIC = b"\0\0\0\x18ftypheic" + bytes(500)


def test_heic_is_read_or_its_extra_is_named() -> None:
    with pytest.raises(
        ImageError, match='pip install "\\.\\[heic\\]"' if "HEIF" not in formats() else "corrupt|truncated|HEIC"
    ):
        open_image(HEIC)


def test_the_heic_extra_is_not_suggested_where_it_is_installed() -> None:
    assert "pip install" in why_unidentified(HEIC[:64], ("JPEG", "PNG"))
    assert why_unidentified(HEIC[:64], ("JPEG", "HEIF")) == "corrupt HEIC header"
    assert why_unidentified(b"\0\0\0\x18ftypavif") == "corrupt AVIF header"
