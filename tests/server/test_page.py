"""The page in a real headless Chromium, on a real server with photographs embedded by the real model."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from birder.collection.store import Collection, Content, ModelCard, Row, Stamp

playwright_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
expect = playwright_api.expect
expect.set_options(timeout=20_000)  # as patient as the page is with a server on a busy machine

CHROMIUM = os.environ.get("BIRDER_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install it, or name it in BIRDER_CHROMIUM"),
]

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
HOSTILE = "<img src=x onerror=document.title='owned'>"


@contextlib.contextmanager
def serving(collection: Path, *options: str) -> Iterator[str]:
    """A server of its own process; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "birder", "serve", str(collection), "--port", str(port), *options]
    process = subprocess.Popen(command)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, "the server ended"
            time.sleep(0.25)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of birds and flowers, a second copy of one, a hostile name and a file that is no photograph."""
    folder = tmp_path_factory.mktemp("photos")
    shutil.copytree(PHOTOS / "birds", folder / "birds")
    shutil.copytree(PHOTOS / "plants" / "flowers", folder / "flowers")
    shutil.copy(folder / "birds" / "crow.jpg", folder / "birds" / "crow-again.jpg")
    shutil.copy(folder / "birds" / "owl.jpg", folder / "birds" / f"{HOSTILE}.jpg")
    (folder / "birds" / "broken.jpg").write_bytes(b"not a photograph")
    return folder


@pytest.fixture(scope="module")
def address(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on their collection: 46 or so rows, labelled birds and flowers by their folders."""
    collection = tmp_path_factory.mktemp("served") / "demo.birder"
    command = [sys.executable, "-m", "birder", "embed", str(photos), "--to", str(collection)]
    done = subprocess.run([*command, "--model", "efficientnet_lite0_in1k"], capture_output=True, text=True)
    assert "failed 1" in done.stderr + done.stdout, done.stderr
    with serving(collection) as where:
        yield where


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A fresh page; in the end, nothing was said on the console and nothing was asked of another machine."""
    yield from opened(browser, address)


def opened(browser: Any, address: str, *, expected: str = "$^", **how: Any) -> Iterator[Any]:
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | how))
    page = context.new_page()
    page.set_default_timeout(20_000)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert [text for text in said if not re.search(expected, text)] == []
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
    assert asked


def total(page: Any, view: str = "gallery") -> int:
    """The first number of a view's count."""
    counter = page.locator(f"#view-{view} .count")
    expect(counter).to_have_text(re.compile(r"\d"))
    return int(re.findall(r"[\d,]+", counter.inner_text())[0].replace(",", ""))


def tiles(page: Any, view: str = "gallery") -> Any:
    return page.locator(f"#view-{view} .tile")


def rows(page: Any) -> int:
    return int(page.evaluate("fetch('/api/v1/collection').then(r => r.json()).then(c => c.rows)"))


def labels_of(page: Any, ids: list[str], column: str = "label") -> list[str | None]:
    """What the server has for photographs, asked anew."""
    script = """([ids, column]) => Promise.all(ids.map(async id => {
        const photo = await (await fetch('/api/v1/photos/' + id)).json();
        return photo.row[column] ?? null;
    }))"""
    return list(page.evaluate(script, [ids, column]))


def first_ids(page: Any, number: int) -> list[str]:
    answer = page.evaluate(f"fetch('/api/v1/photos?limit={number}').then(r => r.json())")
    return [photo["id"] for photo in answer["photos"]]


def drop(page: Any, file: Path) -> None:
    """Drop a file onto the page as a person would, with its bytes."""
    data = list(file.read_bytes())
    page.evaluate(
        """([bytes, name]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/jpeg'}));
            const how = {bubbles: true, cancelable: true, dataTransfer: transfer};
            for (const kind of ['dragenter', 'dragover', 'drop'])
                document.body.dispatchEvent(new DragEvent(kind, how));
        }""",
        [data, file.name],
    )


