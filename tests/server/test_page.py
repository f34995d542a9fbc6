"""The page in a real headless Chromium, on a real server with images embedded by the real model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.server.browsing import HOSTILE, drop, expect, in_browser, opened, rows, tiles, total

pytestmark = in_browser


def test_page_opens_with_all_images_and_their_thumbnails(page: Any) -> None:
    assert total(page) == rows(page) > 40
    expect(tiles(page).first).to_have_class(re.compile("loaded"))
    picture = tiles(page).first.locator("img")
    assert picture.evaluate("image => image.naturalWidth") > 50
    assert page.title() == "demo.birder, Birder"


def test_names_are_shown_as_text(page: Any) -> None:
    page.locator("#search-input").fill("onerror")
    page.get_by_role("option", name="“onerror” in the file name").click()
    expect(page.locator("#view-gallery .count")).to_have_text(re.compile("^1 of"))
    expect(tiles(page).first.locator(".detail")).to_have_text(f"{HOSTILE}.jpg")
    tiles(page).first.dblclick()
    expect(page.locator(".photo-title")).to_have_text(f"{HOSTILE}.jpg")
    assert page.title() == "demo.birder, Birder"
    assert page.locator("img[onerror]").count() == 0


def test_a_filter_keeps_its_rows_and_stays_in_the_address(page: Any) -> None:
    everything = total(page)
    page.locator("label.choice", has_text="flowers").first.locator("input").check()
    expect(page.locator("#view-gallery .count")).to_have_text(re.compile(f"of {everything}"))
    flowers = total(page)
    assert 0 < flowers < everything
    answer = page.evaluate(
        "fetch('/api/v1/photos?limit=200&where=' + encodeURIComponent(\"label = 'flowers'\")).then(r => r.json())"
    )
    assert flowers == answer["total"]
    for tile in tiles(page).all():
        assert "flowers" in tile.inner_text()
    page.reload()
    assert total(page) == flowers
    expect(page.locator("#chips .chip")).to_contain_text("flowers")
    page.go_back()
    expect(page.locator("#view-gallery .count")).to_have_text(f"{everything} images")
    page.go_forward()
    expect(page.locator("#view-gallery .count")).to_have_text(re.compile(f"^{flowers} of"))
    page.get_by_role("button", name="Remove the filter on label").click()
    expect(page.locator("#view-gallery .count")).to_have_text(f"{everything} images")


def test_a_range_of_numbers_filters(page: Any) -> None:
    widths = page.evaluate("fetch('/api/v1/columns/width/values').then(r => r.json())")
    half = (widths["min"] + widths["max"]) // 2
    page.locator("summary", has_text="width").click()
    field = page.get_by_label("From: width")
    field.fill(str(half))
    field.press("Enter")
    expect(page.locator("#chips .chip")).to_contain_text(f"from {half}")
    expect(page.locator("#view-gallery .count")).to_have_text(re.compile(" of "))
    url = f"fetch('/api/v1/photos?where=' + encodeURIComponent('width >= {half}')).then(r => r.json())"
    assert total(page) == page.evaluate(url)["total"]


def test_nothing_matching_says_so_and_offers_the_way_back(page: Any) -> None:
    everything = total(page)
    page.goto(page.url.split("#")[0] + '#gallery?filter={"column":"label","values":["no such thing"]}')
    expect(page.get_by_role("heading", name="No images match")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").click()
    expect(page.locator("#view-gallery .count")).to_have_text(f"{everything} images")


def test_a_dropped_image_finds_itself(page: Any, birds_and_flowers: Path) -> None:
    total(page)
    drop(page, birds_and_flowers / "birds" / "tucan.jpg")
    expect(page.locator("#chips .chip.query")).to_contain_text("tucan.jpg")
    expect(page.locator("#view-gallery .count")).to_contain_text("nearest")
    expect(tiles(page).first.locator(".detail")).to_contain_text(re.compile(r"similarity (1\.000|0\.99\d)"))
    assert "tucan.jpg" in tiles(page).first.get_attribute("title")
    # A filter on top searches again, without a second upload, and a reload keeps the image.
    uploads: list[str] = []
    page.on("request", lambda request: uploads.extend([request.url] if request.url.endswith("/embed") else []))
    page.locator("label.choice", has_text="flowers").first.locator("input").check()
    expect(tiles(page).first.locator(".name")).to_have_text("flowers")
    page.reload()
    expect(page.locator("#chips .chip.query")).to_contain_text("tucan.jpg")
    expect(tiles(page).first.locator(".name")).to_have_text("flowers")
    assert uploads == []


def test_a_dropped_text_file_is_refused_in_words(page: Any, tmp_path: Path) -> None:
    total(page)
    page.locator("#search-files").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"not a picture"}
    )
    expect(page.locator(".toast.error")).to_contain_text("Only images")


def test_more_like_this_and_unlike(page: Any) -> None:
    total(page)
    tiles(page).nth(3).dblclick()
    name = page.locator(".photo-title").inner_text()
    expect(page.locator(".neighbour")).to_have_count(12)
    page.get_by_role("button", name="More like this").click()
    expect(page.locator(".photo")).to_have_count(0)
    expect(page.locator("#view-gallery .count")).to_contain_text("nearest")
    before = tiles(page).first.get_attribute("title")
    tiles(page).nth(6).dblclick()
    expect(page.locator(".photo-title")).not_to_have_text(name)
    page.get_by_role("button", name="Unlike this").click()
    expect(page.locator("#chips .chip")).to_have_count(2)
    assert before


def test_words_without_a_text_encoder_are_completed_and_offer_filters(page: Any) -> None:
    page.locator("#search-input").fill("flow")
    expect(page.locator(".option").first).to_have_text(re.compile(r"Images that show “flower”\d+ class"))
    page.locator("#search-input").fill("zebra finch")
    expect(page.locator(".option.off")).to_contain_text("nearest: finch")
    page.locator("#search-input").fill("bird")
    page.locator("#search-input").press("Enter")  # before there are suggestions: those of the text before do not count
    expect(page.locator("#view-gallery .count")).to_contain_text("by class names")
    page.locator("#search-input").fill("flow")
    page.locator(".option", has_text="flowers").first.click()
    expect(page.locator("#chips")).to_contain_text("flowers")


def test_the_image_view_shows_row_and_predictions_and_moves_to_the_next(page: Any) -> None:
    total(page)
    tiles(page).first.dblclick()
    view = page.locator(".photo")
    expect(view.locator(".photo-title")).to_have_text(re.compile("jpg$"))
    first = view.locator(".photo-title").inner_text()
    expect(view.locator(".large")).to_have_class(re.compile("loaded"))
    expect(view.locator("table.row")).to_contain_text("sha256")
    expect(view.locator(".predictions li")).not_to_have_count(0)
    expect(view.locator(".position")).to_have_text(re.compile("^1 of "))
    page.keyboard.press("ArrowRight")
    expect(view.locator(".position")).to_have_text(re.compile("^2 of "))
    expect(view.locator(".photo-title")).not_to_have_text(first)
    page.reload()  # the address has the image; the arrows find their place again
    expect(view.locator("table.row")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(view.locator(".photo-title")).to_have_text(first)
    view.locator(".label-input").fill("from its own page")
    view.locator(".label-input").press("Enter")
    expect(page.locator(".toast")).to_contain_text("from its own page")
    expect(view.locator(".position")).to_have_text(re.compile("^2 of "))  # Enter labels and goes on
    page.keyboard.press("Control+z")
    expect(page.locator(".toast", has_text="Undone")).to_be_visible()
    page.keyboard.press("Escape")
    expect(view).to_have_count(0)
    assert "photo=" not in page.url


def test_duplicates_stand_side_by_side(page: Any) -> None:
    page.locator("#tab-duplicates").click()
    same = page.locator(".group", has_text="The same file").filter(has_text="crow-again.jpg")
    expect(same.locator(".copy")).to_have_count(2, timeout=60_000)  # a process compares all images first
    same.get_by_role("button", name="Select the others").click()
    expect(page.locator(".selected-count")).to_have_text("1 selected")
    same.locator(".open").first.click()
    expect(page.locator(".photo-title")).to_contain_text("crow")


def test_failures_give_the_reason_and_the_command(page: Any) -> None:
    expect(page.locator("#failure-count")).to_have_text("1")
    page.locator("#tab-failures").click()
    expect(page.locator("table.failures tbody tr")).to_have_count(1)
    expect(page.locator("table.failures .file")).to_contain_text("broken.jpg")
    assert page.locator("table.failures tbody td").nth(1).inner_text().strip()
    expect(page.locator(".command code")).to_contain_text("birder embed --retry-failed --in ")


def test_booleans_times_and_odd_names_filter(browser: Any, few: str) -> None:
    for page in opened(browser, few):
        assert total(page) == 40
        night = page.locator("details.facet", has=page.locator("summary", has_text="night"))
        if night.get_attribute("open") is None:
            night.locator("summary").click()
        night.locator("label.choice", has_text="yes").locator("input").check()
        expect(page.locator("#view-gallery .count")).to_have_text("14 of 40 images")
        temperature = page.locator("details.facet", has=page.locator("summary", has_text="Temp C"))
        if temperature.get_attribute("open") is None:
            temperature.locator("summary").click()
        temperature.get_by_label("To: Temp C").fill("9")
        temperature.get_by_label("To: Temp C").press("Enter")
        expect(page.locator("#view-gallery .count")).to_have_text("4 of 40 images")
        taken = page.locator("details.facet", has=page.locator("summary", has_text=re.compile("^taken_at$")))
        if taken.get_attribute("open") is None:
            taken.locator("summary").click()
        taken.get_by_label("From: taken_at").fill("2026-01-05T00:00")
        taken.get_by_label("From: taken_at").press("Enter")
        expect(page.locator("#view-gallery .count")).to_have_text("2 of 40 images")
        expect(page.locator("#chips .chip")).to_have_count(3)
        page.reload()
        expect(page.locator("#view-gallery .count")).to_have_text("2 of 40 images")
