"""What is selected on the page, and what of it can be seen, in a real Chromium on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.browsing import expect, in_browser, label_selected, labels_of, on_forty, tile

pytestmark = in_browser


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    with on_forty(browser, tmp_path) as page:
        yield page


def without_label(page: Any) -> Any:
    """The choice of the filter that keeps images without a label."""
    return page.locator("label.choice", has_text="no value").first.locator("input")


def test_a_click_selects_one_and_a_double_click_opens(page: Any) -> None:
    for index in (2, 5):
        tile(page, index).click()
        expect(page.locator(".selected-count")).to_have_text("1 selected")
        expect(tile(page, index)).to_have_attribute("aria-selected", "true")
    tile(page, 7).click(modifiers=["Control"])
    expect(page.locator(".selected-count")).to_have_text("2 selected")
    tile(page, 1).click()
    expect(page.locator(".selected-count")).to_have_text("1 selected")
    expect(page.locator(".photo")).to_have_count(0)
    tile(page, 3).dblclick()
    expect(page.locator(".photo .position")).to_have_text("4 of 40")
    page.keyboard.press("Escape")
    tile(page, 4).hover()
    tile(page, 4).locator(".open").click()
    expect(page.locator(".photo .position")).to_have_text("5 of 40")


def test_a_tap_opens_and_the_round_mark_selects(browser: Any, tmp_path: Path) -> None:
    how: dict[str, Any] = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    with on_forty(browser, tmp_path, **how) as page:
        tile(page, 0).tap()
        expect(page.locator(".photo .position")).to_have_text("1 of 40")
        page.get_by_role("button", name="Close (Esc)").tap()
        tile(page, 1).locator(".check").tap()
        tile(page, 2).tap()
        expect(page.locator(".selected-count")).to_have_text("2 selected")


def test_a_label_empties_the_selection_unless_it_is_kept(page: Any) -> None:
    without_label(page).check()
    expect(page.locator("#view-gallery .count")).to_have_text("20 of 40 images")
    tile(page, 0).click()
    tile(page, 4).click(modifiers=["Shift"])
    label_selected(page, "lynx")
    expect(page.locator("#view-gallery .count")).to_have_text("15 of 40 images")
    expect(page.locator("#selection-bar")).to_be_hidden()
    # What the next label is given to is what is selected next, and nothing that has left the view.
    tile(page, 0).click()
    tile(page, 1).click(modifiers=["Control"])
    page.get_by_label("Keep").check()
    label_selected(page, "stoat")
    expect(page.locator("#view-gallery .count")).to_have_text("13 of 40 images")
    assert labels_of(page, page.ids[20:28]) == ["lynx"] * 5 + ["stoat"] * 2 + [None]
    expect(page.locator(".selected-count")).to_have_text("2 selected")
    expect(page.locator(".out-of-sight")).to_contain_text("2 not in view")


def select_and_filter(page: Any) -> None:
    """Select three images with a label and two without, then filter by those without."""
    for index in (0, 1, 2, 20, 21):
        tile(page, index).click(modifiers=["Control"])
    expect(page.locator(".selected-count")).to_have_text("5 selected")
    expect(page.locator(".out-of-sight")).to_be_empty()
    without_label(page).check()
    expect(page.locator(".out-of-sight")).to_contain_text("3 not in view")
    expect(page.locator(".selected-count")).to_have_text("5 selected")


def test_images_selected_out_of_sight_are_shown(page: Any) -> None:
    select_and_filter(page)
    page.locator(".out-of-sight").get_by_role("button", name="show").click()
    expect(page.locator("#view-gallery .count")).to_have_text("5 of 40 images")
    expect(page.locator("#view-gallery .tile.selected")).to_have_count(5)
    expect(page.locator(".out-of-sight")).to_be_empty()
    page.reload()
    expect(page.locator("#view-gallery .count")).to_have_text("5 of 40 images")
    page.get_by_role("button", name="Show all images again").click()
    expect(page.locator("#view-gallery .count")).to_have_text("40 images")


def test_images_selected_out_of_sight_are_deselected(page: Any) -> None:
    select_and_filter(page)
    page.locator(".out-of-sight").get_by_role("button", name="clear").click()
    expect(page.locator(".selected-count")).to_have_text("2 selected")
    page.locator("#tab-failures").click()
    expect(page.locator(".out-of-sight")).to_contain_text("2 not in view")


@pytest.mark.parametrize(("answer", "labelled"), [("Label the 2 in view", 2), ("Label all 5", 5), (None, 0)])
def test_nothing_out_of_sight_is_labelled_unasked(page: Any, answer: str | None, labelled: int) -> None:
    select_and_filter(page)
    page.locator("#selection-bar .label-input").fill("lynx")
    page.locator("#selection-bar .label-input").press("Enter")
    question = page.get_by_role("dialog", name="Some of them are not in view")
    expect(question).to_contain_text("3 of the 5 selected")
    if answer is None:
        page.keyboard.press("Escape")
        expect(question).to_have_count(0)
        page.wait_for_timeout(300)
    else:
        question.get_by_role("button", name=answer).click()
        expect(page.locator(".toast")).to_contain_text("“lynx”")
    given = labels_of(page, [page.ids[index] for index in (0, 1, 2, 20, 21)])
    assert given.count("lynx") == labelled
    if labelled == 2:
        assert given[3:] == ["lynx", "lynx"]
    expect(page.locator(".selected-count")).to_have_text({0: "5 selected", 2: "3 selected", 5: "0 selected"}[labelled])


def test_a_shown_selection_that_the_tab_does_not_know_says_so(page: Any) -> None:
    page.goto(page.url.split("#")[0] + "#gallery?these=123")
    expect(page.get_by_role("heading", name="This selection is no longer available")).to_be_visible()
    page.get_by_role("button", name="Continue without it").click()
    expect(page.locator("#view-gallery .count")).to_have_text("40 images")