def test_opens_with_all_photographs_and_their_pictures(page: Any) -> None:
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
    tiles(page).first.click()
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
    expect(page.locator("#view-gallery .count")).to_have_text(f"{everything} photographs")
    page.go_forward()
    expect(page.locator("#view-gallery .count")).to_have_text(re.compile(f"^{flowers} of"))
    page.get_by_role("button", name="Remove the filter on label").click()
    expect(page.locator("#view-gallery .count")).to_have_text(f"{everything} photographs")


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
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").click()
    expect(page.locator("#view-gallery .count")).to_have_text(f"{everything} photographs")


def test_a_dropped_picture_finds_itself(page: Any, photos: Path) -> None:
    total(page)
    drop(page, photos / "birds" / "tucan.jpg")
    expect(page.locator("#chips .chip.query")).to_contain_text("tucan.jpg")
    expect(page.locator("#view-gallery .count")).to_contain_text("nearest")
    expect(tiles(page).first.locator(".detail")).to_contain_text(re.compile(r"similarity (1\.000|0\.99\d)"))
    assert "tucan.jpg" in tiles(page).first.get_attribute("title")
    # A filter on top searches again, without a second upload, and a reload keeps the picture.
    uploads: list[str] = []
    page.on("request", lambda request: request.url.endswith("/embed") and uploads.append(request.url))
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
    expect(page.locator(".toast.error")).to_contain_text("Only pictures")


def test_more_like_this_and_unlike(page: Any) -> None:
    total(page)
    tiles(page).nth(3).click()
    name = page.locator(".photo-title").inner_text()
    expect(page.locator(".neighbour")).to_have_count(12)
    page.get_by_role("button", name="More like this").click()
    expect(page.locator(".photo")).to_have_count(0)
    expect(page.locator("#view-gallery .count")).to_contain_text("nearest")
    before = tiles(page).first.get_attribute("title")
    tiles(page).nth(6).click()
    expect(page.locator(".photo-title")).not_to_have_text(name)
    page.get_by_role("button", name="Unlike this").click()
    expect(page.locator("#chips .chip")).to_have_count(2)
    assert before


def test_words_without_a_text_half_explain_and_filter(page: Any) -> None:
    page.locator("#search-input").fill("flow")
    off = page.locator(".option.off")
    expect(off).to_contain_text("no text half")
    page.locator(".option", has_text="flowers").first.click()
    expect(page.locator("#chips .chip")).to_contain_text("flowers")


def test_the_photo_view_has_the_row_neighbours_and_predictions_and_turns(page: Any) -> None:
    total(page)
    tiles(page).first.click()
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
    page.reload()  # the address has the photograph; the arrows find their place again
    expect(view.locator("table.row")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(view.locator(".photo-title")).to_have_text(first)
    view.locator(".label-input").fill("from its own page")
    view.locator(".label-input").press("Enter")
    expect(page.locator(".toast")).to_contain_text("from its own page")
    page.keyboard.press("ArrowRight")  # the keys go on working
    expect(view.locator(".position")).to_have_text(re.compile("^2 of "))
    page.keyboard.press("Control+z")
    expect(page.locator(".toast", has_text="Undone")).to_be_visible()
    page.keyboard.press("Escape")
    expect(view).to_have_count(0)
    assert "photo=" not in page.url


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


def test_the_map_is_computed_coloured_lassoed_and_opens_photographs(page: Any) -> None:
    everything = total(page)
    page.locator("#tab-map").click()
    compute = page.get_by_role("button", name="Compute the map")
    expect(compute.or_(page.locator(".map-canvas"))).to_be_visible()
    if compute.is_visible():
        compute.click()
        expect(page.locator("#view-map progress")).to_be_visible()
    canvas = page.locator(".map-canvas")
    expect(canvas).to_be_visible(timeout=120_000)
    expect(page.locator("#view-map .count")).to_have_text(f"{everything} photographs")
    expect(page.locator(".legend li").first).to_contain_text("birds")
    page.get_by_role("button", name="Lasso").click()
    box = canvas.bounding_box()
    inset = 16  # the stage's corners are round
    left, top, right, bottom = inset, inset, box["width"] - inset, box["height"] - inset
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    places = [(box["x"] + x, box["y"] + y) for x, y in corners]
    page.evaluate("document.querySelector('.legend').style.pointerEvents = 'none'")
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=12)
    page.mouse.up()
    expect(page.locator(".selected-count")).to_have_text(f"{everything} selected")
    page.get_by_role("button", name="Clear the selection (Esc)").click()
    page.get_by_role("button", name="Move", exact=True).click()
    page.locator("label.choice", has_text="flowers").first.locator("input").check()
    expect(page.locator("#view-map .count")).to_have_text(re.compile(f" of {everything} points in colour"))
    # Somewhere on the map there is a point: hovering shows it, a click opens it.
    for x in range(5, 96, 3):
        for y in range(5, 96, 3):
            page.mouse.move(box["x"] + box["width"] * x / 100, box["y"] + box["height"] * y / 100)
            if page.evaluate("getComputedStyle(document.querySelector('.map-canvas')).cursor") == "pointer":
                break
        else:
            continue
        break
    expect(page.locator(".map-card")).to_be_visible()
    name = page.locator(".map-card b").inner_text()
    page.mouse.down()
    page.mouse.up()
    expect(page.locator(".photo table.row")).to_contain_text(name)


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


