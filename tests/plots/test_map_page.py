from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from birder.analysis.projection import MapPoints, compute_map
from birder.collection.storage import Storage
from birder.errors import BirderError, UnknownNameError
from birder.plots.colouring import Categories, Scale, colour_values
from birder.plots.inline_modules import inline_modules
from birder.plots.map_image import draw_map
from birder.plots.map_page import write_map_page
from tests.chromium import CHROMIUM, needs_chromium
from tests.factory import clusters, collection_of_vectors

pytestmark = pytest.mark.slow  # maps need UMAP, images matplotlib, pages a browser

NASTY = "</script><script>alert(1)</script><!--{{xy}}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, MapPoints]:
    vectors, labels = clusters(3, 20)
    labels[0] = NASTY
    columns: dict[str, list[Any]] = {
        "label": [*labels[:-1], None],
        "height_m": [float(i) if i else None for i in range(60)],
        "taken_at": [datetime(2024, 5, 1 + i % 9) for i in range(60)],
    }
    names = [f"owls/{NASTY if i == 1 else i}.jpg" for i in range(60)]
    collection = collection_of_vectors(
        tmp_path_factory.mktemp("m") / f"c{NASTY[1:8].replace('/', '')}.birder", vectors, names=names, columns=columns
    )
    return collection, compute_map(collection)


def test_categories_are_ordered_by_frequency_and_the_rest_is_grouped(made: tuple[Storage, MapPoints]) -> None:
    collection, points = made
    found = colour_values(collection, "label", points.ids, most=2)
    assert isinstance(found, Categories)
    assert found.names == ["group 1", "group 0", "2 others"]
    assert found.counts == [20, 19, 20]
    assert np.bincount(found.codes + 1).tolist() == [1, 20, 19, 20]
    assert len(set(found.colours)) == 3
    everything = colour_values(collection, "label", points.ids)
    assert isinstance(everything, Categories)
    assert everything.names == ["group 1", "group 0", "group 2", NASTY]
    with pytest.raises(UnknownNameError, match="label"):
        colour_values(collection, "labl", points.ids)


def test_numbers_and_times_are_scales(made: tuple[Storage, MapPoints]) -> None:
    collection, points = made
    numbers, times = (colour_values(collection, name, points.ids) for name in ("height_m", "taken_at"))
    assert isinstance(numbers, Scale)
    assert isinstance(times, Scale)
    assert np.isnan(numbers.values).sum() == 1
    assert np.nanmax(numbers.values) == 59
    assert times.shown(float(times.values.min())) == "2024-05-01"


