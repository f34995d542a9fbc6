"""The map of the page, in a real Chromium."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from birder.collection.storage import Storage
from tests.server.browsing import crops, expect, in_browser, opened, store_map, total

pytestmark = in_browser


def test_map_is_computed_coloured_lassoed_and_opens_images(page: Any) -> None:
    everything = total(page)
    page.locator("#tab-map").click()
    compute = page.get_by_role("button", name="Compute the map")
    expect(compute.or_(page.locator(".map-canvas"))).to_be_visible()
    if compute.is_visible():
        compute.click()
        expect(page.locator("#view-map progress")).to_be_visible()
    canvas = page.locator(".map-canvas")
    expect(canvas).to_be_visible(timeout=120_000)
    expect(page.locator("#view-map .count")).to_have_text(f"{everything} images")
    expect(page.locator(".legend li").first).to_contain_text("birds")
    page.get_by_role("button", name="Lasso").click()
    box = canvas.bounding_box()
    inset = 16  # the stage's corners are round
    left, top, right, bottom = inset, inset, box["width"] - inset, box["height"] - inset
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    places = [(box["x"] + x, box["y"] + y) for x, y in corners]
    page.evaluate("document.querySelector('.legend').style.pointerEvents = 'none'")
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=12)
    page.mouse.up()
    expect(page.locator(".selected-count")).to_have_text(f"{everything} selected")
    page.get_by_role("button", name="Clear the selection (Esc)").click()
    page.get_by_role("button", name="Move", exact=True).click()
    flowers = page.locator(".legend-entry", has_text="flowers")
    number = int(flowers.locator(".number").inner_text())
    flowers.press("Enter")
    expect(page.locator("#view-map .count")).to_have_text(f"{number} of {everything} points in colour")
    expect(flowers).to_have_attribute("aria-pressed", "true")
    expect(flowers).to_be_focused()
    expect(page.locator(".legend-entry", has_text="birds").locator(".number")).to_have_text("0")
    expect(page.locator("#chips .chip")).to_contain_text("flowers")
    # Somewhere on the map there is a point: hovering shows it, a click opens it.
    for x in range(5, 96, 3):
        for y in range(5, 96, 3):
            page.mouse.move(box["x"] + box["width"] * x / 100, box["y"] + box["height"] * y / 100)
            if page.evaluate("getComputedStyle(document.querySelector('.map-canvas')).cursor") == "pointer":
                break
        else:
            continue
        break
    expect(page.locator(".map-card")).to_be_visible()
    name = page.locator(".map-card b").inner_text()
    page.mouse.down()
    page.mouse.up()
    expect(page.locator(".photo table.row")).to_contain_text(name)
    expect(page.locator(".photo .position")).to_have_text(re.compile(f"^1 of {number}"))
    page.keyboard.press("ArrowRight")  # to the nearest on the map
    expect(page.locator(".photo .position")).to_have_text(re.compile(f"^2 of {number}"))
    expect(page.locator(".photo table.row")).to_contain_text("flowers")


def test_rows_that_are_newer_than_the_map_are_reported(browser: Any, few: str, tmp_path: Path) -> None:
    collection = Storage.open(tmp_path / "crops.birder")
    store_map(collection)
    for page in opened(browser, few):
        page.locator("#tab-map").click()
        expect(page.locator(".map-canvas")).to_be_visible()
        expect(page.locator("#view-map .banner")).to_be_hidden()
        with collection.writing():
            collection.write(crops(tmp_path, 40, 43))
        # Without a reload, numbers follow the collection.
        expect(page.locator("#view-map .banner")).to_contain_text("3 images were added after the map was made")
        expect(page.locator("label.choice", has_text="kind 5")).to_contain_text(re.compile(r"kind 5\s*6"))
        expect(page.locator("#collection-about")).to_contain_text("43 images")
        page.get_by_role("button", name="Compute it again").click()
        expect(page.locator("#view-map .count")).to_have_text("43 images", timeout=120_000)
        expect(page.locator("#view-map .banner")).to_be_hidden()
        collection = Storage.open(tmp_path / "crops.birder")
        stored = collection.side_table("map")
        assert stored is not None
        made = json.loads(stored.schema.metadata[b"birder"]) | {"laid_out": 40}  # as of more than 200,000 images
        collection.write_side_table("map", stored.replace_schema_metadata({b"birder": json.dumps(made).encode()}))
        page.reload()
        sampled = "43 images, 40 of them laid out, and the others placed by these"
        expect(page.locator("#view-map .count")).to_have_text(sampled)