def eventually(page: Any, seen: str, number: int) -> bool:
    """Whether the server soon has that many photographs seen as something."""
    script = "where => fetch('/api/v1/ids?where=' + encodeURIComponent(where)).then(r => r.json()).then(a => a.total)"
    for _ in range(50):
        if page.evaluate(script, f"seen = '{seen}'") == number:
            return True
        page.wait_for_timeout(100)
    return False


def test_duplicates_stand_side_by_side(page: Any) -> None:
    page.locator("#tab-duplicates").click()
    same = page.locator(".group", has_text="The same file").filter(has_text="crow-again.jpg")
    expect(same.locator(".copy")).to_have_count(2, timeout=60_000)  # a process compares all photographs first
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
    expect(page.locator(".command code")).to_contain_text("birder embed --retry-failed --to ")


@pytest.mark.parametrize("view", ["gallery", "map", "help", "duplicates", "failures", "photo", "keys", "selection"])
def test_a_phone_never_scrolls_sideways(browser: Any, address: str, view: str) -> None:
    for page in opened(browser, address, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True):
        total(page)
        if view == "photo":
            tiles(page).first.click()
            expect(page.locator(".predictions li").first).to_be_visible()
        elif view == "keys":
            page.locator("#keys").click()
        elif view == "selection":
            tiles(page).first.locator(".check").click()
            expect(page.locator("#selection-bar")).to_be_visible()
        else:
            page.locator(f"#tab-{view}").click()
            page.wait_for_timeout(300)
        assert page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [360, 360]
        outside = """() => [...document.querySelectorAll('button, input, select, h2, .count')]
            .filter(each => each.checkVisibility({visibilityProperty: true}))
            .filter(each => !each.closest('#tabs, .strip, .copies, #filters'))
            .map(each => [each.getBoundingClientRect(), each.outerHTML.slice(0, 120)])
            .filter(([box]) => box.width && (box.right > 361 || box.left < -1))
            .map(([box, html]) => html)"""
        assert page.evaluate(outside) == []


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


def test_a_failed_request_is_told_and_tried_again(browser: Any, address: str) -> None:
    for page in opened(browser, address, expected="500 .Internal Server Error"):
        everything = total(page)
        page.route("**/api/v1/photos?*", lambda route: route.fulfill(status=500, json={"detail": "The disk is full."}))
        page.locator("#sort").select_option("label")
        alert = page.locator("#view-gallery [role=alert]")
        expect(alert).to_contain_text("The disk is full.")
        page.unroute("**/api/v1/photos?*")
        alert.get_by_role("button", name="Try again").click()
        expect(page.locator("#view-gallery .count")).to_have_text(f"{everything} photographs")


