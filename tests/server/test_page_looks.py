"""The page on phones, in the dark, by assistive technology, behind a token, empty and with very many rows."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from birder.collection.storage import Storage
from tests.server.browsing import (
    audit,
    audit_both_schemes,
    collection_of_crops,
    expect,
    in_browser,
    opened,
    store_map,
    tile,
    tiles,
    total,
)
from tests.server.live import address_of

pytestmark = in_browser


def check_width(page: Any, view: str) -> None:
    """Nothing of a view is wider than a phone's 360 pixels."""
    assert page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [360, 360], view
    outside = """() => [...document.querySelectorAll('button, input, select, h2, .count')]
        .filter(each => each.checkVisibility({visibilityProperty: true}))
        .filter(each => !each.closest('#tabs, .strip, .copies, #filters'))
        .map(each => [each.getBoundingClientRect(), each.outerHTML.slice(0, 120)])
        .filter(([box]) => box.width && (box.right > 361 || box.left < -1))
        .map(([box, html]) => html)"""
    assert page.evaluate(outside) == [], view


def test_a_phone_never_scrolls_sideways(browser: Any, address: str) -> None:
    for page in opened(browser, address, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True):
        total(page)
        tiles(page).first.tap()
        expect(page.locator(".predictions li").first).to_be_visible()
        check_width(page, "image")
        page.keyboard.press("Escape")
        expect(page.locator(".photo")).to_have_count(0)
        for view in ("map", "teach", "duplicates", "failures", "gallery"):
            page.locator(f"#tab-{view}").click()
            page.wait_for_timeout(300)
            check_width(page, view)
        for panel in ("keys", "history"):
            page.locator(f"#{panel}").click()
            page.wait_for_timeout(300)
            check_width(page, panel)
            page.keyboard.press("Escape")
            expect(page.locator(".layer")).to_have_count(0)
        tiles(page).first.locator(".check").click()
        expect(page.locator(".selected-count")).to_have_text("1 selected")
        page.goto(page.url.split("#")[0] + '#gallery?filter={"column":"label","values":["flowers"]}')
        expect(page.locator(".out-of-sight")).to_contain_text("1 not in view")
        check_width(page, "selection")


def test_filters_are_a_drawer_on_a_phone(browser: Any, address: str) -> None:
    for page in opened(browser, address, viewport={"width": 360, "height": 740}):
        everything = total(page)
        page.locator("#filter-toggle").click()
        page.locator("label.choice", has_text="flowers").first.locator("input").check()
        page.keyboard.press("Escape")
        expect(page.locator("#view-gallery .count")).to_have_text(re.compile(f"of {everything}"))


