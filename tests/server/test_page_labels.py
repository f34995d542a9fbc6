"""Selecting and labelling on the page, in a real Chromium."""

from __future__ import annotations

import re
from typing import Any

from tests.server.browsing import eventually, expect, first_ids, in_browser, labels_of, tiles, total

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
    expect(page.locator(".toast")).to_contain_text("3 photographs: label is now “heron <b>”")
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
    expect(page.locator(".toast")).to_contain_text("2 photographs")
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
        page.get_by_role("button", name="Clear the selection (Esc)").click()
    page.get_by_role("button", name="History of labels").click()
    entries = page.locator(".history li")
    for value in ("twice", "once"):
        entry = entries.filter(has_text=value).first
        entry.get_by_role("button", name="Undo").click()
        expect(entries.filter(has_text=value).first).to_have_class("undone")
    assert labels_of(page, ids) == before


def test_label_help_ranks_and_accepts_with_one_key(page: Any) -> None:
    total(page)
    by_label = {
        name: page.evaluate(
            f"fetch('/api/v1/ids?where=' + encodeURIComponent(\"label = '{name}'\")).then(r => r.json())"
        )["ids"]
        for name in ("birds", "flowers")
    }
    for name, ids in by_label.items():
        status = page.evaluate(
            """([ids, value]) => fetch('/api/v1/labels', {method: 'POST', headers: {'Content-Type': 'application/json'},
                body: JSON.stringify({ids, column: 'seen', value})}).then(r => r.status)""",
            [ids[:4], name],
        )
        assert status == 200
    page.reload()
    page.locator("#tab-help").click()
    page.locator("#help-column").select_option("seen")
    expect(tiles(page, "help").first.locator(".detail")).to_have_text(re.compile(r"\d+ % sure"))
    suggested = tiles(page, "help").first.locator(".name").inner_text()
    assert suggested in by_label
    page.locator("#view-help .grid").focus()
    page.keyboard.press("a")
    expect(page.locator("#view-help .count")).to_contain_text("1 accepted")
    expect(tiles(page, "help").first).to_have_class(re.compile("marked"))
    assert eventually(page, suggested, 5)
    page.keyboard.press("Control+z")
    expect(page.locator(".toast", has_text="Undone")).to_be_visible()
    assert eventually(page, suggested, 4)