def crops(folder: Path, start: int, end: int, size: int = 4) -> list[Row]:
    """Rows that are pieces of one photograph, so that each has a picture of its own."""
    if not (folder / "one.jpg").exists():
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((1000, 1000)).save(folder / "one.jpg")
    uri = (folder / "one.jpg").as_uri()
    vectors = np.random.default_rng(start).normal(size=(end - start, size)).astype(np.float32)
    return [
        Row(
            f"{uri}#xywh=percent:{i % 400 / 5:.4g},{i // 400 * 0.32:.4g},20,20",
            f"{i:064x}",
            Stamp(1, datetime(2026, 1, 1)),
            Content(vector, 200, 200, datetime(2026, 1, 1 + i % 28, 12), None, None),
            {"label": f"kind {i % 7}", "night": i % 3 == 0, "Temp C": float(i % 40)},
        )
        for i, vector in zip(range(start, end), vectors, strict=True)
    ]


def collection_of(folder: Path, rows: int) -> Path:
    """A collection of crops, with a column of booleans and one of numbers that has a space in its name."""
    model = ModelCard("test", "test", "0" * 64, {"draft": True}, "torch", "fp32", 4)
    collection = Collection.create_or_open(folder / "crops.birder", model)
    with collection.writing():
        collection.add_columns({"night": pa.bool_(), "Temp C": pa.float64()})
        for start in range(0, rows, 20_000):
            collection.write(crops(folder, start, min(rows, start + 20_000)))
    return collection.path


@pytest.fixture
def few(tmp_path: Path) -> Iterator[str]:
    """A server on 40 rows."""
    with serving(collection_of(tmp_path, 40)) as where:
        yield where


def test_booleans_times_and_odd_names_filter(browser: Any, few: str) -> None:
    for page in opened(browser, few):
        assert total(page) == 40
        night = page.locator("details.facet", has=page.locator("summary", has_text="night"))
        if night.get_attribute("open") is None:
            night.locator("summary").click()
        night.locator("label.choice", has_text="yes").locator("input").check()
        expect(page.locator("#view-gallery .count")).to_have_text("14 of 40 photographs")
        temperature = page.locator("details.facet", has=page.locator("summary", has_text="Temp C"))
        if temperature.get_attribute("open") is None:
            temperature.locator("summary").click()
        temperature.get_by_label("To: Temp C").fill("9")
        temperature.get_by_label("To: Temp C").press("Enter")
        expect(page.locator("#view-gallery .count")).to_have_text("4 of 40 photographs")
        taken = page.locator("details.facet", has=page.locator("summary", has_text="taken_at"))
        if taken.get_attribute("open") is None:
            taken.locator("summary").click()
        taken.get_by_label("From: taken_at").fill("2026-01-05T00:00")
        taken.get_by_label("From: taken_at").press("Enter")
        expect(page.locator("#view-gallery .count")).to_have_text("2 of 40 photographs")
        expect(page.locator("#chips .chip")).to_have_count(3)
        page.reload()
        expect(page.locator("#view-gallery .count")).to_have_text("2 of 40 photographs")


def test_rows_that_came_after_the_map_are_told(browser: Any, few: str, tmp_path: Path) -> None:
    for page in opened(browser, few):
        page.locator("#tab-map").click()
        page.get_by_role("button", name="Compute the map").click()
        expect(page.locator(".map-canvas")).to_be_visible(timeout=120_000)
        expect(page.locator("#view-map .banner")).to_be_hidden()
        collection = Collection.open(tmp_path / "crops.birder")
        with collection.writing():
            collection.write(crops(tmp_path, 40, 43))
        page.reload()
        expect(page.locator("#view-map .banner")).to_contain_text("3 photographs came after the map was made")
        page.get_by_role("button", name="Compute it anew").click()
        expect(page.locator("#view-map .count")).to_have_text("43 photographs", timeout=120_000)
        expect(page.locator("#view-map .banner")).to_be_hidden()


