"""How the tiles of the page's gallery look, in a real Chromium: whole images, and columns of the user's choice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.server.browsing import (
    audit_both_schemes,
    collection_of_crops,
    expect,
    in_browser,
    label_selected,
    on_forty,
    opened,
    tile,
    tiles,
    total,
)
from tests.server.live import address_of

pytestmark = in_browser

FIT = "getComputedStyle(document.querySelector('#view-gallery .tile img')).objectFit"


def test_tiles_show_whole_images_and_the_columns_chosen(browser: Any, tmp_path: Path) -> None:
    with on_forty(browser, tmp_path, reduced_motion="reduce") as page:
        assert page.evaluate(FIT) == "cover"
        page.get_by_role("button", name="Tiles").click()
        page.get_by_role("button", name="Whole", exact=True).click()
        assert page.evaluate(FIT) == "contain"
        page.get_by_label("First line").select_option("Temp C")
        page.get_by_label("Second line").select_option("seen")
        expect(tile(page, 1).locator(".name")).to_have_text("1")
        expect(tile(page, 1).locator(".detail")).to_have_text("2024-05-02 00:00")
        expect(tile(page, 2).locator(".name")).to_have_text("no value")
        expect(page.get_by_role("option", name="Temp C: 1, seen: 2024-05-02 00:00", exact=True)).to_have_count(1)
        assert audit_both_schemes(page) == []
        tile(page, 1).locator(".check").click()  # a press elsewhere closes the choices
        expect(page.locator("#tile-choices")).to_be_hidden()
        page.get_by_role("button", name="Tiles").click()
        page.keyboard.press("Escape")
        expect(page.locator("#tile-choices")).to_be_hidden()
        expect(page.locator(".selected-count")).to_have_text("1 selected")
        # They follow labels, searches and a reload, and only what was chosen is asked for.
        page.get_by_role("button", name="Tiles").click()
        page.get_by_label("First line").select_option("label")
        page.keyboard.press("Escape")
        label_selected(page, "a very long name of something that nobody has seen before")
        expect(tile(page, 1).locator(".name")).to_have_text("a very long name of something that nobody has seen before")
        widths = tile(page, 1).locator(".name").evaluate("each => [each.scrollWidth, each.clientWidth]")
        assert widths[0] > widths[1], "no ellipsis"
        page.goto(re.sub("#.*", "", page.url) + f"#gallery?like={page.ids[5]}")
        page.reload()
        expect(page.locator("#view-gallery .count")).to_contain_text("nearest first")
        nearest = page.api.post("search", json={"ids": [page.ids[5]], "k": 1, "columns": ["seen"]}).json()["photos"][0]
        expect(tile(page, 0).locator(".detail")).to_have_text(f"{nearest['values']['seen'][:10]} 00:00")
        assert page.evaluate(FIT) == "contain"
        page.get_by_role("button", name="Tiles").click()
        page.get_by_label("Second line").select_option("")
        expect(tile(page, 0).locator(".detail")).to_have_text(f"similarity {nearest['similarity']:.3f}")


def test_a_phone_has_room_for_the_choices(browser: Any, few: str) -> None:
    for page in opened(browser, few, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True):
        total(page)
        page.get_by_role("button", name="Tiles").tap()
        box = page.locator("#tile-choices").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360
        assert page.evaluate("document.documentElement.scrollWidth") == 360


TIME = re.compile(r"^2026-01-\d\d 12:00$")
FRAMES = """async () => {
    const scroller = document.querySelector('#view-gallery .scroller');
    const frames = []; let last = performance.now();
    for (let i = 0; i < 120; i++) {
        scroller.scrollTop += 90;
        await new Promise(requestAnimationFrame);
        const now = performance.now(); frames.push(now - last); last = now;
    }
    return frames.sort((a, b) => a - b)[60];
}"""


def test_values_come_with_the_rows_while_the_gallery_scrolls(browser: Any, tmp_path: Path) -> None:
    asked: list[str] = []
    with address_of(collection_of_crops(tmp_path, 3000)) as where:
        for page in opened(browser, where):
            total(page)
            page.get_by_role("button", name="Tiles").click()
            page.get_by_label("First line").select_option("Temp C")
            page.get_by_label("Second line").select_option("taken_at")
            page.keyboard.press("Escape")
            expect(tile(page, 3).locator(".detail")).to_have_text(TIME)
            page.on("request", lambda request: asked.append(request.url))
            print("median frame, ms:", page.evaluate(FRAMES))
            expect(tiles(page).last.locator(".detail")).to_have_text(TIME)
            data = [url for url in asked if "/thumbnail" not in url]
            assert len(data) < 20
            assert all("columns=Temp+C&columns=taken_at" in url for url in data), data
