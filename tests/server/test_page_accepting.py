"""Labels given quickly, in Teach and by a server that comes and goes, in a real Chromium on a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.browsing import (
    eventually,
    expect,
    in_browser,
    labels_of,
    on_forty,
    tile,
    tiles,
    total,
)

pytestmark = in_browser


def test_teach_ranks_and_accepts_with_one_key(page: Any) -> None:
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
    page.locator("#tab-teach").click()
    page.locator("#teach-column").select_option("seen")
    expect(tiles(page, "teach").first.locator(".detail")).to_have_text(re.compile(r"probability \d+ %"))
    suggested = tiles(page, "teach").first.locator(".name").inner_text()
    assert suggested in by_label
    page.locator("#view-teach .grid").focus()
    page.keyboard.press("a")
    expect(page.locator("#view-teach .count")).to_contain_text("1 accepted")
    expect(tiles(page, "teach").first).to_have_class(re.compile("marked"))
    assert eventually(page, suggested, 5)
    page.keyboard.press("Control+z")
    expect(page.locator(".toast", has_text="Undone")).to_be_visible()
    assert eventually(page, suggested, 4)


AWAY = "Failed to load resource"  # what the browser itself says on the console
NO_GESTURE = "Blocked attempt to show a .beforeunload. confirmation"
"""Chromium's own, where a page that nobody has touched since it was loaded would ask."""


@pytest.fixture
def forty(browser: Any, tmp_path: Path) -> Iterator[Any]:
    room = {"width": 2200, "height": 1600}  # for 20 images beside what Teach has learned
    with on_forty(browser, tmp_path, expected=f"{AWAY}|{NO_GESTURE}", viewport=room) as page:
        yield page


@pytest.fixture
def ranked(forty: Any) -> Any:
    """Teach with 20 suggestions, whose images are there."""
    forty.locator("#tab-teach").click()
    expect(forty.locator("#view-teach .tile.loaded")).to_have_count(20)
    forty.locator("#view-teach .grid").focus()
    return forty


def labelled(page: Any) -> int:
    return int(page.api.get("ids", params={"where": "label IS NOT NULL"}).json()["total"])


def soon(page: Any, number: int) -> None:
    """Wait until so many images have a label."""
    for _ in range(100):
        if labelled(page) == number:
            return
        page.wait_for_timeout(100)
    assert labelled(page) == number


def accept(page: Any, number: int) -> None:
    for _ in range(number):
        page.keyboard.press("a")
    expect(page.locator("#view-teach .count")).to_contain_text(f"{number} accepted")


def test_quickly_accepted_suggestions_are_sent_in_few_requests(ranked: Any) -> None:
    sent: list[Any] = []
    is_label = re.compile("/labels$")
    ranked.on("request", lambda each: sent.extend([each.post_data_json] if is_label.search(each.url) else []))
    accept(ranked, 20)
    expect(ranked.locator("#unwritten")).to_be_hidden()
    assert labelled(ranked) == 40
    assert len(sent) <= 6
    assert sum(len(change["ids"]) for each in sent for change in each["changes"]) == 20
    expect(ranked.locator(".toast")).to_have_count(0)


@pytest.mark.parametrize("way", ["closed", "left"])
def test_nothing_accepted_is_lost_when_the_page_is_closed(ranked: Any, way: str) -> None:
    page, context = ranked, ranked.context
    page.on("dialog", lambda dialog: dialog.accept())
    page.route("**/api/v1/labels", lambda route: route.abort())  # requests of the page; what it hands over goes through
    accept(page, 12)
    expect(page.locator("#unwritten")).to_contain_text("12 labels not written yet")
    assert labelled(page) == 20
    address = page.url.split("#")[0]
    if way == "left":
        page.unroute("**/api/v1/labels")
        page.goto("about:blank")
        soon(page, 32)  # the browser brings them home without the page
    else:
        page.close()
    again = context.new_page()
    again.goto(address)
    expect(again.locator(".toast")).to_have_text("12 labels from before the page was left: now written")
    assert labelled(page) == 32
    assert page.api.get("labels/history").json()["total"] <= 12  # none of them twice
    assert sum(act["count"] for act in page.api.get("labels/history").json()["acts"]) == 12
    again.reload()
    total(again)
    assert again.evaluate("Object.keys(localStorage).filter(key => key.startsWith('birder:unwritten'))") == []


def test_leaving_the_page_with_unwritten_labels_asks_first(ranked: Any) -> None:
    asked: list[str] = []

    def accept_and_note(dialog: Any) -> None:
        asked.append(dialog.type)
        dialog.accept()

    ranked.on("dialog", accept_and_note)
    ranked.route("**/api/v1/labels", lambda route: route.abort())
    accept(ranked, 1)
    ranked.reload()
    assert asked == ["beforeunload"]
    ranked.unroute("**/api/v1/labels")
    ranked.reload()
    expect(ranked.locator("#unwritten")).to_be_hidden()
    soon(ranked, 21)
    ranked.reload()
    assert asked in (["beforeunload"], ["beforeunload"] * 2)