def test_a_token_in_the_address_opens_the_page_for_good(browser: Any, tmp_path: Path) -> None:
    token = "a-long-secret-of-ours"
    with serving(collection_of(tmp_path, 6), "--token", token) as where:
        for page in opened(browser, where, expected="401 .Unauthorized"):
            assert page.locator(".tile").count() == 0
            page.goto(f"{where}/?token={token}")
            assert total(page) == 6
            expect(tiles(page).first).to_have_class(re.compile("loaded"))
            page.goto(where)
            assert total(page) == 6


def test_an_empty_collection_says_how_to_fill_it(browser: Any, tmp_path: Path) -> None:
    with serving(collection_of(tmp_path, 0)) as where:
        for page in opened(browser, where, expected="400 .Bad Request"):  # label help is refused without labels
            expect(page.get_by_role("heading", name="No photographs yet")).to_be_visible()
            expect(page.locator("#view-gallery code")).to_contain_text("birder embed PHOTOS --to ")
            for view in ("map", "help", "duplicates", "failures"):
                page.locator(f"#tab-{view}").click()
                expect(page.locator(f"#view-{view} .empty h2")).to_be_visible()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on 100,000 rows."""
    with serving(collection_of(tmp_path_factory.mktemp("many"), 100_000)) as where:
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


def test_a_hundred_thousand_photographs_scroll(browser: Any, many: str) -> None:
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
        # Coming back from another view, or from a photograph, finds the same place.
        top = page.evaluate("document.querySelector('#view-gallery .scroller').scrollTop")
        page.locator("#tab-failures").click()
        page.locator("#tab-gallery").click()
        last.click()
        expect(page.locator(".photo")).to_be_visible()
        page.keyboard.press("Escape")
        assert page.evaluate("document.querySelector('#view-gallery .scroller').scrollTop") == top
        page.wait_for_timeout(400)
        page.reload()
        expect(page.locator("#view-gallery .tile[aria-posinset='99999']")).to_be_visible()


def audit(page: Any) -> list[str]:
    """What axe-core (https://github.com/dequelabs/axe-core) finds wrong for people who do not see, or use no mouse."""
    # It takes the first tab, scrolled out of sight on a phone, for a link that skips; these addresses are of views.
    found = axe.Axe().run(page, options={"rules": {"skip-link": {"enabled": False}}}).response["violations"]
    nodes = [(each["id"], node) for each in found for node in each["nodes"]]
    return [f"{name}: {node['html'][:120]} {node['failureSummary'][:300]}" for name, node in nodes]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_an_audit_of_accessibility_finds_nothing(browser: Any, address: str, scheme: str, width: int) -> None:
    how = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "reduced_motion": "reduce"}
    for page in opened(browser, address, **how):
        expect(tiles(page).first).to_have_class(re.compile("loaded"))
        page.wait_for_load_state("networkidle")
        assert audit(page) == []
        tiles(page).first.click()
        expect(page.locator(".neighbour img.loaded").first).to_be_visible()
        expect(page.locator(".predictions li").first).to_be_visible()
        assert audit(page) == []
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        expect(page.locator(".panel")).to_be_visible()
        assert audit(page) == []
        page.keyboard.press("Escape")
        page.locator("#tab-map").click()
        page.locator("#view-map .empty button, #view-map .map-canvas").first.wait_for()
        compute = page.get_by_role("button", name="Compute the map")
        if compute.is_visible():
            assert audit(page) == []
            compute.click()
        expect(page.locator(".map-canvas")).to_be_visible(timeout=120_000)
        expect(page.locator(".legend")).to_be_visible()
        assert audit(page) == []
        page.locator("#tab-help").click()
        expect(page.locator("#view-help .tile.loaded, #view-help .empty h2").first).to_be_visible()
        assert audit(page) == []
        page.locator("#tab-duplicates").click()
        expect(page.locator("#view-duplicates img.loaded").first).to_be_visible(timeout=60_000)
        assert audit(page) == []
        page.locator("#tab-failures").click()
        expect(page.get_by_text("broken.jpg").first).to_be_visible()
        assert audit(page) == []
