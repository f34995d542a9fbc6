"""Make the screenshots of docs/page.md: python docs/screenshots.py (needs playwright and Chromium).

The example images are embedded into a new collection, `birder serve` serves it, and Chromium shows it.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "examples" / "photos"
PORT = 8765
ADDRESS = f"http://127.0.0.1:{PORT}"
LARGE = 250_000
BIRDER = [sys.executable, "-m", "birder"]


def main() -> None:
    """Embed, serve, and write images/page-*.png."""
    chromium = os.environ.get("BIRDER_CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder:
        collection = f"{folder}/photos.birder"
        table = str(PHOTOS / "photos.csv")
        model = ["--model", "efficientnet_lite0_in1k"]
        subprocess.run([*BIRDER, "embed", str(PHOTOS), "--in", collection, "--table", table, *model], check=True)
        server = subprocess.Popen([*BIRDER, "serve", collection, "--port", str(PORT)])
        try:
            wait_for_server()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                desk(browser)
                phone(browser)
                browser.close()
        finally:
            server.terminate()
            server.wait()


def wait_for_server() -> None:
    """Wait until it answers."""
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{ADDRESS}/api/v1/collection").close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("birder serve does not answer")


def desk(browser: Any) -> None:
    """The views on a large screen, some of them dark."""
    page = open_page(browser, width=1200, height=760)
    for index in (3, 5, 6):
        page.locator("#view-gallery .tile").nth(index).click(modifiers=["Control"])
    page.locator("#selection-bar .label-input").fill("bird")
    shoot(page, "gallery")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Clear the selection (Esc)").click()

    page.locator("#search-files").set_input_files(PHOTOS / "birds" / "owl.jpg")
    page.locator("#view-gallery .count", has_text="nearest first").wait_for()
    page.locator("label.choice", has_text="Animalia").locator("input").check()
    shoot(page, "search")

    page.goto(f"{ADDRESS}/#gallery")
    page.locator("#view-gallery .tile").nth(14).locator(".open").click()
    page.locator(".predictions li").first.wait_for()
    shoot(page, "photo")
    page.keyboard.press("Escape")

    for place, value in (("mammals/%", "mammal"), ("birds", "bird"), ("plants/flowers", "flower")):
        give_labels(page, place, value)
    page.reload()
    page.goto(f"{ADDRESS}/#teach?column=kind&class=bird")
    page.locator("#view-teach .tile.loaded").first.wait_for()
    page.locator("#view-teach .measured", has_text="right for").wait_for(timeout=120_000)
    for _ in range(2):
        page.keyboard.press("a")
    shoot(page, "teach")

    page.goto(f"{ADDRESS}/#duplicates?threshold=0.8")
    page.locator(".copy").first.wait_for()
    shoot(page, "duplicates")

    dark = open_page(browser, width=1200, height=760, scheme="dark")
    dark.locator("#tab-map").click()
    dark.get_by_role("button", name="Compute the map").click()
    dark.locator(".map-canvas").wait_for(timeout=120_000)
    dark.locator("#colour").select_option("group")
    dark.locator(".legend li").first.wait_for()
    dark.locator(".map-names li.here").first.wait_for()
    hover_a_point(dark)
    shoot(dark, "map")


def give_labels(page: Any, group: str, value: str) -> None:
    """Label eight images of a group, as a person would."""
    page.evaluate(
        """async ([group, value]) => {
            const where = encodeURIComponent(`\\`group\\` LIKE '${group}'`);
            const { ids } = await (await fetch('/api/v1/ids?where=' + where)).json();
            const body = JSON.stringify({ ids: ids.slice(0, 8), column: 'kind', value });
            const headers = { 'Content-Type': 'application/json' };
            await fetch('/api/v1/labels', { method: 'POST', headers, body });
        }""",
        [group, value],
    )


def hover_a_point(page: Any) -> None:
    """Move the pointer over the map until it finds a point."""
    box = page.locator(".map-canvas").bounding_box()
    for across in range(40, 60):
        for down in range(20, 80, 2):
            page.mouse.move(box["x"] + box["width"] * across / 100, box["y"] + box["height"] * down / 100)
            if page.evaluate("document.querySelector('.map-canvas').style.cursor") == "pointer":
                page.locator(".map-card").wait_for()
                return


def phone(browser: Any) -> None:
    """Three views as wide as a phone, side by side."""
    views = []
    page = open_page(browser, width=360, height=740)
    views.append(picture(page))
    page.locator("#view-gallery .tile").nth(2).locator(".open").click()
    page.locator(".predictions li").first.wait_for()
    views.append(picture(page))
    page.keyboard.press("Escape")
    page.goto(f"{ADDRESS}/#map?colour=kingdom")
    page.locator(".legend li").first.wait_for()
    views.append(picture(page))
    sheet = Image.new("RGB", (3 * 360 + 2 * 24, 740), "white")
    for index, view in enumerate(views):
        sheet.paste(view, (index * 384, 0))
    save(sheet, "phone")


def open_page(browser: Any, *, width: int, height: int, scheme: str = "light") -> Any:
    """A new page, once its first images are loaded."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.add_init_script("localStorage['birder:name'] ??= ''")  # so that the page does not ask for a name
    page.goto(ADDRESS)
    page.locator("#view-gallery .tile.loaded").first.wait_for()
    return page


def picture(page: Any) -> Image.Image:
    """What the page shows, once nothing moves."""
    page.wait_for_timeout(1500)  # the page keeps a connection open: the network is never idle
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def shoot(page: Any, name: str) -> None:
    """Write what the page shows as page-NAME.png."""
    save(picture(page), name)


def save(image: Image.Image, name: str) -> None:
    """Write page-NAME.png; in 256 colours if it would be large otherwise."""
    file = ROOT / "docs" / "images" / f"page-{name}.png"
    image.save(file, optimize=True)
    if file.stat().st_size > LARGE:
        few = image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(file, optimize=True)


if __name__ == "__main__":
    main()