def test_dark_follows_the_system_and_the_button(browser: Any, address: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"
    for page in opened(browser, address, color_scheme="dark"):
        total(page)
        assert page.evaluate(ground) < 150
        page.get_by_role("button", name="Light colours").click()
        assert page.evaluate(ground) > 600
        page.reload()
        total(page)
        assert page.evaluate(ground) > 600


def test_a_failed_request_is_reported_and_retried(browser: Any, address: str) -> None:
    for page in opened(browser, address, expected="500 .Internal Server Error"):
        everything = total(page)
        page.route("**/api/v1/photos?*", lambda route: route.fulfill(status=500, json={"detail": "The disk is full."}))
        page.locator("#sort").select_option("label")
        alert = page.locator("#view-gallery [role=alert]")
        expect(alert).to_contain_text("The disk is full.")
        page.unroute("**/api/v1/photos?*")
        alert.get_by_role("button", name="Try again").click()
        expect(page.locator("#view-gallery .count")).to_have_text(f"{everything} images")


def test_a_token_in_the_address_opens_the_page_for_good(browser: Any, tmp_path: Path) -> None:
    token = "a-long-secret-of-ours"
    with address_of(collection_of_crops(tmp_path, 6), token=token) as where:
        for page in opened(browser, where, expected="401 .Unauthorized"):
            assert page.locator(".tile").count() == 0
            page.goto(f"{where}/?token={token}")
            assert total(page) == 6
            expect(tiles(page).first).to_have_class(re.compile("loaded"))
            page.goto(where)
            assert total(page) == 6


def test_an_empty_collection_says_how_to_fill_it(browser: Any, tmp_path: Path) -> None:
    with address_of(collection_of_crops(tmp_path, 0)) as where:
        for page in opened(browser, where, expected="400 .Bad Request"):  # suggestions are refused without labels
            expect(page.get_by_role("heading", name="No images yet")).to_be_visible()
            expect(page.locator("#view-gallery code")).to_contain_text("birder embed IMAGES --in ")
            for view in ("map", "teach", "duplicates", "failures"):
                page.locator(f"#tab-{view}").click()
                expect(page.locator(f"#view-{view} .empty h2")).to_be_visible()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on 100,000 rows."""
    collection = Storage.open(collection_of_crops(tmp_path_factory.mktemp("many"), 1))
    one = collection.to_arrow()
    numbers, uri = range(1, 100_000), one["uri"][0].as_py().partition("#")[0]
    more = one.take(np.zeros(len(numbers), np.int64))
    for name, values in {
        "id": [str(uuid.UUID(int=n)) for n in numbers],
        "uri": [f"{uri}#xywh=percent:{n % 400 / 5:.4g},{n // 400 * 0.32:.4g},20,20" for n in numbers],
        "sha256": [f"{n:064x}" for n in numbers],
    }.items():
        more = more.set_column(more.column_names.index(name), more.schema.field(name), pa.array(values))
    with collection.writing():
        collection.append(more)
    with address_of(collection.path) as where:
        yield where


SCROLL = """async () => {
    const scroller = document.querySelector('#view-gallery .scroller');
    const frames = []; let most = 0; let last = performance.now();
    for (let i = 0; i < 240; i++) {
        scroller.scrollTop += i % 60 < 40 ? 90 : 6000;
        await new Promise(requestAnimationFrame);
        const now = performance.now(); frames.push(now - last); last = now;
        most = Math.max(most, document.querySelectorAll('.tile').length);
    }
    frames.sort((a, b) => a - b);
    return {most, median: frames[120], p95: frames[228], worst: frames[239], top: scroller.scrollTop};
}"""


def test_page_scrolls_a_hundred_thousand_images(browser: Any, many: str) -> None:
    for page in opened(browser, many):
        assert total(page) == 100_000
        expect(tiles(page).first).to_have_class(re.compile("loaded"))
        measured = page.evaluate(SCROLL)
        print("frames, ms:", measured)
        assert measured["most"] < 120
        assert measured["median"] < 50
        page.keyboard.press("Tab")
        page.locator("#view-gallery .grid").focus()
        page.keyboard.press("End")
        last = page.locator("#view-gallery .tile[aria-posinset='100000']")
        expect(last).to_be_visible()
        expect(last).to_have_class(re.compile("loaded"))
        # Coming back from another view, or from an image, finds the same place.
        top = page.evaluate("document.querySelector('#view-gallery .scroller').scrollTop")
        page.locator("#tab-failures").click()
        page.locator("#tab-gallery").click()
        last.dblclick()
        expect(page.locator(".photo")).to_be_visible()
        page.keyboard.press("Escape")
        assert page.evaluate("document.querySelector('#view-gallery .scroller').scrollTop") == top
        page.wait_for_timeout(400)
        page.reload()
        expect(page.locator("#view-gallery .tile[aria-posinset='99999']")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390])
def test_an_audit_of_accessibility_finds_nothing(browser: Any, address: str, width: int) -> None:
    how: dict[str, Any] = {"viewport": {"width": width, "height": 800}, "reduced_motion": "reduce"}
    for page in opened(browser, address, **how):
        expect(tiles(page).first).to_have_class(re.compile("loaded"))
        expect(page.locator("label.choice").first).to_be_attached()
        assert audit_both_schemes(page) == []
        for index in (0, 2):
            tile(page, index).locator(".check").click()
        page.goto(address + '/#gallery?filter={"column":"label","values":["flowers"]}')
        expect(page.locator(".out-of-sight")).to_contain_text("2 not in view")
        assert audit_both_schemes(page) == []
        page.locator("#selection-bar .label-input").fill("lily")
        page.locator("#selection-bar .label-input").press("Enter")
        expect(page.get_by_role("dialog", name="Some of them are not in view")).to_be_visible()
        assert audit_both_schemes(page) == []
        page.keyboard.press("Escape")
        page.locator("#history").click()
        expect(page.locator(".history li, .panel .empty h2").first).to_be_visible()
        assert audit_both_schemes(page) == []
        page.get_by_role("button", name="Enter your name").click()
        expect(page.get_by_role("dialog", name="Who is labelling?")).to_be_visible()
        assert audit_both_schemes(page) == []
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Clear all").click()
        page.get_by_role("button", name="Clear the selection (Esc)").click()
        tiles(page).first.dblclick()
        expect(page.locator(".neighbour img.loaded").first).to_be_visible()
        expect(page.locator(".predictions li").first).to_be_visible()
        assert audit_both_schemes(page) == []
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        expect(page.locator(".panel")).to_be_visible()
        assert audit_both_schemes(page) == []
        page.keyboard.press("Escape")
        page.locator("#tab-map").click()
        page.locator("#view-map .empty button, #view-map .map-canvas").first.wait_for()
        if page.get_by_role("button", name="Compute the map").is_visible():
            assert audit_both_schemes(page) == []
            store_map(Storage.open(httpx.get(f"{address}/api/v1/collection").json()["path"]))
            page.reload()
        expect(page.locator(".map-canvas")).to_be_visible()
        expect(page.locator(".legend")).to_be_visible()
        assert audit_both_schemes(page) == []
        page.locator("#tab-teach").click()
        expect(page.locator("#view-teach .tile.loaded, #view-teach .empty h2").first).to_be_visible()
        expect(page.locator("#view-teach .measured")).to_contain_text("right for", timeout=120_000)
        assert audit_both_schemes(page) == []
        page.locator("#tab-duplicates").click()
        expect(page.locator("#view-duplicates img.loaded").first).to_be_visible(timeout=60_000)
        assert audit_both_schemes(page) == []
        page.locator("#tab-failures").click()
        expect(page.get_by_text("broken.jpg").first).to_be_visible()
        assert audit_both_schemes(page) == []


def test_the_page_recommends_tidying_when_it_is_worthwhile(browser: Any, tmp_path: Path) -> None:
    collection = collection_of_crops(tmp_path, 6)
    with (collection / "images.lance" / "data" / "left.lance").open("wb") as former:
        former.truncate(900_000_000)  # as large as many former versions; it takes no room
    with address_of(collection) as where:
        for page in opened(browser, where):
            banner = page.locator("#tidying")
            expect(banner).to_contain_text("former versions of them take 900.0 MB")
            expect(banner.locator("code")).to_have_text(f"birder tidy {collection}")
            assert audit(page) == []
            page.get_by_role("button", name="Close the notice").click()
            expect(banner).to_be_hidden()
            page.reload()
            assert total(page) == 6
            expect(banner).to_be_hidden()
    (collection / "images.lance" / "data" / "left.lance").unlink()
    with address_of(collection) as where:
        for page in opened(browser, where):
            assert total(page) == 6
            expect(page.locator("#tidying")).to_be_hidden()
