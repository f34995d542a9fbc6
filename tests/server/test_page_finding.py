"""Finding on the page, in a real Chromium: words in all columns, values, times, the order of the filters."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from birder.collection.storage import Content
from tests.factory import collection_of, write
from tests.server import live
from tests.server.browsing import HOSTILE, audit, crops, expect, in_browser, opened, serving, tiles

pytestmark = in_browser

NAMES = ["Helmeted guineafowl", "An owl", "Eurasian eagle-owl", "Barn owl", HOSTILE]
ROWS = 300


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finding")
    texts = ["a", "b", "c", "d", "e", "f", "common_name", "station", "plate"]
    collection = collection_of(folder / "c.birder", types=dict.fromkeys(texts, pa.string()) | {"night": pa.bool_()})
    rows = []
    for n, row in enumerate(crops(folder, 0, ROWS)):
        assert row.content is not None
        moment = datetime(2026, 3, 1, 6, 30) + timedelta(seconds=13 * n)
        columns = dict.fromkeys("abcdef", f"x{n % 3}") | {
            "common_name": NAMES[n % 5],
            "station": f"A{n % 4:02}",
            "plate": f"P{n:04}",
            "label": f"kind {n % 7}",
        }
        twin = np.random.default_rng(n // 2).normal(size=4).astype(np.float32)  # of its neighbour
        content = Content(twin, 200, 200, moment, None, None)
        rows.append(replace(row, content=content, columns=columns))
    write(collection, rows)
    return collection.path


@pytest.fixture(scope="module")
def address(collected: Path) -> Iterator[str]:
    with live.serving(collected) as client:
        yield str(client.base_url).removesuffix("/api/v1/")


def count_is(page: Any, number: int) -> None:
    expect(page.locator("#view-gallery .count")).to_have_text(f"{number} of {ROWS} images")


def search(page: Any, text: str) -> list[str]:
    page.locator("#search-input").fill(text)
    expect(page.get_by_role("option", name=f"“{text}” in the file name")).to_be_visible()
    return list(page.locator(".option .option-title").all_inner_texts())


def test_words_are_found_in_every_column_whole_words_first(page: Any) -> None:
    offered = search(page, "owl")
    assert [each for each in offered if each in NAMES] == [NAMES[1], NAMES[3], NAMES[2], NAMES[0]]
    page.get_by_role("option", name="All 3 with the word “owl” in common_name").click()
    count_is(page, 180)
    assert "barn owl a01" not in [each.lower() for each in search(page, "barn owl a01")]
    page.get_by_role("option", name="“barn owl” in common_name and “a01” in station").click()
    count_is(page, 15)
    expect(page.locator("#chips .chip")).to_have_count(2)
    assert HOSTILE in search(page, "onerror")
    page.get_by_role("option", name=HOSTILE).click()
    count_is(page, 15)  # of the station that is still asked for
    assert page.title() == "c.birder, Birder"


def test_values_are_counted_sorted_and_told_when_there_are_more(page: Any) -> None:
    plates = page.locator("details.facet", has=page.locator(".facet-name", has_text="plate"))
    plates.locator("summary").click()
    expect(plates.locator(".choice")).to_have_count(10)
    plates.get_by_label("Find in plate").fill("0291")
    plates.locator(".choice", has_text="P0291").locator("input").check()
    count_is(page, 1)
    plates.get_by_label("Find in plate").fill("")
    expect(plates.locator(".choice")).to_have_count(11)  # a ticked one beyond the first ten has its count
    expect(plates.locator(".choice").first).to_contain_text(re.compile(r"P0291\s*1"))
    plates.get_by_role("button", name="290 more values").click()
    expect(plates.locator(".hint")).to_have_text("The most frequent 200 of 300 values.")
    plates.get_by_role("button", name="Show 100 more").click()
    expect(plates.locator(".choice")).to_have_count(ROWS)
    page.get_by_role("button", name="Remove the filter on plate").click()
    names = page.locator("details.facet", has=page.locator(".facet-name", has_text="label"))
    names.get_by_label("Order of the values of label").select_option("by name")
    expect(names.locator(".choice .value").first).to_have_text("kind 0")


def test_a_minute_from_and_to_finds_all_of_it(page: Any) -> None:
    times = page.locator("details.facet", has=page.locator(".facet-name", has_text=re.compile("^taken_at$")))
    if times.get_attribute("open") is None:
        times.locator("summary").click()
    for field in ("From", "To"):  # one right after the other
        page.get_by_label(f"{field}: taken_at").fill("2026-03-01T06:59")
        page.get_by_label(f"{field}: taken_at").press("Enter")
    count_is(page, sum((6 * 60 + 30) * 60 + 13 * n in range((6 * 60 + 59) * 60, 7 * 3600) for n in range(ROWS)))
    expect(page.locator("#chips .chip")).to_contain_text("taken_at 2026-03-01 06:59")
    tiles(page).first.dblclick()
    expect(page.locator(".photo table.row")).to_contain_text(re.compile(r"2026-03-01 06:59:\d\d"))


def test_what_is_kept_away_stays_away(page: Any) -> None:
    for index, name in ((0, "Unlike this"), (5, "More like this")):
        tiles(page).nth(index).dblclick()
        page.get_by_role("button", name=name).click()
    expect(page.locator("#chips .chip.unlike")).to_have_count(1)
    expect(page.locator("#chips .chip.like")).to_have_count(1)


def test_filters_stand_in_the_order_that_a_person_gives_them(page: Any) -> None:
    shown = page.locator("#filter-list .facet-name").filter(has_not_text=re.compile(" by (hour|month)$"))
    expect(shown.filter(has_text="plate")).to_be_visible()
    before = shown.all_inner_texts()
    page.get_by_role("button", name="Arrange the filters").press("Enter")
    up = page.get_by_role("button", name=f"Move {before[2]} up")
    up.press("Enter")
    up.press("Enter")
    expect(up).to_be_focused()
    page.get_by_role("button", name=f"Hide {before[1]}").press("Enter")
    assert audit(page) == []
    page.get_by_role("button", name="Done").press("Enter")
    expected = [before[2], before[0], *before[3:]]
    assert shown.all_inner_texts() == expected
    page.reload()
    expect(page.locator("#filter-list .hint", has_text=f"Hidden: {before[1]}.")).to_be_visible()
    assert shown.all_inner_texts() == expected


def test_duplicates_follow_the_filters_and_any_number_of_groups_can_be_seen(page: Any) -> None:
    page.goto(page.url.split("#")[0] + "#duplicates?threshold=0.9999")
    groups = page.locator("#view-duplicates .group")
    counted = page.locator("#view-duplicates .count")  # empty while another order is under way
    expect(counted).to_have_text("150 groups of 300 images", timeout=60_000)
    assert groups.count() < 20
    expect(groups.first.locator(".copy")).to_have_count(2)
    page.locator("#group-order").select_option("time")
    expect(groups.first).to_contain_text("2026-03-01 06:30 to 06:30:13")
    page.locator("#group-order").select_option("station")
    expect(counted).to_have_text("150 groups of 300 images")
    expect(groups.first).to_contain_text("station A00, A01")
    assert audit(page) == []
    page.locator("#view-duplicates .scroller").evaluate("each => each.scrollTo(0, each.scrollHeight)")
    last = page.locator("#view-duplicates .group[aria-posinset='150']")
    expect(last.locator(".copy")).to_have_count(2)
    assert groups.count() < 20
    last.get_by_role("button", name="Select the others").click()
    expect(page.locator(".selected-count")).to_have_text("1 selected")
    page.get_by_role("button", name="Select the others of all").click()
    expect(page.locator(".selected-count")).to_have_text("150 selected")
    last.locator(".open").last.press("Enter")
    expect(page.locator(".photo .position")).to_have_text(re.compile("^2 of 2"))
    page.keyboard.press("Escape")
    page.locator("#filter-list .facet-name").get_by_text("station", exact=True).click()
    page.locator("#filter-list .choice", has_text="A03").locator("input").check()
    expect(page.get_by_role("heading", name="No near-duplicates")).to_be_visible(timeout=60_000)
    expect(page.locator("#chips .chip")).to_contain_text("A03")
    page.get_by_role("button", name="Clear the filters").first.click()
    expect(counted).to_have_text("150 groups of 300 images", timeout=60_000)


def test_comparing_shows_its_progress_and_can_be_cancelled(page: Any) -> None:
    page.goto(page.url.split("#")[0] + "#duplicates?threshold=0.99")
    expect(page.get_by_role("progressbar", name="Progress of the comparison")).to_be_visible()
    page.get_by_role("button", name="Cancel").press("Enter")
    again = page.get_by_role("button", name="Compare them")
    expect(again).to_be_focused()
    again.press("Enter")
    expect(page.locator("#view-duplicates .count")).to_have_text(re.compile(r"^\d+ groups of "), timeout=60_000)


def test_the_images_are_one_key_away_and_the_head_scrolls_out_of_sight_at_400_percent(
    browser: Any, address: str
) -> None:
    for page in opened(browser, address, viewport={"width": 320, "height": 256}):  # 1280 by 1024 pixels at 400 %
        expect(tiles(page).first).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the images")).to_be_focused()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.getAttribute('role')") == "listbox"
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        scroller = page.locator("#view-gallery .scroller").bounding_box()
        assert scroller["height"] > 100 and scroller["y"] < 150
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        assert audit(page) == []


def test_the_page_goes_on_by_itself_after_a_restart_of_the_server(browser: Any, collected: Path) -> None:
    with contextlib.ExitStack() as first:
        address = first.enter_context(serving(collected))
        for page in opened(browser, address, expected="ERR_|Failed to load"):
            expect(tiles(page).first).to_be_visible()
            first.close()
            page.locator("#sort").select_option("station")
            expect(page.get_by_role("heading", name="Request failed")).to_be_visible()
            with serving(collected, port=int(address.rpartition(":")[2])):
                expect(page.locator("#view-gallery .notice")).to_be_hidden()
                expect(page.locator("#view-gallery .count")).to_have_text(f"{ROWS} images")
                expect(tiles(page).first).to_have_class(re.compile("loaded"))
