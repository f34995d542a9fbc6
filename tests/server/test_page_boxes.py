"""Boxes on the page, in a real Chromium on a real server: drawn over the image, listed beside it, right or wrong."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.factory import card, collection_of, jpeg, row_of_file
from tests.server.browsing import HOSTILE, audit, expect, in_browser, labels_of, opened, tile, total
from tests.server.live import serving

pytestmark = in_browser

BOXES = [(0.1, 0.2, 0.2, 0.5), (0.4, 0.02, 0.3, 0.3), (0.72, 0.5, 0.25, 0.4)]  # from left to right
TYPES = {"category": pa.string(), "confidence": pa.float64()}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image as a whole and three boxes on it, of which one has a hostile label; and an image without any."""
    folder = tmp_path_factory.mktemp("boxes")
    rows = []
    for name in ("a", "b"):
        path = folder / f"{name}.jpg"
        path.write_bytes(jpeg(ord(name), (800, 400)))
        rows.append(row_of_file(path, np.random.default_rng(ord(name)).normal(size=4)))
    for number, box in enumerate(BOXES):
        row = row_of_file(folder / "a.jpg", np.eye(4)[number], category="animal", confidence=0.9 - number / 10)
        row.uri += "#xywh=percent:" + ",".join(f"{100 * value:g}" for value in box)
        row.sha256 = f"{number:064x}"
        row.columns["label"] = [HOSTILE, None, None][number]
        rows.append(row)
    return collection_of(folder / "c.birder", rows, model=card(4), types=TYPES).path


@pytest.fixture
def page(browser: Any, collection: Path, tmp_path: Path) -> Iterator[Any]:
    yield from on_boxes(browser, collection, tmp_path)


def on_boxes(browser: Any, collection: Path, folder: Path, **how: Any) -> Iterator[Any]:
    import shutil

    with serving(shutil.copytree(collection, folder / "c.birder")) as client:
        for page in opened(browser, str(client.base_url).removesuffix("/api/v1/"), **how):
            page.api = client
            page.ids = client.get("ids").json()["ids"]  # the whole image, its boxes from left to right, the other
            total(page)
            yield page


def open_row(page: Any, number: int) -> None:
    tile(page, number).dblclick()
    expect(page.locator(".photo .large.loaded")).to_be_visible()


def drawn(page: Any) -> list[dict[str, float]]:
    """Where the boxes are, as fractions of the image as it stands on the screen."""
    found: list[dict[str, float]] = page.evaluate(
        """() => {
            const of = document.querySelector('.photo .large').getBoundingClientRect();
            return [...document.querySelectorAll('.photo .box')].map(each => {
                const box = each.getBoundingClientRect();
                return {x: (box.left - of.left) / of.width, y: (box.top - of.top) / of.height,
                        width: box.width / of.width, height: box.height / of.height};
            }).sort((a, b) => a.x - b.x);
        }"""
    )
    return found


def fits(page: Any) -> None:
    """The boxes lie where they are on the image, to a pixel or two, as soon as the page has drawn them."""
    expect(page.locator(".photo .boxes")).to_be_visible()
    expect(page.locator(".photo .box")).to_have_count(3)
    wanted = [pytest.approx(box, abs=0.006) for box in BOXES]
    until = time.monotonic() + 5
    while True:
        seen = [[box[name] for name in ("x", "y", "width", "height")] for box in drawn(page)]
        if seen == wanted or time.monotonic() > until:
            break
        page.wait_for_timeout(20)
    assert seen == wanted


