"""Leaving parts of progressive JPEGs out changes no pixel and no error."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from birder.errors import ImageError
from birder.images import decode as decoding
from birder.images.bounded import jpeg_header
from birder.images.scans import for_an_eighth
from tests.robustness.hostile import jpeg_of_scans

DRAFT = (9, 12)
"""An eighth of the images here."""


def encoded(mode: str, size: tuple[int, int], **options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)
    image.save(buffer, "JPEG", progressive=True, **options)
    return buffer.getvalue()


FILES = {
    "4:4:4": encoded("RGB", (101, 77), subsampling=0, quality=95),
    "4:2:2": encoded("RGB", (97, 73), subsampling=1),
    "4:2:0": encoded("RGB", (103, 79), subsampling=2),
    "RGB": encoded("RGB", (99, 75), keep_rgb=True),
    "grey": encoded("L", (100, 80), quality=30),
    "restarts": encoded("RGB", (96, 72), subsampling=2, restart_marker_blocks=7),
    "restarts by rows": encoded("L", (111, 87), restart_marker_rows=1),
    "EXIF and a profile": encoded("RGB", (98, 74), exif=b"Exif\0\0" + bytes(500), icc_profile=bytes(300)),
}


def outcome(data: bytes, left_out: Callable[..., bytes | None]) -> tuple[object, ...]:
    """Size and pixels at an eighth, or the reason for none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "for_an_eighth", left_out)
        try:
            image = decoding.decode(data, DRAFT, lambda amount, pixels: None).image
        except ImageError as error:
            return (str(error),)
        return (image.size, image.tobytes())


def whole(*_: object) -> None:
    """Leave nothing out."""


def check(data: bytes) -> None:
    assert outcome(data, for_an_eighth) == outcome(data, whole)


@pytest.mark.parametrize("name", FILES)
def test_most_of_a_file_is_left_out_and_the_pixels_are_the_same(name: str) -> None:
    data = FILES[name]
    header = jpeg_header(data)
    assert header is not None
    less = for_an_eighth(data, header)
    assert less is not None and len(less) < 0.9 * len(data)
    assert less.count(b"\xff\xda") == data.count(b"\xff\xda")
    check(data)
    check(data + data)  # a second image is no part of the first
    (size, *_) = outcome(data, for_an_eighth)
    assert size == (-(-header.width // 8), -(-header.height // 8))


def test_what_is_unusual_is_decoded_whole() -> None:
    data = FILES["4:4:4"]
    last = data.rindex(b"\xff\xda")
    frame = data.index(b"\xff\xc2")
    twice = bytearray(data)
    twice[frame + 10 + 3] = twice[frame + 10]  # two components of one name
    unusual = [
        data[:-2],  # no end
        data[:last] + b"\xff\xd9",  # bits of coefficients that no scan has
        data[:last] + b"\xff\x05\0\2" + data[last:],  # a marker that is none
        data[:last] + 1001 * b"\xff\xfe\0\2" + data[last:],
        bytes(twice),
        jpeg_of_scans(96, 72, 3),  # baseline
    ]
    for each in unusual:
        header = jpeg_header(each)
        assert header is not None and for_an_eighth(each, header) is None
        check(each)
    assert outcome(data, for_an_eighth) != outcome(FILES["RGB"], for_an_eighth)


CHANGES = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "double", "marker"]), st.floats(0, 1), st.integers(0, 255)),
    min_size=1,
    max_size=6,
)


def changed(data: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    """A file with bytes set, cut out, doubled, or made a marker, most of them behind the first scan."""
    damaged = bytearray(data)
    for kind, where, value in changes:
        place = int(where * (len(damaged) - 1))
        if kind == "set":
            damaged[place] = value
        elif kind == "cut":
            del damaged[place : place + value % 16]
        elif kind == "double":
            damaged[place:place] = damaged[place : place + value]
        else:
            damaged[place : place + 2] = bytes([0xFF, value])
        if not damaged:
            break
    return bytes(damaged)


@given(st.sampled_from(sorted(FILES)), CHANGES)
@settings(max_examples=150, deadline=None)
def test_damaged_files_are_the_same(name: str, changes: list[tuple[str, float, int]]) -> None:
    check(changed(FILES[name], changes))


@given(st.sampled_from(sorted(FILES)), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_files_that_end_early_are_the_same(name: str, where: float) -> None:
    data = FILES[name]
    check(data[: int(where * len(data))])
    check(data[: int(where * len(data))] + b"\xff\xd9")
