"""The map of the page in Chromium: until its points are drawn, and how many pictures a second while it is dragged.

Used by benchmarks/server.py. A headless Chromium has no graphics card: the processor draws the points, on a canvas.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import NamedTuple

CHROMIUM = os.environ.get("BIRDER_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

_DRAG = 3.0  # seconds
_COUNT_FRAMES = """
() => {
  window.frames_ = [];
  const each = (now) => { window.frames_.push(now); window.frame_ = requestAnimationFrame(each); };
  requestAnimationFrame(each);
}
"""


class MapTimes(NamedTuple):
    """Seconds until the map was drawn with its colours, pictures a second while it was dragged, and what drew it."""

    seconds: float
    frames: float
    by: str


def map_times(address: str) -> MapTimes:
    """Open the page in Chromium, then its map, and drag that."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = chromium.new_page(viewport={"width": 1280, "height": 800})
            page.goto(address)
            page.locator("#view-gallery .tile").first.wait_for()
            begun = time.perf_counter()
            page.locator("#tab-map").click()
            page.locator(".map-canvas").wait_for(timeout=120_000)
            page.locator(".legend li").first.wait_for(timeout=120_000)
            page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            seconds = time.perf_counter() - begun
            box = page.locator(".map-canvas").bounding_box()
            assert box is not None
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.move(x, y)
            page.mouse.down()
            page.evaluate(_COUNT_FRAMES)
            begun, moved = time.perf_counter(), 0
            while time.perf_counter() - begun < _DRAG:
                moved += 1
                page.mouse.move(x + 60 * (moved % 5), y + 40 * (moved % 3))
            frames = page.evaluate("() => { cancelAnimationFrame(window.frame_); return window.frames_; }")
            page.mouse.up()
            rate = 1e3 * (len(frames) - 1) / (frames[-1] - frames[0])
            by = page.evaluate(
                """() => document.querySelector(".map-canvas").getContext("webgl2") ? "WebGL" : "canvas-2D" """
            )
            return MapTimes(seconds, rate, f"{by}, Chromium {chromium.version}")
        finally:
            chromium.close()
