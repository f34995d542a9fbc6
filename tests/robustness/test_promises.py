"""Each failure that is promised to be survived, caused, through real runs of the command line."""

from __future__ import annotations

import io
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from birder.registry import create_network
from birder.weights.checkpoint import make_signature, save_model
from tests.robustness.run import birder, failures_of, rows_of

pytestmark = pytest.mark.slow

AS_A_USER = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
"""Root may read everything; without these capabilities it is told "permission denied" as others are."""


class Case(NamedTuple):
    """A file; what it must end as: the name of the file with the same image, or a pattern of the reason."""

    data: bytes
    same_as: str | None = None
    reason: str | None = None
    similarity: float = 0.999


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, kind, **options)  # a copy: what saving leaves on an image upsets the next format

    return buffer.getvalue()


def moving(image: Image.Image, kind: str, **options: object) -> bytes:
    """An animation or pages: the image first, something else after it."""
    second = image.transpose(Image.Transpose.ROTATE_180).convert("L").convert("RGB")
    return encoded(image, kind, save_all=True, append_images=[second], **options)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(5_000_000))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def scan_bomb() -> bytes:
    """A progressive JPEG whose last scan is there ten thousand times: small, and decoded for minutes."""
    data = encoded(Image.effect_noise((4000, 4000), 30), "JPEG", progressive=True, quality=5)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + 10_000 * data[last : last + 12] + b"\xff\xd9"


def cases(photo: Image.Image) -> dict[str, Case]:
    jpeg, png = encoded(photo, "JPEG", quality=95), encoded(photo, "PNG")
    grey = np.asarray(photo.convert("L")).astype(np.uint16)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "X", 2: (900.0, 1e9, 1.0), 3: "E", 4: (7.0, 99.0)})
    garbage = b"Exif\0\0" + random.Random(4).randbytes(5000)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    long, wide = Image.new("RGB", (65_000, 30), "green"), Image.new("RGB", (65_000, 1), "green")
    return {
        "photo.png": Case(png, same_as="photo.png"),
        "animated.gif": Case(moving(photo, "GIF"), "photo.png", None, 0.9),
        "animated.webp": Case(moving(photo, "WEBP", quality=95), "photo.png", None, 0.9),
        "animated.png": Case(moving(photo, "PNG"), "photo.png"),
        "two-pictures.jpg": Case(moving(photo, "MPO"), "photo.png", None, 0.99),
        "pages.tif": Case(moving(photo, "TIFF"), "photo.png"),
        "wrong-extension.jpg": Case(png, same_as="photo.png"),
        "photo.jpg": Case(jpeg, same_as="photo.png", similarity=0.99),
        "progressive.jpg": Case(encoded(photo, "JPEG", progressive=True, quality=95), "photo.jpg"),
        "broken-exif.jpg": Case(encoded(photo, "JPEG", exif=garbage, quality=95), "photo.jpg"),
        "broken-place.jpg": Case(encoded(photo, "JPEG", exif=exif.tobytes(), quality=95), "photo.jpg"),
        "broken-profile.jpg": Case(encoded(photo, "JPEG", icc_profile=b"\0" * 300, quality=95), "photo.jpg"),
        "cmyk.jpg": Case(encoded(photo.convert("CMYK"), "JPEG", quality=95), "photo.jpg", None, 0.99),
        "cmyk-broken-profile.jpg": Case(
            encoded(photo.convert("CMYK"), "JPEG", quality=95, icc_profile=b"no profile" * 99), "cmyk.jpg"
        ),
        "cmyk-rgb-profile.jpg": Case(encoded(photo.convert("CMYK"), "JPEG", quality=95, icc_profile=srgb), "cmyk.jpg"),
        "grey.png": Case(encoded(photo.convert("L"), "PNG"), "grey.png"),
        "grey16.png": Case(encoded(Image.fromarray(grey * 257), "PNG"), "grey.png"),
        "grey16.tif": Case(encoded(Image.fromarray(grey * 257), "TIFF"), "grey.png"),
        "one-pixel.png": Case(encoded(Image.new("RGB", (1, 1), "green"), "PNG"), "65000x1.png"),
        "65000x1.png": Case(encoded(wide, "PNG"), "65000x30.png"),
        "65000x30.png": Case(encoded(long, "PNG"), "65000x30.png"),
        "65000x30.jpg": Case(encoded(long, "JPEG"), "65000x30.png", None, 0.99),
        "30x65000.tif": Case(
            encoded(long.transpose(Image.Transpose.ROTATE_90), "TIFF", compression="tiff_lzw"), "65000x30.png"
        ),
        "empty.jpg": Case(b"", reason="the file is empty"),
        "zeros.jpg": Case(bytes(5000), reason="only zeros"),
        "text.jpg": Case(b"once upon a time", reason="unknown file format"),
        "page.jpg": Case(b"<!DOCTYPE html><html>404", reason="web page"),
        "report.jpg": Case(b"%PDF-1.7\n" + bytes(500), reason="PDF"),
        "drawing.png": Case(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", reason="EPS"),
        "clip.jpg": Case(b"\0\0\0\x18ftypmp42" + bytes(500), reason="video"),
        "cut.jpg": Case(jpeg[: len(jpeg) // 2], reason="truncated"),
        "cut.png": Case(png[: len(png) // 2], reason="truncated"),
        "cut-header.png": Case(png[:20], reason="corrupt|truncated"),
        "cut-header.jpg": Case(jpeg[:20], reason="corrupt|truncated"),
        "cut-raw.tif": Case(encoded(photo, "TIFF")[:-500], reason="truncated"),
        "cut.tif": Case(encoded(photo, "TIFF", compression="tiff_deflate")[:-5000], reason="corrupt|truncated"),
        "cut.webp": Case(encoded(photo, "WEBP")[:-500], reason="corrupt|truncated"),
        "bomb.png": Case(png_bomb(65_000, 65_000), reason="bomb"),
        "bomb-below-the-line.png": Case(png_bomb(13_000, 13_000), reason="truncated"),
        "scan-bomb.jpg": Case(scan_bomb(), reason="10,0.. scans"),
        "text-bomb.png": Case(
            png[:33] + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))) + png[33:],
            reason="text or colour profile is too large",
        ),
        "profile-bomb.png": Case(
            png[:33] + png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000))) + png[33:],
            reason="text or colour profile is too large",
        ),
    }


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(Path(__file__).parents[1] / "data" / "chelsea.png").convert("RGB")


