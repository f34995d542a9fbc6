"""Several people who label the same collection on the page, in a real Chromium on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.browsing import expect, in_browser, label_selected, labels_of, on_forty, opened, tile, total

pytestmark = in_browser


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    with on_forty(browser, tmp_path, expected="409 .Conflict") as page:
        yield page


@pytest.fixture
def other(browser: Any, page: Any) -> Iterator[Any]:
    """The page of another person, on another machine."""
    for each in opened(browser, page.url.split("#")[0]):
        total(each)  # before it has its images, it takes no keys
        yield each


def called(page: Any, name: str) -> None:
    """Give a name in the history of labels."""
    page.get_by_role("button", name="History of labels").click()
    page.get_by_role("button", name="Enter your name").click()
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Your name").press("Enter")
    expect(page.locator(".history-tools")).to_contain_text(f"You label as {name}.")
    page.keyboard.press("Escape")


def test_the_undo_key_takes_back_only_ones_own_label(page: Any, other: Any) -> None:
    called(page, "Ana")
    called(other, "Ben")
    tile(page, 0).click()
    label_selected(page, "eagle owl")
    tile(other, 1).click()
    label_selected(other, "arctic fox")
    page.locator("#view-gallery .grid").focus()
    page.keyboard.press("Control+z")
    expect(page.locator(".toast", has_text="Undone")).to_be_visible()
    assert labels_of(page, page.ids[:2]) == ["owl", "arctic fox"]
    page.keyboard.press("Control+z")  # there is nothing else of Ana's
    expect(page.locator(".toast", has_text="nothing to undo")).to_be_visible()
    assert labels_of(page, page.ids[:2]) == ["owl", "arctic fox"]
    other.reload()  # the person is known by the name, and the tab by what was given in it
    tile(other, 0).wait_for()
    other.keyboard.press("Control+z")
    expect(other.locator(".toast", has_text="Undone")).to_be_visible()
    assert labels_of(page, page.ids[:2]) == ["owl", "fox"]


def test_without_a_name_the_undo_key_takes_back_labels_of_this_tab(page: Any, other: Any) -> None:
    tile(page, 0).click()
    label_selected(page, "eagle owl")
    other.keyboard.press("Control+z")
    expect(other.locator(".toast", has_text="You have labelled nothing in this tab")).to_be_visible()
    assert labels_of(page, page.ids[:1]) == ["eagle owl"]


def test_labels_by_others_appear_within_seconds_with_their_author_and_do_not_disturb_typing(
    page: Any, other: Any
) -> None:
    called(page, "Ana")
    tile(other, 3).dblclick()
    tile(page, 3).click()
    label_selected(page, "barn owl")
    expect(other.locator(".toast")).to_have_text("Ana labelled 1 image: label", timeout=5_000)
    expect(other.locator(".photo .label-input")).to_have_value("barn owl", timeout=5_000)
    other.keyboard.press("Escape")
    expect(tile(other, 3).locator(".name")).to_have_text("barn owl")
    expect(other.locator("label.choice", has_text="barn owl").locator(".number")).to_have_text("1")
    page.locator("#view-gallery .grid").focus()
    page.keyboard.press("Control+z")
    expect(other.locator(".toast")).to_have_text("Ana undid labels: label of 1 image", timeout=5_000)
    expect(tile(other, 3).locator(".name")).not_to_have_text("barn owl")
    expect(page.locator(".toast", has_text="labelled 1 image")).to_have_count(0)  # one's own is no news
    tile(other, 3).dblclick()
    expect(other.locator(".photo .label-input")).to_have_value("Größe")
    other.keyboard.press("l")
    other.keyboard.type("tawny")
    tile(page, 3).click()
    label_selected(page, "barn owl")
    expect(other.locator(".photo table.row")).to_contain_text("barn owl", timeout=5_000)
    expect(other.locator(".photo .label-input")).to_have_value("tawny")


def test_the_name_is_asked_for_once(browser: Any, page: Any) -> None:
    page.evaluate("localStorage.removeItem('birder:name')")
    tile(page, 0).click()
    page.locator("#selection-bar .label-input").fill("eagle owl")
    page.locator("#selection-bar .label-input").press("Enter")
    question = page.get_by_role("dialog", name="Who is labelling?")
    question.get_by_label("Your name").fill("Ana Müller")
    question.get_by_role("button", name="Keep").click()
    expect(page.locator(".toast")).to_contain_text("“eagle owl”")
    act = page.api.get("labels/history").json()["acts"][0]
    assert (act["by"], act["count"]) == ("Ana Müller", 1)
    page.reload()
    tile(page, 1).click()
    label_selected(page, "arctic fox")
    assert page.api.get("labels/history").json()["acts"][0]["by"] == "Ana Müller"
    page.get_by_role("button", name="History of labels").click()
    page.get_by_role("button", name="Mine").click()
    expect(page.locator(".history li")).to_have_count(2)
