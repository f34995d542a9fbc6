"""The stations of the page, in a real Chromium: marks, filters, lasso and list, on both sides of 180 degrees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from tests.factory import collection_of, write
from tests.server.browsing import audit, audit_both_schemes, crops, expect, in_browser, opened, total
from tests.server.live import address_of

pytestmark = in_browser

STATIONS = {"A1": (-17.0, 179.8), "A2": (-17.2, 179.9), "A3": (-17.1, -179.9), "A10": (-16.9, -179.7)}
AT = """async name => {
    const {projected} = await import('/page/places/projection.js');
    const {View} = await import('/page/scatter/view.js');
    const {places} = await (await fetch('/api/v1/places')).json();
    const canvas = document.querySelector('.place-canvas');
    const plane = projected(places);
    const view = new View();
    view.extent = plane.extent;
    view.resize(canvas.clientWidth, canvas.clientHeight);
    view.fit();
    const index = places.findIndex(place => (place.names[0] ?? '') === name);
    const {left, top} = canvas.getBoundingClientRect();
    const {x, y} = view.toPixels(plane.xy[2 * index], plane.xy[2 * index + 1]);
    return [left + x, top + y];
}"""


@pytest.fixture(scope="module")
def fiji(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on 40 images: nine at each of four stations, one at no station, three without a place."""
    folder = tmp_path_factory.mktemp("fiji")
    rows = crops(folder, 0, 40)
    for number, row in enumerate(rows):
        name = list(STATIONS)[number % 4] if number < 36 else None
        latitude, longitude = STATIONS.get(name or "", (95.0 if number == 37 else None, 0.0))
        if number == 36:
            latitude, longitude = -17.15, 179.75
        assert row.content is not None
        row.content = row.content._replace(latitude=latitude, longitude=longitude)
        row.columns["deployment"] = name
    collection = collection_of(folder / "fiji.birder", types={"night": pa.bool_(), "Temp C": pa.float64()})
    write(collection, rows)
    with address_of(collection.path) as where:
        yield where


def option(page: Any, name: str) -> Any:
    return page.get_by_role("option", name=name, exact=True)


def test_marks_filter_the_lasso_selects_and_the_list_does_both(browser: Any, fiji: str) -> None:
    for page in opened(browser, fiji, reduced_motion="reduce"):
        page.locator("#tab-stations").click()
        count, nowhere = page.locator("#view-stations .count"), page.locator("#view-stations .counts .hint")
        expect(count).to_have_text("5 places, 37 images")
        expect(nowhere).to_have_text("3 images have no place")
        names = page.locator(".place .value").all_inner_texts()
        assert names == ["17.15° S, 179.75° E", "A1", "A2", "A3", "A10"]
        expect(page.locator(".place-canvas")).to_have_attribute("data-scale", "10 km")
        assert audit_both_schemes(page) == []
        page.mouse.move(*page.evaluate(AT, "A1"))
        expect(page.locator(".place-card")).to_contain_text("A19 images17° S, 179.8° E")
        page.mouse.click(*page.evaluate(AT, "A1"))
        expect(count).to_have_text("1 of 5 places, 9 images")
        expect(nowhere).to_have_text("")
        expect(page.locator("#chips .chip")).to_contain_text("deployment A1")
        page.mouse.click(*page.evaluate(AT, "A2"))  # it has no image left, and can be added all the same
        expect(count).to_have_text("2 of 5 places, 18 images")
        expect(option(page, "A2, 9 images, filtered by")).to_be_visible()
        page.mouse.click(*page.evaluate(AT, ""))  # of no station: its coordinates, in place of the others
        expect(count).to_have_text("1 of 5 places, 1 image")
        expect(page.locator("#chips .chip")).to_have_count(2)
        page.go_back()
        expect(count).to_have_text("2 of 5 places, 18 images")
        page.get_by_role("button", name="Clear the filters").click()
        expect(count).to_have_text("5 places, 37 images")
        # A lasso around what is west of 180 degrees, drawn with Shift.
        (x1, y1), (x2, y2) = page.evaluate(AT, ""), page.evaluate(AT, "A2")
        page.keyboard.down("Shift")
        page.mouse.move(x1 - 20, y1 - 300)
        page.mouse.down()
        for place in [(x2 + 20, y1 - 300), (x2 + 20, y2 + 20), (x1 - 20, y2 + 20), (x1 - 20, y1 - 300)]:
            page.mouse.move(*place, steps=8)
        page.mouse.up()
        page.keyboard.up("Shift")
        expect(page.locator(".selected-count")).to_have_text("19 selected")
        expect(page.locator(".out-of-sight")).to_have_text("")
        expect(page.locator(".place[aria-selected=true]")).to_have_count(3)
        assert audit(page) == []
        # The list, from the keyboard.
        page.get_by_role("listbox", name="Places").focus()
        page.keyboard.press("End")
        page.keyboard.press("Space")
        expect(page.locator(".selected-count")).to_have_text("28 selected")
        page.keyboard.press("Enter")
        expect(count).to_have_text("1 of 5 places, 9 images")
        expect(option(page, "A10, 9 images, filtered by")).to_have_attribute("aria-selected", "true")
        expect(page.locator(".out-of-sight")).to_contain_text("19 not in view")
        expect(page.get_by_role("listbox", name="Places")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("#selection-bar")).to_be_hidden()
        expect(page.locator(".place[aria-selected=true]")).to_have_count(0)
        page.locator("#tab-gallery").click()
        assert total(page) == 9


def test_a_phone_has_the_map_above_the_list(browser: Any, fiji: str) -> None:
    for page in opened(browser, fiji, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True):
        total(page)
        page.goto(f"{fiji}/#stations")
        expect(page.locator("#view-stations .count")).to_have_text("5 places, 37 images")
        canvas, side = page.locator(".place-canvas").bounding_box(), page.locator(".place-side").bounding_box()
        assert canvas["height"] > 150 and side["y"] >= canvas["y"] + canvas["height"]
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert audit(page) == []


def test_a_collection_without_coordinates_is_not_offered_them(browser: Any, few: str) -> None:
    for page in opened(browser, few, expected="400 .Bad Request"):  # there are no predictions to review
        total(page)
        expect(page.locator("#tab-stations")).to_be_hidden()
        page.locator("#tab-map").click()
        page.locator("#view-map .empty h2").wait_for()
        page.keyboard.press("v")
        expect(page.locator("#tab-review")).to_have_attribute("aria-current", "page")
        page.goto(f"{few}/#stations")
        expect(page.locator("#view-stations h2")).to_have_text("No places yet")
        expect(page.locator("#view-stations .tools")).to_be_hidden()