@pytest.fixture(scope="module")
def told(photo: Image.Image) -> dict[str, Case]:
    return cases(photo)


@pytest.fixture(scope="module")
def folder(told: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "photos").mkdir()
    for name, case in told.items():
        (folder / "photos" / name).write_bytes(case.data)
    birder("embed", folder / "photos", "--in", folder / "c", code=1)
    return folder


def test_broken_files_end_as_failures_with_a_reason(folder: Path, told: dict[str, Case]) -> None:
    failures = {Path(path).name: reason for path, reason in failures_of(folder / "c").items()}
    expected = {name: case.reason for name, case in told.items() if case.reason is not None}
    assert failures.keys() == expected.keys()
    for name, pattern in expected.items():
        assert re.search(pattern, failures[name]), (name, failures[name])


def test_unusual_files_end_as_rows_with_the_embedding_of_their_image(folder: Path, told: dict[str, Case]) -> None:
    rows = {Path(path).name: row for path, row in rows_of(folder / "c").items()}
    assert rows.keys() == {name for name, case in told.items() if case.same_as is not None}
    embeddings = {name: np.array(row["embedding"], np.float32) for name, row in rows.items()}
    vectors = {name: embedding / np.linalg.norm(embedding) for name, embedding in embeddings.items()}
    for name, case in told.items():
        if case.same_as is not None:
            assert vectors[name] @ vectors[case.same_as] > case.similarity, name
    # the bound means something: another image is further away
    assert vectors["photo.png"] @ vectors["65000x30.png"] < 0.9
    assert (rows["65000x1.png"]["width"], rows["65000x1.png"]["height"]) == (65_000, 1)
    assert rows["broken-place.jpg"]["latitude"] is None and rows["broken-place.jpg"]["longitude"] is None


