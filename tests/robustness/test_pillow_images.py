"""Pillow's own test images, a thousand files of which many are broken on purpose, through one real run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from birder.errors import ImageError
from birder.images import decode
from birder.images.bounded import jpeg_header
from birder.images.guard import formats
from birder.images.scans import for_an_eighth
from tests.robustness.run import birder, failures_of, rows_of

VERSION = "13.0.0"
CACHE = Path(__file__).parents[2] / ".cache"
TINY = Path(__file__).parents[1] / "data" / "birder" / "vit_tiny_p16_pn_test.pt"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images() -> Path:
    """`Tests/images` of Pillow's source distribution; 47 MB, fetched once by pip and kept in `.cache`."""
    folder = CACHE / f"pillow-{VERSION}" / "Tests" / "images"
    if not folder.is_dir():
        CACHE.mkdir(exist_ok=True)
        (CACHE / ".gitignore").write_text("*\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "pillow"]
        done = subprocess.run([*command, "--dest", CACHE, f"pillow=={VERSION}"], capture_output=True, text=True)
        if done.returncode and not os.environ.get("CI"):
            pytest.skip(f"Pillow's source distribution cannot be fetched: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr
        part = folder.parent / "images.part"
        with tarfile.open(CACHE / f"pillow-{VERSION}.tar.gz") as archive:
            inside = f"pillow-{VERSION}/Tests/images/"
            for member in archive.getmembers():
                if member.name.startswith(inside):
                    member.name = member.name.removeprefix(inside)
                    archive.extract(member, part, filter="data")
        part.rename(folder)
    return folder


@pytest.fixture(scope="module")
def done(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection after one run over all of them, whatever their extension; their network is a small one."""
    collection = tmp_path_factory.mktemp("pillow") / "c"
    model = Path(shutil.copy(TINY, collection.with_name("vit_b16_pn_tiny.pt")))
    said = birder("embed", f"{images}/**/*", "--in", collection, "--model", model, code=1)
    assert "Embedded" in said
    return collection


def files(images: Path) -> Iterator[Path]:
    return (path for path in images.rglob("*") if path.is_file())


def test_each_file_ends_as_a_row_or_as_a_failure_with_a_reason(images: Path, done: Path) -> None:
    rows, failures = rows_of(done), failures_of(done)
    assert not rows.keys() & failures.keys()
    # hopper.tar is read as a shard: its images are hopper.tar#hopper.jpg and so on
    assert {path.partition("#")[0] for path in (*rows, *failures)} == set(map(str, files(images)))
    assert len(rows) + len(failures) > 1000
    for row in rows.values():
        vector = np.array(row["embedding"])
        assert np.isfinite(vector).all() and vector.any()
    for reason in failures.values():
        assert 10 < len(reason) < 150
        assert " object at " not in reason and "<" not in reason and reason.isprintable()
    assert len(set(failures.values())) < 50  # reasons, not a message of its own for each file


def test_a_file_is_a_row_just_where_pillow_alone_decodes_it(images: Path, done: Path) -> None:
    rows = rows_of(done)
    for path in files(images):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with Image.open(path) as image:
                    image.load()
                    decodes = image.format in (*formats(), "MPO")
            except Exception:
                decodes = False
        assert (str(path) in rows) == decodes, path


def test_progressive_jpegs_have_the_same_pixels_at_an_eighth_without_what_no_pixel_needs(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out = 0
    for path in files(images):
        data = path.read_bytes()
        header = jpeg_header(data) if data.startswith(b"\xff\xd8\xff") else None
        if header is None or not header.several:
            continue
        less = for_an_eighth(data, header)
        left_out += less is not None
        outcomes: list[object] = []
        for leave_out in (for_an_eighth, lambda *_: None):
            monkeypatch.setattr(decode, "for_an_eighth", leave_out)
            try:
                image = decode.decode(data, (1, 1), lambda *_: None).image
                outcomes.append((image.size, image.tobytes()))
            except ImageError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1], path
    assert left_out == 2


def test_a_second_run_on_pillows_images_does_nothing(images: Path, done: Path) -> None:
    before = sorted((str(path), path.stat().st_mtime_ns) for path in done.rglob("*") if path.name != "lock")
    said = birder("embed", f"{images}/**/*", "--in", done)
    assert "0 to do" in said and "Nothing to do" in said
    assert before == sorted((str(path), path.stat().st_mtime_ns) for path in done.rglob("*") if path.name != "lock")