@pytest.mark.parametrize("column", [None, "label", "height_m", "taken_at"])
def test_the_drawn_map_shows_its_points(made: tuple[Storage, MapPoints], tmp_path: Path, column: str | None) -> None:
    collection, points = made
    colours = column and colour_values(collection, column, points.ids)
    draw_map(points, tmp_path / "new" / "map.png", colours or None, column)
    picture = np.asarray(Image.open(tmp_path / "new" / "map.png").convert("RGB"))
    assert picture.shape == (975, 1300, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert 0.001 < (picture < 200).any(axis=2).mean() < 0.3
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["map.png"]
    with pytest.raises(BirderError, match="not an image"):
        draw_map(points, tmp_path / "map.doc", None, None)


def test_the_map_page_is_self_contained_and_escapes_names(made: tuple[Storage, MapPoints], tmp_path: Path) -> None:
    collection, points = made
    write_map_page(collection, points, tmp_path / "map.html", colour_values(collection, "label", points.ids), "label")
    page = (tmp_path / "map.html").read_text()
    assert NASTY not in page
    assert page.count("</script>") == page.count("<script ") == 4
    assert not re.search(r"(src|href)=|@import|url\(", page)
    xy = base64.b64decode(re.search(r'<script id="xy" type="text/plain">([^<]*)<', page)[1])  # type: ignore[index]
    assert np.array_equal(np.frombuffer(xy, "<f4").reshape(-1, 2), points.xy)
    about = re.findall(r"<p>(60 images, [^<]*)</p>", page)
    assert about == [f"60 images, {collection.model.name}"]


def test_the_map_page_says_how_many_were_laid_out_and_how_many_are_missing(
    made: tuple[Storage, MapPoints], tmp_path: Path
) -> None:
    collection, points = made
    sampled = replace(points, made=points.made | {"laid_out": 1_040}, missing=2_500)
    write_map_page(collection, sampled, tmp_path / "map.html", None, None)
    line = re.findall(r"<p>(60 images, [^<]*)</p>", (tmp_path / "map.html").read_text())
    assert line == [
        f"60 images, {collection.model.name}; 1,040 of them laid out, and the others placed by these; "
        "2,500 added or changed since are not on it"
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Any, file: Path, **more: Any) -> tuple[Any, list[str], list[str]]:
    page = browser.new_page(viewport={"width": 1100, "height": 700}, **more)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page, [text for text in said if "GPU stall" not in text], asked


@needs_chromium
def test_in_a_browser_points_are_drawn_filtered_and_selected(
    made: tuple[Storage, MapPoints], tmp_path: Path, browser: Any
) -> None:
    collection, points = made
    file = tmp_path / "map.html"
    write_map_page(collection, points, file, colour_values(collection, "label", points.ids), "label")
    page, said, asked = opened(browser, file)
    box = page.locator("#map").bounding_box()

    def drawn() -> int:
        picture = tmp_path / "shot.png"
        page.locator("#map").screenshot(path=picture)
        return int((np.asarray(Image.open(picture).convert("L")) < 240).sum())

    assert drawn() > 60 * 20
    assert page.locator("#legend button").all_inner_texts()[:2] == ["group 1\n20", "group 0\n19"]

    # the names of what is under the pointer and of its label, as text
    at = page.evaluate("() => birderMap.position(1)")
    page.mouse.move(box["x"] + at["x"], box["y"] + at["y"])
    nasty_name = page.locator("#tip b").inner_text()
    assert "</script>" in nasty_name or nasty_name.endswith(".jpg")

    def lasso() -> str:
        page.keyboard.down("Shift")
        page.mouse.move(box["x"] + 3, box["y"] + 3)
        page.mouse.down()
        for x, y in ((0.99, 0.01), (0.99, 0.99), (0.01, 0.99)):
            page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=4)
        page.mouse.up()
        page.keyboard.up("Shift")
        return str(page.locator("#chosen").inner_text())

    assert lasso() == "60 selected"
    assert page.locator("#names li").count() == 60
    page.keyboard.press("Escape")
    assert page.locator("#chosen").inner_text() == "Nothing selected"
    page.locator("#legend button").first.click()
    assert lasso() == "20 selected"  # what the legend's filter fades is not selected
    page.locator("#none").click()
    page.mouse.click(box["x"] + 6, box["y"] + 6)

    # wheel and keys move it and bring it back
    before = page.evaluate("() => ({ ...birderMap.view })")
    page.mouse.wheel(0, -300)
    page.keyboard.press("ArrowLeft")
    moved = page.evaluate("() => ({ ...birderMap.view })")
    assert moved["scale"] > before["scale"] * 1.2
    assert moved["x"] != before["x"]
    page.keyboard.press("0")
    assert page.evaluate("() => birderMap.view.scale") == pytest.approx(before["scale"])
    assert asked == [file.as_uri()]
    assert said == []
    page.close()


@needs_chromium
def test_a_scale_shows_its_ends_and_dark_mode_is_dark(
    made: tuple[Storage, MapPoints], tmp_path: Path, browser: Any
) -> None:
    collection, points = made
    file = tmp_path / "map.html"
    write_map_page(collection, points, file, colour_values(collection, "taken_at", points.ids), "taken_at")
    page, said, _ = opened(browser, file, color_scheme="dark")
    assert page.locator("#scale span").all_inner_texts() == ["2024-05-01", "2024-05-09"]
    page.screenshot(path=tmp_path / "dark.png")
    assert np.median(np.asarray(Image.open(tmp_path / "dark.png").convert("L"))) < 60
    assert said == []
    page.close()


@needs_chromium
def test_webgl_and_canvas_draw_the_same_points(tmp_path: Path, browser: Any) -> None:
    script = f"{inline_modules('web/scatter/scatter.js')}\nexport {{ Scatter }};"
    page = browser.new_page(viewport={"width": 400, "height": 300})
    page.set_content("<style>canvas { width: 400px; height: 300px; position: fixed; inset: 0 }</style>")
    shots = []
    for renderer, count in (("webgl", 6000), ("2d", 6000), ("2d", 300)):
        used = page.evaluate(
            """async ([source, renderer, count]) => {
              const { Scatter } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
              document.querySelector("canvas")?.remove();
              const canvas = document.body.appendChild(document.createElement("canvas"));
              const plot = new Scatter(canvas, { renderer });
              const xy = new Float32Array(2 * count);
              for (let i = 0; i < count; i++) xy.set([(i % 3) * 5 + Math.sin(i), Math.cos(i)], 2 * i);
              plot.setPoints(xy);
              plot.setHighlighted([...Array(count).keys()].filter((i) => i % 3 === 1));
              plot.setSelected([...Array(count).keys()].filter((i) => i % 3 === 2));
              await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
              return plot.renderer;
            }""",
            [script, renderer, count],
        )
        assert used == renderer
        page.screenshot(path=tmp_path / "shot.png")
        shots.append(np.asarray(Image.open(tmp_path / "shot.png").convert("L")) < 247)  # faded ones too
    columns = [np.flatnonzero(shot.any(axis=0)) for shot in shots]
    for each in columns[1:]:
        assert abs(each.min() - columns[0].min()) < 6
        assert abs(each.max() - columns[0].max()) < 6
    page.close()
