"""Labelling on the page, taking labels back and their history, in a real Chromium on a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.browsing import (
    expect,
    first_ids,
    in_browser,
    label_selected,
    labels_of,
    on_forty,
    tile,
    tiles,
    total,
)

pytestmark = in_browser


def test_labelling_a_selection_is_written_and_undone(page: Any) -> None:
    total(page)
    ids = first_ids(page, 3)
    before = labels_of(page, ids)
    tiles(page).nth(0).click(modifiers=["Control"])
    tiles(page).nth(2).click(modifiers=["Shift"])
    expect(page.locator(".selected-count")).to_have_text("3 selected")
    page.locator("#selection-bar .label-input").fill("heron <b>")
    page.locator("#selection-bar .label-input").press("Enter")
    expect(page.locator(".toast")).to_contain_text("3 images: label is now “heron <b>”")
    assert labels_of(page, ids) == ["heron <b>"] * 3
    expect(tiles(page).nth(1).locator(".name")).to_have_text("heron <b>")
    expect(page.locator("label.choice", has_text="heron <b>").locator(".number")).to_have_text("3")
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator(".toast", has_text="Undone")).to_be_visible()
    assert labels_of(page, ids) == before
    expect(tiles(page).nth(1).locator(".name")).to_have_text(str(before[1]))


def test_the_keyboard_alone_selects_labels_and_undoes(page: Any) -> None:
    everything = total(page)
    ids = first_ids(page, 3)
    before = labels_of(page, ids)
    page.locator("#view-gallery .grid").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator(".selected-count")).to_have_text("2 selected")
    page.keyboard.press("l")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("2 images")
    assert labels_of(page, ids) == [before[0], "by keyboard", "by keyboard"]
    page.locator("#view-gallery .grid").focus()
    page.keyboard.press("Control+z")
    expect(page.locator(".toast", has_text="Undone")).to_be_visible()
    assert labels_of(page, ids) == before
    page.keyboard.press("Escape")
    expect(page.locator("#selection-bar")).to_be_hidden()
    page.keyboard.press("Control+a")
    expect(page.locator(".selected-count")).to_have_text(f"{everything} selected")
    page.keyboard.press("Escape")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator(".photo")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".layer")).to_have_count(0)


def test_the_history_undoes_any_change(page: Any) -> None:
    total(page)
    ids = first_ids(page, 1)
    before = labels_of(page, ids)
    for value in ("once", "twice"):
        tiles(page).first.locator(".check").click()
        page.locator("#selection-bar .label-input").fill(value)
        page.locator("#selection-bar .label-input").press("Enter")
        expect(page.locator(".toast", has_text=value)).to_be_visible()
        expect(page.locator("#selection-bar")).to_be_hidden()
    page.get_by_role("button", name="History of labels").click()
    entries = page.locator(".history li")
    for value in ("twice", "once"):
        entry = entries.filter(has=page.locator(".given", has_text=value)).first
        entry.get_by_role("button", name="Undo").click()
        expect(entry).to_have_class("undone")
    assert labels_of(page, ids) == before


@pytest.fixture
def forty(browser: Any, tmp_path: Path) -> Iterator[Any]:
    with on_forty(browser, tmp_path, expected="400 .Bad Request") as page:
        yield page


def test_typing_replaces_the_label_and_escape_leaves_the_box_alone(forty: Any) -> None:
    page = forty
    tile(page, 0).dblclick()
    box = page.locator(".photo .label-input")
    expect(box).to_have_value("owl")
    page.keyboard.press("l")
    page.keyboard.type("eagle owl")
    expect(box).to_have_value("eagle owl")
    page.keyboard.press("Escape")
    expect(box).to_have_value("eagle owl")
    expect(box).not_to_be_focused()
    expect(page.locator(".photo .position")).to_have_text("1 of 40")
    page.keyboard.press("l")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("“eagle owl”")
    assert labels_of(page, page.ids[:2]) == ["eagle owl", "fox"]
    page.keyboard.press("Escape")
    expect(page.locator(".photo")).to_have_count(0)


def test_the_chosen_column_stays_and_offers_its_own_values(forty: Any) -> None:
    page = forty
    tile(page, 0).dblclick()
    box, column = page.locator(".photo .label-input"), page.locator(".photo .label-column")
    expect(box).to_have_value("owl")
    column.select_option("site")
    expect(box).to_have_value("S0")
    page.locator(".photo-title").click()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".photo .position")).to_have_text("2 of 40")
    expect(column).to_have_value("site")
    expect(box).to_have_value("S1")
    page.keyboard.press("l")
    page.keyboard.type("S9")
    column.select_option("label")  # what was typed stays
    expect(box).to_have_value("S9")
    column.select_option("site")
    box.press("Enter")
    expect(page.locator(".toast")).to_contain_text("site is now “S9”")
    assert labels_of(page, page.ids[1:2], "site") == ["S9"]
    assert labels_of(page, page.ids[1:2]) == ["fox"]
    page.reload()
    expect(column).to_have_value("site")


def test_a_new_column_is_there_without_a_reload(forty: Any) -> None:
    page = forty
    tile(page, 0).click()
    bar = page.locator("#selection-bar")
    bar.locator("select.label-column").select_option("")
    bar.get_by_label("Name of the new column").fill("behaviour")
    bar.get_by_label("Name of the new column").press("Enter")
    bar.locator(".label-input").fill("singing")
    bar.locator(".label-input").press("Enter")
    expect(page.locator(".toast")).to_contain_text("behaviour is now “singing”")
    facet = page.locator("details.facet", has=page.locator("summary", has_text="behaviour"))
    expect(facet).to_have_count(1)
    expect(page.locator("#sort option", has_text="behaviour")).to_have_count(1)
    if facet.get_attribute("open") is None:
        facet.locator("summary").click()
    expect(facet.locator("label.choice", has_text="singing").locator(".number")).to_have_text("1")
    page.locator("#search-input").fill("singing")
    page.get_by_role("option", name="singing behaviour, 1").click()
    expect(page.locator("#view-gallery .count")).to_have_text("1 of 40 images")
    page.locator("#view-gallery .grid").focus()
    page.keyboard.press("Control+z")  # without a value left, the column is no longer a filter
    expect(facet).to_have_count(0)


def test_the_first_label_of_a_collection_is_there_without_a_reload(browser: Any, tmp_path: Path) -> None:
    with on_forty(browser, tmp_path, labelled=0) as page:
        expect(page.locator("#filter-list")).to_have_text(re.compile("Columns without values: .*label"))
        tile(page, 0).click()
        label_selected(page, "owl")
        expect(page.locator("summary", has_text="label")).to_have_count(1)
        expect(page.locator("#sort option", has_text="label")).to_have_count(1)
        expect(page.locator("label.choice", has_text="owl").locator(".number")).to_have_text("1")
        page.locator("#tab-map").click()
        expect(page.locator("#colour option", has_text="label")).to_have_count(1)


def test_labels_of_every_script_and_of_up_to_300_characters(forty: Any) -> None:
    page = forty
    for index, value in enumerate(["می\u200cخواهم", "പൂമ്പാറ്റ\u200d", "👨\u200d👩\u200d👧", "x" * 300, "🦉" * 300]):
        tile(page, index).click()
        label_selected(page, value)
        assert labels_of(page, [page.ids[index]]) == [value]
    page.locator("label.choice", has_text="👨\u200d👩\u200d👧").locator("input").check()
    expect(page.locator("#view-gallery .count")).to_have_text("1 of 40 images")
    tile(page, 0).click()
    box = page.locator("#selection-bar .label-input")
    box.fill("y" * 301)
    box.press("Enter")
    problem = "A label has up to 300 characters; this one has 301."
    assert box.evaluate("box => box.validationMessage") == problem
    box.fill("y" * 300)
    assert box.evaluate("box => box.validationMessage") == ""
    box.fill("a\u200eb")  # a mark that only sets the direction: the server refuses it in its words
    box.press("Enter")
    expect(page.locator(".toast.error")).to_contain_text("between 1 and 300 printable characters")


def test_the_history_has_acts_with_what_was_before_and_shows_them(forty: Any) -> None:
    page = forty
    for number in range(35):
        body = {"ids": [page.ids[30]], "column": "site", "value": f"place {number}", "by": "Ana"}
        assert page.api.post("labels", json=body).status_code == 200
    for index in (0, 1, 4, 21):
        tile(page, index).click(modifiers=["Control"])
    label_selected(page, "lynx")
    page.get_by_role("button", name="History of labels").click()
    entries = page.locator(".history li")
    expect(entries).to_have_count(30)
    expect(page.locator(".history-tools")).to_contain_text("36 entries")
    batch = entries.first
    expect(batch.locator(".given")).to_have_text("lynx in label")
    expect(batch).to_contain_text("before: owl (2), ")
    expect(batch).to_contain_text("no value (1)")
    expect(batch).to_contain_text("without a name")
    expect(batch.locator(".thumbs img.loaded")).to_have_count(4)
    expect(entries.nth(1)).to_contain_text("place 34 in site")
    expect(entries.nth(1)).to_contain_text("before: place 33")
    expect(entries.nth(1)).to_contain_text("Ana, 20")
    page.get_by_role("button", name="Show more").click()
    expect(entries).to_have_count(36)
    expect(entries.last).to_contain_text("place 0 in site")
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)
    batch.get_by_role("button", name="Show these 4 images").click()
    expect(page.locator("#view-gallery .count")).to_have_text("4 of 40 images")
    page.reload()  # the address has them
    expect(page.locator("#view-gallery .count")).to_have_text("4 of 40 images")
    page.get_by_role("button", name="History of labels").click()
    entries.first.get_by_role("button", name="Undo").click()
    expect(entries.first).to_have_class("undone")
    assert labels_of(page, [page.ids[index] for index in (0, 1, 4, 21)]) == ["owl", "fox", "owl", None]


LATE = """() => {
    const ask = window.fetch;
    const late = new Promise(resolve => { window.letThemCome = resolve; });
    window.fetch = async (...all) => {
        const answer = await ask(...all);
        if (String(all[0].url ?? all[0]).includes('columns=')) {
            document.body.dataset.held = 'yes';
            await late;
            document.body.dataset.held = 'no longer';
        }
        return answer;
    };
}"""


def test_rows_that_come_later_than_a_label_do_not_show_the_former_one(page: Any) -> None:
    total(page)
    page.evaluate(LATE)
    page.get_by_role("button", name="Tiles").click()
    page.get_by_label("First line").select_option("label")  # which asks for all rows again
    expect(page.locator("body[data-held=yes]")).to_have_count(1)
    page.keyboard.press("Escape")
    tiles(page).nth(0).locator(".check").click()
    label_selected(page, "given meanwhile")
    page.evaluate("letThemCome()")
    expect(page.locator("body[data-held='no longer']")).to_have_count(1)
    expect(page.locator("#view-gallery.loading")).to_have_count(0)
    expect(tiles(page).nth(0).locator(".name")).to_have_text("given meanwhile")