def test_all_boxes_lie_over_the_whole_image_and_follow_it(page: Any) -> None:
    open_row(page, 2)
    fits(page)
    own = page.locator(".photo .box[aria-current=true]")
    expect(own).to_have_accessible_name("Box: animal")
    beside = page.locator(".boxes-beside")
    expect(beside.locator(".neighbour")).to_have_count(4)
    expect(beside.locator(".neighbour").first).to_contain_text(HOSTILE)
    expect(beside.locator("[aria-current=true]")).to_contain_text("80 %")
    assert page.title() != "owned"
    assert audit(page) == []
    page.keyboard.press("+")
    page.keyboard.press("+")
    fits(page)
    stage = page.locator(".photo .stage").bounding_box()
    page.mouse.move(stage["x"] + 300, stage["y"] + 300)
    page.mouse.down()
    page.mouse.move(stage["x"] + 340, stage["y"] + 270, steps=4)
    page.mouse.up()
    fits(page)  # and the drag has opened no other box
    expect(page.locator(".photo .position")).to_have_text("3 of 5")
    page.set_viewport_size({"width": 1000, "height": 620})
    fits(page)
    page.keyboard.press("0")
    page.locator(".photo .box").nth(1).click()  # the small ones lie above: the third from the left
    expect(page.locator(".photo .position")).to_have_text("4 of 5")
    expect(beside.locator("[aria-current=true]")).to_contain_text("70 %")
    assert page.url.endswith(page.ids[3]) or page.ids[3] in page.url
    with page.expect_response(re.compile("/boxes")):
        page.keyboard.press("n")  # around the end
    expect(page.locator(".photo .position")).to_have_text("2 of 5")
    page.keyboard.press("Shift+N")
    expect(page.locator(".photo .position")).to_have_text("4 of 5")
    beside.get_by_role("button", name="whole image").press("Enter")
    expect(page.locator(".photo .position")).to_have_text("1 of 5")
    fits(page)
    expect(own).to_have_count(0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("w")
    expect(page.locator(".boxes")).to_be_hidden()
    expect(page.locator(".photo .large.loaded")).to_have_attribute("src", re.compile("/image$"))
    page.keyboard.press("w")
    fits(page)
    page.goto(page.url.split("#")[0])
    open_row(page, 4)
    expect(page.locator(".photo .neighbour").first).to_be_visible()
    expect(beside.locator(".neighbour")).to_have_count(0)  # an image without boxes
    expect(page.locator(".photo .box")).to_have_count(0)


def test_a_box_is_right_or_wrong_by_a_key_and_that_is_undone(page: Any) -> None:
    ids = page.ids
    open_row(page, 2)
    fits(page)
    page.keyboard.press("r")
    expect(page.locator(".toast", has_text="box is now “right”")).to_be_visible()
    expect(page.get_by_role("button", name="Box is right")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Delete")
    expect(page.locator(".toast", has_text="box is now “wrong”")).to_be_visible()
    assert labels_of(page, ids[1:4], "box") == [None, "wrong", None]
    expect(page.locator(".photo .box.wrong")).to_have_count(1)
    assert audit(page) == []
    page.keyboard.press("n")
    expect(page.locator(".photo .box")).to_have_count(2)  # it is left out, and said to be there
    expect(page.locator(".boxes-beside")).to_contain_text("1 box is marked as wrong")
    page.locator(".boxes-beside").get_by_role("button", name="Show").click()
    expect(page.locator(".photo .box.wrong")).to_have_count(1)
    page.keyboard.press("Escape")
    page.reload()
    expect(page.locator("#view-gallery .count")).to_have_text("4 images")
    assert page.api.get("ids").json()["ids"] == [ids[0], ids[1], ids[3], ids[4]]
    page.keyboard.press("Control+z")
    expect(page.locator("#view-gallery .count")).to_have_text("5 images")
    assert labels_of(page, ids[1:4], "box") == [None, "right", None]
    acts = page.api.get("labels/history").json()["acts"]
    assert [(act["column"], act["undone"]) for act in acts] == [("box", True), ("box", False)]


def test_boxes_on_a_phone_in_the_dark(browser: Any, collection: Path, tmp_path: Path) -> None:
    how = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "color_scheme": "dark"}
    for page in on_boxes(browser, collection, tmp_path, **how):
        open_row(page, 1)
        fits(page)
        assert audit(page) == []
        assert page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [360, 360]
        page.locator(".photo .box").nth(1).tap()
        expect(page.locator(".boxes-beside [aria-current=true]")).to_contain_text("70 %")


@pytest.fixture
def embedded_page(browser: Any, embedded: Path, tmp_path: Path) -> Iterator[Any]:
    """A page on images whose model is here."""
    yield from on_boxes(browser, embedded, tmp_path)


def test_boxes_are_drawn_and_corrected_with_the_pointer_and_by_keys_and_undone(embedded_page: Any) -> None:
    page = embedded_page
    open_row(page, 0)
    image = page.locator(".photo .large").bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return image["x"] + x * image["width"], image["y"] + y * image["height"]

    def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
        page.mouse.move(*at(*start))
        page.mouse.down()
        page.mouse.move(*at(*end), steps=5)
        page.mouse.up()

    page.get_by_role("button", name="Draw a box").click()
    drag((0.1, 0.1), (0.5, 0.6))
    page.get_by_label("Label of the new box").fill("marten")
    assert audit(page) == []
    page.get_by_role("button", name="Save the box").click()
    expect(page.locator(".toast", has_text="The box is added")).to_be_visible()
    own = page.locator(".photo .box[aria-current=true]")
    expect(own).to_have_accessible_name("Box: marten")
    (found,) = drawn(page)
    assert [found[name] for name in ("x", "y", "width", "height")] == pytest.approx([0.1, 0.1, 0.4, 0.5], abs=0.02)
    page.keyboard.press("d")  # another of the same image, without a pointer
    page.keyboard.press("a")  # what would decide in another place does nothing here
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".photo .box")).to_have_count(2)
    expect(page.locator(".photo .box[aria-current=true]")).to_have_accessible_name("Box: animal")
    page.keyboard.press("Shift+N")
    expect(own).to_have_accessible_name("Box: marten")
    page.keyboard.press("e")
    drag((0.5, 0.35), (0.7, 0.35))  # its right edge
    page.get_by_label("Top, percent").fill("20")
    page.get_by_label("Top, percent").press("Enter")
    expect(page.locator(".toast", has_text="The box is corrected")).to_be_visible()
    expect(own).to_have_accessible_name("Box: marten")  # its label is that of the box before
    expect(page.locator(".photo .box")).to_have_count(2)
    expect(page.locator(".boxes-beside")).to_contain_text("1 box is marked as wrong")
    fixed = drawn(page)[0]
    assert [fixed[name] for name in ("x", "y", "width", "height")] == pytest.approx([0.1, 0.2, 0.6, 0.5], abs=0.02)
    page.keyboard.press("Control+z")
    expect(page.locator(".toast", has_text="Undone")).to_be_visible()
    acts = page.api.get("labels/history").json()["acts"]
    assert [act["undone"] for act in acts[:3]] == [True, False, False]
    page.keyboard.press("e")
    page.keyboard.press("Escape")  # ends that alone
    expect(page.locator(".box-form")).to_be_hidden()
    expect(page.locator(".photo")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".photo")).to_have_count(0)
    assert page.api.get("photos", params={"where": "label = 'marten'"}).json()["total"] == 1


def test_a_box_is_not_drawn_where_it_cannot_be_embedded(page: Any) -> None:
    open_row(page, 0)
    page.keyboard.press("d")
    expect(page.locator(".toast.error")).to_contain_text(
        "has to be embedded: The weights of tiny are not on this machine"
    )
    expect(page.locator(".box-form")).to_be_hidden()