def some_photos(folder: Path, photo: Image.Image, count: int) -> Path:
    photos = folder / "photos"
    photos.mkdir()
    for i in range(count):
        photo.crop((i % 150, i // 150, i % 150 + 60, i // 150 + 60)).save(photos / f"{i:04}.png")
    return photos


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as POSIX has them")
def test_a_file_without_permission_is_a_failure_until_it_is_readable(tmp_path: Path, photo: Image.Image) -> None:
    photos = some_photos(tmp_path, photo, 6)
    (photos / "locked").mkdir()
    shutil.move(photos / "0000.png", photos / "locked")
    (photos / "0001.png").chmod(0)
    (photos / "locked").chmod(0)
    try:
        birder("embed", photos, "--in", tmp_path / "c", code=1, prefix=AS_A_USER)
        assert failures_of(tmp_path / "c") == {
            str(photos / "0001.png"): "no permission to read the file",
            str(photos / "locked"): "the folder cannot be read (Permission denied)",
        }
        assert len(rows_of(tmp_path / "c")) == 4
    finally:
        (photos / "0001.png").chmod(0o644)
        (photos / "locked").chmod(0o755)
    birder("embed", photos, "--in", tmp_path / "c", "--retry-failed")
    assert len(rows_of(tmp_path / "c")) == 6
    assert str(photos / "0001.png") not in failures_of(tmp_path / "c")


def test_a_file_that_is_removed_after_it_was_listed_is_a_failure(tmp_path: Path, photo: Image.Image) -> None:
    photos = some_photos(tmp_path, photo, 8)
    command = [sys.executable, "-m", "birder", "embed", str(photos), "--in", str(tmp_path / "c")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert f"0 already in {tmp_path / 'c'}, 8 to do" in process.stderr.readline()
    (photos / "0003.png").unlink()  # listed, and not read before the model is loaded
    rest = process.communicate(timeout=120)[1]
    assert process.returncode == 1 and "Traceback" not in rest
    assert "Embedded 7, already there 0, failed 1." in rest
    assert failures_of(tmp_path / "c") == {str(photos / "0003.png"): "the file does not exist"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_file_names_that_are_not_text_are_kept(tmp_path: Path, photo: Image.Image) -> None:
    photos = some_photos(tmp_path, photo, 2)
    os.rename(photos / "0000.png", os.fsencode(photos) + b"/caf\xe9 \xff.png")  # noqa: PTH104
    with open(os.fsencode(photos) + b"/broken \xfe\n.jpg", "wb") as file:  # noqa: PTH123
        file.write(b"x")
    said = birder("embed", photos, "--in", tmp_path / "c", code=1)
    assert "failed 1." in said
    (row,) = (row for path, row in rows_of(tmp_path / "c").items() if os.fsencode(path).endswith(b"caf\xe9 \xff.png"))
    assert str(row["uri"]).endswith("/caf%E9%20%FF.png")
    (failure,) = failures_of(tmp_path / "c")
    assert os.fsencode(failure).endswith(b"/broken \xfe\n.jpg")
    assert "Nothing to do" in birder("embed", photos, "--in", tmp_path / "c")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.5 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1500k", "none", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root mounts a small file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, photo: Image.Image) -> Path:
    """A network that is quick and gives long embeddings; its graph is in the cache."""
    folder = tmp_path_factory.mktemp("wide")
    config = {"num_layers": 1, "num_heads": 2, "hidden_dim": 1280, "mlp_dim": 64}
    net = create_network("vit_b16_pn", 0, size=(32, 32), config=config)
    stats = {"mean": [0.5] * 3, "std": [0.25] * 3}
    path = folder / "vit_b16_pn_wide.pt"
    save_model(net, path, signature=make_signature((32, 32), 0), rgb_stats=stats, config=config)
    birder("embed", some_photos(folder, photo, 1), "--in", folder / "c", "--model", path)
    return path


def fill(wide: Path, photos: Path, collection: Path, then: Callable[[], None] = lambda: None, **options: Any) -> None:
    """Embed 60 images, for which there is room, then 240 more (1.2 MB), for which there is none, then again."""
    birder("embed", f"{photos}/00[0-5]?.png", "--in", collection, "--model", wide, **options)
    said = birder("embed", photos, "--in", collection, code=1, **options)
    assert "Cannot write to" in said and "run the same command again" in said.splitlines()[-1]
    kept = set(rows_of(collection))
    assert 60 <= len(kept) < 300
    then()
    assert f"{len(kept)} already in" in birder("embed", photos, "--in", collection)
    assert kept < set(rows_of(collection)) == {str(path) for path in photos.iterdir()}
    assert failures_of(collection) == {}
    assert "Nothing to do" in birder("embed", photos, "--in", collection)


def test_a_disk_that_fills_up_ends_the_run_with_advice_and_it_goes_on(
    tmp_path: Path, small_disk: Path, photo: Image.Image, wide: Path
) -> None:
    def make_room() -> None:
        subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)

    fill(wide, some_photos(tmp_path, photo, 300), small_disk / "c", make_room)


def test_a_disk_that_is_full_before_the_start_is_reported(tmp_path: Path, small_disk: Path, photo: Image.Image) -> None:
    photos = some_photos(tmp_path, photo, 2)
    with pytest.raises(OSError), (small_disk / "ballast").open("wb") as file:
        file.write(bytes(2 << 20))
    said = birder("embed", photos, "--in", small_disk / "c", code=1)
    assert "Cannot create a collection in" in said and "No space left on device" in said
    (small_disk / "ballast").unlink()
    birder("embed", photos, "--in", small_disk / "c")
    assert len(rows_of(small_disk / "c")) == 2


def test_files_that_may_not_grow_end_the_run_with_advice_and_it_goes_on(
    tmp_path: Path, photo: Image.Image, wide: Path
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    fill(wide, some_photos(tmp_path, photo, 300), tmp_path / "c", preexec_fn=limit)
