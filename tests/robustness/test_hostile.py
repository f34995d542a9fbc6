"""Files made to take a decoder's memory or time, through a real run, its memory and each file's time measured."""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from birder.errors import ImageError
from birder.images import apart
from birder.images.decode import MAX_SCANS
from birder.images.open import open_photo
from tests.robustness import hostile
from tests.robustness.memory import tree_memory
from tests.robustness.run import failures_of, rows_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is limited on Linux alone"),
]

PROMISE = 2_600_000_000
"""Bytes of the whole process tree: the model's, one file of 1 GiB, and the largest image of these, alone."""

RUN = """
import sys
from pathlib import Path
from birder.pipeline.embed import embed_images, plan
from birder.collection.model import load_encoder
from birder.collection.storage import Storage
from birder.formats.sources import find_sources
from birder.registry import DEFAULT_WEIGHTS

encoder = load_encoder(DEFAULT_WEIGHTS, "cpu", engine="torch")
collection = Storage.create_or_open(sys.argv[2], encoder.card)
todo = plan(collection, find_sources([f"{sys.argv[1]}/*"]))
embed_images(collection, encoder.engine, encoder.transform, todo, threads=4)
"""
"""`birder embed` on a machine of four processors."""


def corpus() -> dict[str, tuple[bytes, str | None]]:
    """The files, and patterns of the reasons of those that may not become rows."""
    whole = hostile.encoded(hostile.picture(2), "JPEG", progressive=True)
    scans = hostile.jpeg_of_scans
    return {
        "precincts.j2k": (hostile.precincts(2000, 2000), "corrupt|memory"),
        "one-scan-a-component.jpg": (scans(16_000, 11_000, 3), None),
        "one-scan-a-component-2.jpg": (scans(16_000, 10_900, 3), None),
        "one-scan-a-component-3.jpg": (scans(16_000, 10_800, 3), None),
        "many-scans.jpg": (scans(16_000, 11_000, 2000), "2,000 scans"),
        "many-progressive-scans.jpg": (scans(16_000, 11_000, 2000, progressive=True), "2,0.. scans"),
        "motion-photo.jpg": (whole + random.Random(1).randbytes(60_000_000), None),
        "markers.jpg": (hostile.jpeg_of_markers(20_000), None),
        "exif.jpg": (hostile.jpeg_with_exif_upon_itself(), None),
        "comment.ppm": (b"P6\n#" + b"a" * 1_000_000 + b"\n3 3 255\n" + bytes(27), None),
        "comments.ppm": (b"P3\n3 3 255\n" + b"#\n" * 1_000_000 + b"1 " * 27, "more than 3 seconds"),
        "run-length.bmp": (hostile.run_length_bmp(1000, 1000), None),
        "chunks.png": (hostile.png_of_chunks(50_000), None),
        "exif-as-text.png": (hostile.png_with_exif_as_text(400_000), None),
        "heic.jpg": (b"\0\0\0\x18ftypheic" + bytes(500), "HEIC"),
        **{name: (data, None) for name, data in hostile.half_zero_files().items()},
        **{name: (data, None) for name, data in hostile.fuzzed(117)},
    }


SPARSE = {
    "zeros.jpg": b"",
    "zeros.png": b"",
    "cut.gif": b"GIF89a" + bytes(range(200)),
}
"""Beginnings of files of 1 GiB that hold nothing else."""


def test_hostile_files_are_rows_or_failures_within_the_promise_of_memory(tmp_path: Path) -> None:
    photos, collection = tmp_path / "photos", tmp_path / "c"
    photos.mkdir()
    files = corpus()
    for name, (data, _) in files.items():
        (photos / name).write_bytes(data)
    for name, start in SPARSE.items():
        with (photos / name).open("wb") as file:
            file.write(start)
            file.truncate(1 << 30)
    process = subprocess.Popen([sys.executable, "-c", RUN, photos, collection], stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, tree_memory(process.pid))
        time.sleep(0.1)
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.returncode == 0, said
    rows, failures = rows_of(collection), failures_of(collection)
    assert not rows.keys() & failures.keys()
    assert {*rows, *failures} == {str(path) for path in photos.iterdir()}
    assert peak < PROMISE, f"{peak / 1e6:,.0f} MB"
    reasons = {Path(path).name: reason for path, reason in failures.items()}
    assert "only zeros" in reasons["zeros.jpg"]
    for name, (_, pattern) in files.items():
        if pattern is not None:
            assert re.search(pattern, reasons.get(name, "a row")), (name, reasons.get(name))
    for name in ("motion-photo.jpg", "one-scan-a-component.jpg", "exif.jpg", "comment.ppm"):
        assert name not in reasons, reasons[name]
    suspects = {Path(path).name for path, row in rows.items() if row["suspect"] is not None}
    assert suspects >= {"half-zero.webp", "half-zero.tif", "half-zero.bmp", "half-zero.ppm"}


def test_no_file_takes_longer_than_a_few_seconds_and_these_a_megapixel() -> None:
    for name, (data, pattern) in corpus().items():
        begun = time.monotonic()
        pixels = 0
        try:
            photo = open_photo(data, draft=(224, 224))
            pixels = photo.width * photo.height
        except ImageError as error:
            assert pattern is None or re.search(pattern, str(error)), name
        # a process that decodes is given seconds of the processor, and three times that by the clock
        assert time.monotonic() - begun < 3 * (apart.SECONDS + 1 + apart.SECONDS_A_MEGAPIXEL * pixels / 1e6), name


def test_as_many_scans_as_are_allowed_take_seconds() -> None:
    begun = time.monotonic()
    photo = open_photo(hostile.jpeg_of_scans(16_000, 11_000, MAX_SCANS), draft=(224, 224))
    assert (photo.width, photo.height) == (16_000, 11_000)
    assert time.monotonic() - begun < 30


def test_images_that_need_more_than_a_quarter_of_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = hostile.encoded(hostile.picture(size=(1600, 1200)), "JPEG2000")
    assert open_photo(data).width == 1600
    monkeypatch.setattr(apart, "QUARTER", 20_000_000)
    with pytest.raises(ImageError, match=r"decoding it takes \d+ MB, more than a quarter of the memory"):
        open_photo(data)


def test_a_decoder_that_is_killed_fails_its_file_alone_and_ctrl_c_does_not_reach_it() -> None:
    decoders = apart.Decoders(1)
    data = hostile.encoded(hostile.picture(), "GIF")
    try:
        for _ in range(3):
            with contextlib.ExitStack() as held:
                assert decoders.decode(data, None, held).width == 160
            (process,) = decoders._running
            assert os.getsid(process.pid) != os.getsid(0)
            process.kill()
            process.wait()
    finally:
        decoders.stop()


def test_a_forked_process_has_decoders_of_its_own() -> None:
    """Two processes that talked to one decoder would get each other's images."""
    files = {size: hostile.encoded(hostile.picture(size=(size, 20)), "GIF") for size in range(30, 60)}
    assert open_photo(files[30]).width == 30
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.robustness import hostile
from birder.images.open import open_photo
files = {{size: hostile.encoded(hostile.picture(size=(size, 20)), "GIF") for size in range(30, 60)}}
open_photo(files[30])
child = os.fork()
right = all(open_photo(data).width == size for size, data in files.items() if size % 2 == (child == 0))
if child == 0:
    os._exit(0 if right else 1)
assert right and os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
