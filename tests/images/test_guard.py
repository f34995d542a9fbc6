"""Memory that threads share, Pillow's switches, silence on standard error."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from birder.errors import ImageError
from birder.images.guard import MAX_PIXELS, MemoryBudget, formats, pillow_guard
from birder.images.open import open_image


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 150), min_size=1, max_size=30), st.integers(1, 8))
def test_threads_never_hold_more_than_the_limit(amounts: Any, threads: Any) -> None:
    budget = MemoryBudget(100)
    lock = threading.Lock()
    held = []
    most = 0

    def use(amount: Any) -> None:
        nonlocal most
        with budget.hold(amount):
            with lock:
                held.append(amount)
                most = max(most, sum(held) if len(held) > 1 else 0)
            time.sleep(0.0005)
            with lock:
                held.remove(amount)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(use, amounts))
    assert most <= 100
    assert held == []


def test_requests_that_fit_run_at_once_and_an_error_returns_its_bytes() -> None:
    budget = MemoryBudget(100)
    together = threading.Barrier(2, timeout=10)

    def use(_: Any) -> None:
        with budget.hold(50):
            together.wait()
            raise KeyError

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(use, i) for i in range(2)]
        assert all(isinstance(future.exception(), KeyError) for future in futures)
    with budget.hold(100):
        pass


def test_a_large_request_is_not_starved_by_small_ones() -> None:
    budget = MemoryBudget(100)
    stop = threading.Event()

    def small() -> None:
        while not stop.is_set():
            with budget.hold(30):
                time.sleep(0.001)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(small)
        try:
            large = threading.Thread(target=lambda: budget.hold(100).__enter__(), daemon=True)
            large.start()
            large.join(timeout=10)
            assert not large.is_alive()
        finally:
            stop.set()
            with budget._changed:  # what the large one holds, so that the small ones can end
                budget._held -= 100
                budget._changed.notify_all()


def half_a_png() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(buffer, "PNG")
    return buffer.getvalue()[:20_000]


def test_pillow_settings_of_other_libraries_are_overridden_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    Image.open(io.BytesIO(half_a_png())).load()  # it would be taken
    with pytest.raises(ImageError, match="truncated"):
        open_image(half_a_png())
    with pytest.raises(ImageError, match="bomb"):
        open_image(b"P6 60000 60000 255\n" + bytes(100))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert Image.MAX_IMAGE_PIXELS is None


def test_pillow_settings_hold_until_the_last_thread_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    filters = list(warnings.filters)
    first_is_out = threading.Event()
    second_is_in = threading.Event()

    def second() -> None:
        with pillow_guard:
            second_is_in.set()
            assert first_is_out.wait(10)
            assert ImageFile.LOAD_TRUNCATED_IMAGES is False
            assert MAX_PIXELS // 2 == Image.MAX_IMAGE_PIXELS
            assert warnings.filters != filters

    with ThreadPoolExecutor(1) as pool:
        with pillow_guard:
            future = pool.submit(second)
            assert second_is_in.wait(10)
        first_is_out.set()
        future.result(timeout=10)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert warnings.filters == filters


def test_formats_are_a_closed_list() -> None:
    assert {"JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "PPM"} <= set(formats())
    assert not {"EPS", "WMF", "GRIB", "HDF5", "BUFR", "MPEG", "IPTC", "BLP", "FLI"} & set(formats())
    assert set(formats()) <= set(Image.OPEN)


BROKEN_TIFFS = """
import io
from PIL import Image
buffer = io.BytesIO()
Image.radial_gradient("L").save(buffer, "TIFF", compression="tiff_deflate")
data = buffer.getvalue()
place = data.index(b"\\x78")  # where zlib's stream begins
undecodable = data[: place + 10] + bytes([255] * 200) + data[place + 210 :]
buffer = io.BytesIO()
Image.new("RGB", (9, 9)).save(buffer, "TIFF")
samples = buffer.getvalue().replace(bytes([0x15, 1, 3, 0, 1, 0, 0, 0, 3]), bytes([0x15, 1, 3, 0, 1, 0, 0, 0, 255]))
for data in (undecodable, samples):
    try:
        OPEN(data)
    except Exception as error:
        print(error)
"""


@pytest.mark.parametrize("by", ["pillow", "birder"])
def test_broken_tiffs_write_nothing_to_standard_error(by: Any) -> None:
    """In a child, where no test captures what C code and logging's last resort write; Pillow alone does write."""
    birders = "from birder.images.open import open_image\n" + BROKEN_TIFFS.replace("OPEN(data)", "open_image(data)")
    pillows = BROKEN_TIFFS.replace("OPEN(data)", "Image.open(io.BytesIO(data)).load()")
    code = birders if by == "birder" else pillows
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 2, done.stderr
    if by == "birder":
        assert done.stderr == ""
        assert "corrupt" in done.stdout
    else:
        assert "More samples per pixel" in done.stderr  # by logging
        assert len(done.stderr.splitlines()) > 1  # by libtiff
