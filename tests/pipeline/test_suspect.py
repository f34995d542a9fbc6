"""Files of which half was never written: their rows say what looks wrong, so that a filter finds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from birder.images.open import open_photo
from birder.images.suspect import why_suspect
from birder.images.transform import ClassificationTransform
from tests.factory import images_of
from tests.pipeline.means import collection_in, draw, run
from tests.robustness.hostile import encoded, half_zero, half_zero_files, picture

REASONS = {
    "half-zero.webp": "its file ends in zeros",
    "half-zero.tif": "its lower half is one colour",
    "half-zero.ppm": "its lower half is one colour",
    "half-zero.bmp": "its upper half is one colour",
}


def suspects(folder: Path) -> dict[str, str | None]:
    rows = collection_in(folder).to_arrow().select(["uri", "suspect"]).to_pylist()
    return {row["uri"].rpartition("/")[2]: row["suspect"] for row in rows}


def test_incomplete_files_are_found_by_a_filter(tmp_path: Path) -> None:
    draw(tmp_path, 3)
    for name, data in half_zero_files().items():
        (tmp_path / "photos" / name).write_bytes(data)
    summary = run(tmp_path)
    assert summary.embedded + len(summary.failed) == 3 + len(half_zero_files())
    failed = {Path(name).name for name, _ in summary.failed}
    found = {name: reason for name, reason in suspects(tmp_path).items() if reason is not None}
    assert found == {name: reason for name, reason in REASONS.items() if name not in failed}
    assert len(found) >= 3
    assert collection_in(tmp_path).count("suspect is not null") == len(found)


def test_a_copy_of_a_suspect_image_is_suspect_too_in_a_later_run(tmp_path: Path) -> None:
    draw(tmp_path, 1)
    data = half_zero_files()["half-zero.tif"]
    for name in ("a.tif", "b.tif"):
        (tmp_path / "photos" / name).write_bytes(data)
    run(tmp_path)
    (tmp_path / "photos" / "c.tif").write_bytes(data)
    assert run(tmp_path).reused == 1
    assert suspects(tmp_path) == {
        "0000.png": None,
        **dict.fromkeys(("a.tif", "b.tif", "c.tif"), REASONS["half-zero.tif"]),
    }


@pytest.mark.parametrize("own", [None, pa.bool_()])
def test_an_older_collection_gets_the_column_unless_it_has_one_of_that_name(tmp_path: Path, own: object) -> None:
    draw(tmp_path, 1)
    run(tmp_path)
    collection = collection_in(tmp_path)
    images_of(collection.path).drop_columns(["suspect"])
    if own is not None:
        images_of(collection.path).add_columns(pa.schema([pa.field("suspect", own)]))
    (tmp_path / "photos" / "half.tif").write_bytes(half_zero_files()["half-zero.tif"])
    assert run(tmp_path).embedded == 1
    assert suspects(tmp_path)["half.tif"] == (REASONS["half-zero.tif"] if own is None else None)


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "TIFF", "BMP", "PPM", "PNG", "JPEG"])
def test_a_whole_file_is_not_suspect(kind: str, photos: Path) -> None:
    transform = ClassificationTransform((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    for image in (picture(1, (600, 450)), Image.open(sorted(photos.rglob("*.jpg"))[3])):
        data = encoded(image.convert("RGB"), kind)
        assert why_suspect(data, transform.to_uint8(open_photo(data).image)) is None
        if kind in ("TIFF", "BMP", "PPM"):
            half = half_zero(data)
            assert why_suspect(half, transform.to_uint8(open_photo(half).image)) is not None


def test_an_image_of_nearly_one_colour_is_not_suspect() -> None:
    pixels = np.full((224, 224, 3), 40, np.uint8)
    pixels[:120] = np.random.default_rng(0).integers(0, 255, (120, 224, 3))
    assert why_suspect(b"", pixels) == "its lower half is one colour"
    pixels[200, 100, 1] += 1
    assert why_suspect(b"", pixels) is None
