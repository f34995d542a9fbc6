"""What a header promises: what is decoded here, and what in a process apart."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from birder.errors import ImageError
from birder.images.bounded import count_scans, is_bounded, jpeg_header
from birder.images.decode import MAX_SCANS
from birder.images.open import open_photo
from tests.robustness import hostile
from tests.robustness.hostile import encoded, picture


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"icc_profile": bytes(300_000)}),
        ("MPO", {}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("BMP", {}),
    ],
)
def test_images_of_cameras_and_scanners_are_decoded_in_this_process(kind: str, options: dict[str, object]) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (47.0, 30.0, 0.0), 3: "E", 4: (8.0, 0.0, 0.0)})
    data = encoded(picture(), kind, **options | ({} if kind in ("BMP", "TIFF") else {"exif": exif}))
    assert is_bounded(data)
    assert {open_photo(data).width, open_photo(data).height} == {160, 120}


def test_photos_are_decoded_in_this_process(photos: Path) -> None:
    assert all(is_bounded(path.read_bytes()) for path in photos.rglob("*.jpg"))


@pytest.mark.parametrize(
    "data",
    [
        *(encoded(picture(), kind) for kind in ("JPEG2000", "AVIF", "GIF", "PPM", "ICO", "TGA", "SGI", "PCX")),
        encoded(picture(), "TIFF", compression="jpeg"),
        hostile.run_length_bmp(9, 9),
        hostile.jpeg_of_markers(2000),
        hostile.png_of_chunks(5000),
        hostile.png_with_exif_as_text(4000),
        b"",
        b"II*\0",
        b"MM\0*\0\0\0\x08\0\xff",
        b"RIFF",
        b"\xff\xd8\xff",
        b"BM",
    ],
)
def test_other_images_are_decoded_in_a_separate_process(data: bytes) -> None:
    assert not is_bounded(data)


def test_a_tiff_with_repeated_strips_is_not_bounded() -> None:
    tags = [(256, 3, 8), (257, 3, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1), (279, 4, 200)]
    entries = [struct.pack("<HHI", tag, kind, 1 if tag not in (273, 279) else 200) for tag, kind, _ in tags]
    values = [struct.pack("<I", value if tag not in (273, 279) else 200) for tag, _, value in tags]
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    body = b"".join(map(bytes.__add__, entries, values)) + bytes(4)
    assert not is_bounded((head + body).ljust(200, b"\0") + 200 * struct.pack("<I", 900))
    assert is_bounded((head + body).ljust(200, b"\0") + 200 * struct.pack("<I", 1))


def test_only_scans_of_the_image_itself_are_counted() -> None:
    trailer = random.Random(2).randbytes(20_000_000)
    assert trailer.count(b"\xff\xda") > 2 * MAX_SCANS
    for progressive in (True, False):
        data = encoded(picture(), "JPEG", progressive=progressive)
        header = jpeg_header(data)
        assert header is not None and header.several == progressive
        scans = data.count(b"\xff\xda")
        assert count_scans(data + trailer, header.scans, MAX_SCANS) == scans
        assert open_photo(data + trailer).width == 160


def test_an_end_marker_within_a_comment_hides_no_scan() -> None:
    data = hostile.jpeg_of_scans(64, 64, 5, progressive=True)
    header = jpeg_header(data)
    assert header is not None
    last = data.rindex(b"\xff\xda")
    hidden = data[:last] + b"\xff\xfe\0\x06\xff\xd9ab" + 300 * data[last:-2] + b"\xff\xd9"
    assert count_scans(hidden, header.scans, MAX_SCANS) == data.count(b"\xff\xda") - 1 + 300
    with pytest.raises(ImageError, match="scans, more than 100"):
        open_photo(hidden)


@pytest.mark.parametrize("progressive", [True, False])
def test_a_jpeg_of_too_many_scans_is_refused(progressive: bool) -> None:
    with pytest.raises(ImageError, match=r"40\d scans, more than 100"):
        open_photo(hostile.jpeg_of_scans(640, 480, 400, progressive=progressive))


def test_first_frame_of_an_animation_is_the_same_when_decoded_in_a_separate_process() -> None:
    image = picture().quantize(64)
    with Image.open(io.BytesIO(encoded(image, "GIF"))) as here:
        assert open_photo(encoded(image, "GIF")).image.tobytes() == here.convert("RGB").tobytes()
