"""How many decisions a minute the page's review takes, and how long each waits for the next image.

    .venv/bin/python benchmarks/reviewing.py [--images 20000] [--decisions 120]

The images are made (seed 0): 2048 x 1536 pixels with the noise of a night, in bursts of one to four, each burst with a
prediction. The first 600 in the order of the review are files of their own, whose thumbnails nobody has made; the
others are links to these. Chromium opens the review of `birder serve`, and a script presses its keys: A (accept), 1
(the latest label), X (not this), U (unknown), B (blank), in turn. First each key is pressed as soon as the next image
is there, then twenty keys at a person's pace, one every three seconds. A wait is the time from the key until the next
image is in the page, as a thumbnail or whole, and the browser has drawn a picture with it. In the end the server is
asked how many images are decided, and how many values its history has.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from PIL import Image
from server_map import CHROMIUM

from birder.collection.storage import Content, ModelCard, Row, Stamp, Storage

SIZE = (2048, 1536)
DISTINCT = 600  # files
BASES = 12  # images that the files are made of
DIMENSION = 16
KINDS = ("fox", "badger", "roe deer", "wild boar", "hare", "blank")
KEYS = ("a", "1", "x", "u", "b")
PACE = 3.0  # seconds a decision takes a person at twenty a minute
PACED = 20
TARGET = 50.0  # milliseconds
TRANSFORM = {
    "size": [8, 8],
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "center_crop": 1.0,
    "simple_crop": False,
    "draft": True,
}
TYPES = {"sequence": pa.string(), "predicted_label": pa.string(), "predicted_score": pa.float32()}
PRESS = """
async (key) => {
  const stage = document.querySelector("#view-review .stage");
  const before = stage.querySelector("img")?.alt;
  const start = performance.now();
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  for (;;) {
    const image = stage.querySelector("img.loaded");
    if (image && image.alt !== before && image.complete) break;
    if (performance.now() - start > 30000) throw new Error("The next image did not come");
    await new Promise((done) => requestAnimationFrame(done));
  }
  // a thumbnail is decoded with the first picture drawn from here on; when the second begins, that is done
  for (const _ of [1, 2]) await new Promise((done) => requestAnimationFrame(done));
  return performance.now() - start;
}
"""


def make(folder: Path, images: int) -> Path:
    """A collection of this many images, in the order in which the review shows them; gives its folder."""
    rng = np.random.default_rng(0)
    bases = []
    for _ in range(BASES):
        light = np.linspace(20, 110, SIZE[1])[:, None, None] + rng.normal(0, 14, (SIZE[1], SIZE[0], 3))
        buffer = io.BytesIO()
        Image.fromarray(light.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=80)
        bases.append(buffer.getvalue())
    files, contents = list[Path](), list[str]()
    for number in range(min(images, DISTINCT)):
        file = folder / f"{number:05d}.jpg"
        data = bases[number % BASES] + number.to_bytes(4, "little")  # behind the image, so that no two files are alike
        file.write_bytes(data)
        files.append(file)
        contents.append(hashlib.sha256(data).hexdigest())
    sequences = np.repeat(np.arange(images), rng.integers(1, 5, images))[:images]
    kinds = rng.integers(0, len(KINDS), images)
    rows = []
    for number in range(images):
        file = folder / f"{number:05d}.jpg"
        if number >= DISTINCT:
            file.hardlink_to(files[number % DISTINCT])
        first = datetime(2026, 5, 1) + timedelta(minutes=2 * int(sequences[number]))
        vector = rng.normal(size=DIMENSION).astype(np.float32)
        columns = {
            "sequence": f"s{sequences[number]:05d}",
            "predicted_label": KINDS[kinds[sequences[number]]],
            "predicted_score": 0.2 + 0.7 * number / images,
        }
        content = Content(vector, *SIZE, first + timedelta(seconds=number % 4), None, None)
        stamp = Stamp(file.stat().st_size, 1_000_000)
        rows.append(Row(file.as_uri(), contents[number % len(contents)], stamp, content, columns=columns))
    collection = Storage.create_or_open(
        folder / "c.birder", ModelCard("made", "made", "ab" * 32, TRANSFORM, "torch", "fp32", DIMENSION)
    )
    with collection.writing():
        collection.add_columns(TYPES)
        collection.write(rows)
    return collection.path


def decide(page: Any, decisions: int, pace: float) -> tuple[list[float], float]:
    """Press the keys; gives the waits in milliseconds, and how many seconds all took."""
    page.locator("#view-review .stage .large.loaded").wait_for()
    waits, begun = list[float](), time.perf_counter()
    for number in range(decisions):
        waits.append(page.evaluate(PRESS, KEYS[number % len(KEYS)]))
        if pace:
            time.sleep(max(0.0, begun + (number + 1) * pace - time.perf_counter()))
    return waits, time.perf_counter() - begun


def measured(address: str, decisions: int) -> Iterator[str]:
    """Lines of figures: whole sequences, single images, and single images at a person's pace."""
    from playwright.sync_api import sync_playwright

    runs = [
        ("sequences, at once", "", decisions, 0.0),
        ("single images, at once", "?stacks=no", decisions, 0.0),
        ("single images, at a person's pace", "?stacks=no", PACED, PACE),
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.add_init_script("localStorage['birder:name'] ??= ''")
        yield f"Chromium {chromium.version}, load {os.getloadavg()[0]:.1f} before"
        for what, query, number, pace in runs:
            page.goto("about:blank")
            page.goto(f"{address}/#review{query}")
            waits, seconds = decide(page, number, pace)
            within = sum(wait <= TARGET for wait in waits) / len(waits)
            ranked = sorted(waits)
            rate = 60 * number / seconds
            yield (
                f"{what}: {rate:.0f} decisions a minute; waits: median {statistics.median(waits):.0f} ms, "
                f"95 % up to {ranked[int(0.95 * (len(ranked) - 1))]:.0f} ms, all up to {ranked[-1]:.0f} ms; "
                f"{within:.0%} within {TARGET:.0f} ms"
            )
            page.locator("#unwritten").wait_for(state="hidden")
            page.wait_for_timeout(1000)  # the last labels are sent within half a second
        chromium.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--decisions", type=int, default=120, help="of each run at full speed")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="birder-reviewing-"))
    try:
        path = make(folder, asked.images)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        server = subprocess.Popen([sys.executable, "-m", "birder", "serve", str(path), "--port", str(port)])
        try:
            client = httpx.Client(base_url=f"{address}/api/v1", timeout=60, transport=httpx.HTTPTransport(retries=20))
            waiting = client.get("review", params={"limit": 1}).raise_for_status().json()["total"]
            for line in measured(address, asked.decisions):
                print(line, flush=True)
            decided = waiting - client.get("review", params={"limit": 1}).json()["total"]
            given = sum(act["count"] for act in client.get("labels/history", params={"limit": 1000}).json()["acts"])
            print(f"{decided} of {waiting} images decided, {given} values in the history")
        finally:
            server.terminate()
            server.wait(20)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
