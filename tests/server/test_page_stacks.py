"""Sequences folded into stacks in the gallery, and counts as numbers, in a real Chromium on a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.factory import card, collection_of, collection_of_columns, jpeg, row_of_file
from tests.server.browsing import audit, expect, in_browser, label_selected, labels_of, opened, tile, tiles
from tests.server.live import serving
from tests.sources.videos import write_video

pytestmark = in_browser

TYPES = {"predicted_label": pa.string(), "predicted_score": pa.float32(), "night": pa.bool_()}


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """24 images in 8 sequences of three, the last of each a "cat" and by night, and one without a sequence."""
    rows = []
    for number in range(25):
        path = tmp_path / f"{number:02d}.jpg"
        path.write_bytes(jpeg(number))
        columns = {
            "sequence": f"s{number // 3}" if number < 24 else None,
            "predicted_label": "cat" if number % 3 == 2 else "fox",
            "predicted_score": 0.9 - number / 40,
            "night": number % 3 == 2,
            "taken_at": datetime(2024, 5, 1) + timedelta(minutes=number),
        }
        rows.append(row_of_file(path, np.random.default_rng(number).normal(size=4), **columns))
    collection = collection_of(tmp_path / "c.birder", rows, model=card(4), types=TYPES)
    with serving(collection.path) as client:
        for page in opened(browser, str(client.base_url).removesuffix("/api/v1/")):
            page.ids = client.get("ids").json()["ids"]
            page.locator("#fold").check()
            expect(counted(page)).to_have_text("25 images in 9 stacks")
            yield page


def counted(page: Any) -> Any:
    return page.locator("#view-gallery .count")


def selected(page: Any) -> Any:
    return page.locator(".selected-count")


def soon(page: Any, ids: list[str], values: list[str | None], column: str = "label") -> None:
    for _ in range(100):
        if labels_of(page, ids, column) == values:
            return
        page.wait_for_timeout(50)
    assert labels_of(page, ids, column) == values


def test_a_stack_is_selected_labelled_and_decided_as_one(page: Any) -> None:
    ids = page.ids
    expect(tiles(page)).to_have_count(9)
    expect(tile(page, 0).locator(".stack-mark")).to_have_text("3 images")
    expect(tile(page, 8).locator(".stack-mark")).to_have_count(0)
    expect(tile(page, 0).locator(".caption")).to_contain_text("predicted in 2 of 3")
    tile(page, 0).click()
    expect(selected(page)).to_have_text("3 selected")
    tile(page, 2).click(modifiers=["Shift"])
    expect(selected(page)).to_have_text("9 selected")
    tile(page, 8).click(modifiers=["Control"])
    expect(selected(page)).to_have_text("10 selected")
    tile(page, 1).click(modifiers=["Control"])
    expect(selected(page)).to_have_text("7 selected")
    expect(page.locator(".out-of-sight")).to_be_empty()
    assert audit(page) == []
    page.keyboard.press("Control+a")
    expect(selected(page)).to_have_text("25 selected")
    page.keyboard.press("Escape")
    tile(page, 1).click()
    label_selected(page, "hare")
    assert labels_of(page, ids[3:7]) == ["hare"] * 3 + [None]
    expect(tile(page, 1).locator(".name")).to_have_text("hare")

    tile(page, 3).click()  # what is selected is decided by what the stacks are named, too
    page.keyboard.press("a")
    soon(page, ids[9:13], ["fox"] * 3 + [None])
    page.locator("#view-gallery .grid").focus()
    page.keyboard.press("Home")
    page.keyboard.press("a")
    page.keyboard.press("ArrowRight")  # over the stack that is labelled
    page.keyboard.press("x")
    soon(page, ids[:3], ["fox"] * 3)
    soon(page, ids[6:9], ["fox"] * 3, "rejected")
    page.keyboard.press("Control+z")  # both came within half a second, or are two acts
    page.wait_for_timeout(300)
    assert labels_of(page, ids[6:9], "rejected") == [None] * 3

    by_night = '{"column":"night","values":[true]}'
    page.goto(f"{page.url.split('#')[0]}#gallery?sort=-predicted_score&fold=yes&filter={by_night}")
    expect(counted(page)).to_have_text("8 of 25 images in 8 stacks")  # those that match alone
    expect(page.locator("#view-gallery .stack-mark")).to_have_count(0)
    tile(page, 0).click()
    page.goto(page.url.split("#")[0] + "#gallery?fold=yes")
    expect(tile(page, 0).locator(".stack-mark")).to_have_text("1 of 3 images")
    page.locator("#selection-bar").get_by_role("button", name="Only these").click()
    expect(counted(page)).to_have_text("1 of 25 images in 1 stack")
    page.goto(page.url.split("#")[0] + f"#gallery?fold=yes&like={ids[4]}")
    expect(counted(page)).to_have_text(re.compile("^24 images, nearest first in [89] stacks$"))
    expect(tile(page, 0).locator(".detail")).to_contain_text("similarity")


def test_an_open_stack_is_a_strip_in_which_its_images_are_counted(page: Any) -> None:
    ids = page.ids
    position, strip = page.locator(".photo .position"), page.locator(".open-stack .strip button")
    tile(page, 1).dblclick()
    expect(position).to_have_text("Stack 2 of 9")
    expect(strip).to_have_count(3)
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#selection-bar")).to_be_hidden()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    expect(strip.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".photo-title")).to_have_text("04.jpg")
    expect(position).to_have_text("Stack 2 of 9")
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(400)  # colours fade
        assert audit(page) == []
    page.reload()
    expect(position).to_have_text("Stack 2 of 9")
    expect(strip.nth(1)).to_have_attribute("aria-pressed", "true")

    count = page.locator(".photo .count-form input")
    page.keyboard.press("c")
    for wrong in ("-1", "1.5"):
        page.keyboard.type(wrong)
        page.keyboard.press("Enter")
        assert count.evaluate("each => !each.validity.valid && document.activeElement === each")
        count.fill("")
    page.keyboard.type("12")
    page.keyboard.press("Enter")
    soon(page, ids[3:6], ["12"] * 3, "count")
    expect(count).to_have_value("12")
    page.keyboard.press("u")
    soon(page, ids[3:6], ["unknown"] * 3)
    expect(position).to_have_text("Stack 3 of 9")
    page.keyboard.press("ArrowLeft")
    expect(strip.first).to_contain_text("unknown")
    page.keyboard.press("Control+z")
    expect(strip.first).to_contain_text("fox?")
    page.keyboard.press("ArrowRight")
    page.get_by_label("Label, decide and select all 3 images").uncheck()
    page.keyboard.press("b")  # the keys are the page's again, and this image alone is meant
    expect(strip.nth(1)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("c")
    page.keyboard.type("9")
    page.keyboard.press("Enter")
    soon(page, ids[6:9], [None, "9", None], "count")
    soon(page, ids[6:9], ["blank", None, None])
    page.keyboard.press(" ")
    expect(selected(page)).to_have_text("1 selected")
    page.keyboard.press("ArrowLeft")
    page.get_by_label("Label, decide and select all 3 images").check()
    page.get_by_role("button", name="Select", exact=True).click()
    expect(selected(page)).to_have_text("4 selected")
    page.get_by_role("button", name="Close (Esc)").click()
    page.keyboard.press("Escape")

    tile(page, 4).click()
    page.locator("#selection-bar .label-column").select_option("count")
    label_selected(page, "100")
    assert labels_of(page, ids[12:15], "count") == ["100"] * 3
    tile(page, 5).click()
    for wrong in ("-1", "1.5", "007"):
        page.locator("#selection-bar .label-input").fill(wrong)
        page.locator("#selection-bar .label-input").press("Enter")
        assert not page.locator("#selection-bar .label-input").evaluate("each => each.validity.valid")
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Tiles").click()  # on a tile, for those who want it there
    page.get_by_label("Second line").select_option("count")
    page.keyboard.press("Escape")
    expect(tile(page, 4).locator(".detail")).to_have_text("100")
    expect(tile(page, 4)).to_have_attribute("aria-label", re.compile("count: 100, 3 images$"))

    # As numbers: 100 and 12 are more than 9.
    facet = page.locator("details.facet", has=page.locator("summary", has_text=re.compile("^count$")))
    if facet.get_attribute("open") is None:
        facet.locator("summary").click()
    facet.get_by_label("From: count").fill("10")
    facet.get_by_label("From: count").press("Enter")
    expect(counted(page)).to_have_text("6 of 25 images in 2 stacks")
    facet.get_by_label("To: count").fill("99")
    facet.get_by_label("To: count").press("Enter")
    expect(counted(page)).to_have_text("3 of 25 images in 1 stack")
    expect(page.locator("#chips")).to_contain_text("10 to 99")
    page.reload()
    expect(counted(page)).to_have_text("3 of 25 images in 1 stack")


def test_a_frame_of_a_folded_video_plays_its_clip(browser: Any, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "a.mp4", 100)
    rows = {f"{clip.as_uri()}#t=npt:{second}": {"sequence": "a"} for second in range(3)}
    collection_of_columns(tmp_path / "c.birder", rows)
    with serving(tmp_path / "c.birder") as client:
        for page in opened(browser, str(client.base_url).removesuffix("/api/v1/")):
            page.locator("#fold").check()
            expect(counted(page)).to_have_text("3 images in 1 stack")
            tile(page, 0).dblclick()
            for second in range(3):
                expect(page.locator(".photo-title")).to_have_text(f"a.mp4 at 0:0{second}")
                video = page.locator(".stage video")
                expect(video).to_have_js_property("currentTime", second)
                page.keyboard.press("p")
                expect(video).to_have_js_property("paused", False)
                page.keyboard.press("ArrowDown")