def test_a_server_that_is_away_gets_the_labels_later_and_once(forty: Any) -> None:
    page = forty
    tries: list[int] = []

    def lose_the_answer(route: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            route.fetch()  # it is written, but the answer is lost
            route.abort()
        elif len(tries) == 2:
            route.fulfill(status=503, json={"detail": "The disk is full."})
        else:
            route.continue_()

    page.route("**/api/v1/labels", lose_the_answer)
    tile(page, 0).click()
    page.locator("#selection-bar .label-input").fill("eagle owl")
    page.locator("#selection-bar .label-input").press("Enter")
    sign = page.locator("#unwritten")
    expect(sign).to_contain_text("1 label not written yet: The server does not answer.")
    sign.get_by_role("button", name="Try now").click()
    expect(sign).to_contain_text("The disk is full.")
    expect(page.locator(".toast")).to_contain_text("1 image: label is now “eagle owl”")
    expect(sign).to_be_hidden()
    assert len(tries) == 3
    assert labels_of(page, page.ids[:1]) == ["eagle owl"]
    assert page.api.get("labels/history").json()["total"] == 1


def test_a_refused_label_does_not_hold_up_the_others(ranked: Any) -> None:
    refused = ranked.ids[20:40][3]

    def refuse(route: Any) -> None:
        if refused in route.request.post_data:
            route.fulfill(status=400, json={"detail": "Not this one."})
        else:
            route.continue_()

    ranked.route("**/api/v1/labels", refuse)
    accept(ranked, 20)
    expect(ranked.locator(".toast.error")).to_contain_text("Not this one.")
    expect(ranked.locator("#view-teach .count")).to_contain_text("19 accepted")
    expect(ranked.locator("#unwritten")).to_be_hidden()
    assert labelled(ranked) == 39


def test_the_undo_key_takes_back_sent_and_unsent_labels(ranked: Any) -> None:
    accept(ranked, 3)
    ranked.keyboard.press("Control+z")
    expect(ranked.locator("#view-teach .count")).to_contain_text("2 accepted")
    expect(ranked.locator("#unwritten")).to_be_hidden()
    soon(ranked, 22)
    ranked.keyboard.press("Control+z")
    expect(ranked.locator(".toast", has_text="Undone: 2 images")).to_be_visible()
    assert labelled(ranked) == 20
    expect(ranked.locator("#view-teach .count")).to_have_text("20 images suggested")
    expect(tile(ranked, 0, "teach")).to_have_class(re.compile("active"))


def test_a_held_key_accepts_no_image_whose_thumbnail_is_not_loaded(forty: Any) -> None:
    page = forty
    page.locator("#tab-failures").click()
    held: list[Any] = []
    late = page.ids[20:][::2]
    page.route(
        "**/thumbnail?*",
        lambda route: held.append(route) if any(i in route.request.url for i in late) else route.continue_(),
    )
    page.reload()
    page.locator("#tab-teach").click()
    expect(page.locator("#view-teach .tile.loaded")).to_have_count(10)
    page.locator("#view-teach .grid").focus()
    for _ in range(60):  # the second and later ones are repeats of a key that is held down
        page.keyboard.down("a")
    page.keyboard.up("a")
    expect(page.locator("#unwritten")).to_be_hidden()
    given = labels_of(page, late)
    assert given == [None] * len(late)
    for route in held:
        route.continue_()
    expect(page.locator("#view-teach .tile.loaded")).to_have_count(20)
    for _ in range(60):
        page.keyboard.down("a")
    soon(page, 40)


def test_accepting_an_image_without_a_suggestion_says_so_and_keeps_the_selection(ranked: Any) -> None:
    page = ranked
    page.locator("#tab-gallery").click()
    for index in (0, 1, 2):
        tile(page, index).click(modifiers=["Control"])
    page.locator("#tab-teach").click()
    page.get_by_role("button", name="Accept 3 selected").click()
    said = page.locator(".toast").last
    expect(said).to_have_text("Nothing accepted: 3 selected images are not suggested here, and stay selected.")
    expect(page.locator(".selected-count")).to_have_text("3 selected")
    assert labelled(page) == 20
    for index in (0, 1):
        tile(page, index, "teach").click(modifiers=["Control"])
    page.get_by_role("button", name="Accept 5 selected").click()
    said = page.locator(".toast", has_text="2 images accepted. 3 selected images are not suggested here")
    expect(said).to_be_visible()
    expect(page.locator(".selected-count")).to_have_text("3 selected")
    soon(page, 22)


def test_images_that_others_labelled_since_are_no_longer_suggested(ranked: Any) -> None:
    page = ranked
    first = tile(page, 0, "teach")
    id_ = first.get_attribute("data-id")
    page.api.post("labels", json={"ids": [id_], "column": "label", "value": "lynx", "by": "Ana"})
    expect(first.locator(".detail")).to_have_text("by Ana", timeout=5_000)
    page.keyboard.press("a")
    page.keyboard.press("a")
    soon(page, 22)
    assert labels_of(page, [id_]) == ["lynx"]
