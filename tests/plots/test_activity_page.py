"""The activity report as a page and as an image: whole, escaped, and the same each time."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import birder
from birder.plots.activity_charts import Station, degrees, frame_of, ticks
from birder.plots.activity_charts import stations as station_map
from tests.chromium import CHROMIUM, needs_chromium
from tests.factory import collection_of_columns

NASTY = "</script><script>alert('x')</script>\"&<b>{{style}}$\\frac"


def made(path: Path, *, placed: bool = True) -> birder.Collection:
    """Six deployments, two of them with hostile names, and three species in 60 visits."""
    rows: dict[str, dict[str, Any]] = {}
    for number in range(60):
        place = number % 6
        row: dict[str, Any] = {"deployment": NASTY if place == 0 else f"A{place}", "sequence": f"s{number}"}
        row |= {"taken_at": datetime(2024, 5, 1, number % 24) + timedelta(days=number)}
        row |= {"label": NASTY if number % 4 == 0 else "fox" if number % 2 else "blank"}
        row |= {"latitude": -17.0 - place / 10, "longitude": 179.0 + place / 10} if placed else {}
        rows[f"file:///{number}.jpg"] = row
    collection_of_columns(path, rows)
    return birder.open_collection(path)


@pytest.mark.slow
def test_the_page_is_whole_escaped_and_the_same_each_time(tmp_path: Path) -> None:
    collection = made(tmp_path / "c.birder")
    found = collection.activity(tmp_path / "a.html", where="label != 'x'")
    page = (tmp_path / "a.html").read_text()
    assert NASTY not in page and "alert('x')" not in page and "{{style}}$" in page
    assert page.count("<script") == page.count("</script>") == 1
    assert not re.search(r"@import|url\(|https?://|<link|<iframe|src=", page)
    assert re.findall(r'<section id="(\w+)"', page) == [
        "effort", "species", "activity", "accumulation", "stations", "made"
    ]  # fmt: skip
    assert page.count("<svg") == len(found.curves) + 2 and page.count("<svg") == page.count('role="img"')
    assert page.count("<tfoot>") == 1 and f"{found.nights:,.1f}" in page and found.summary in page
    for note in found.notes:
        assert note in page
    collection.activity(tmp_path / "b.html", where="label != 'x'")
    assert (tmp_path / "b.html").read_bytes() == (tmp_path / "a.html").read_bytes()


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    collection = made(tmp_path / "c.birder", placed=False)
    collection.activity(tmp_path / "a.html", where="label = 'blank'")
    page = (tmp_path / "a.html").read_text()
    for said in ("No row has the name", "No species has 10", "No capture has", "No deployment has coordinates"):
        assert said in page
    collection.activity(tmp_path / "a.png", where="label = 'blank'")
    assert Image.open(tmp_path / "a.png").size == (1690, 1300)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_image_is_the_same_each_time(tmp_path: Path, ending: str) -> None:
    collection = made(tmp_path / "c.birder")
    for name in ("a", "b"):
        collection.activity(tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_a_map_is_as_wide_as_the_earth_there_and_crosses_180_degrees() -> None:
    frame = frame_of([Station("a", 60.0, 179.5, 3), Station("b", 60.0, -179.5, 0)])
    assert frame.longitudes.tolist() == [179.5, 180.5] and frame.narrow == pytest.approx(0.5)
    assert frame.east - frame.west == pytest.approx(1.24) and frame.north - frame.south == pytest.approx(0.01)
    assert (degrees(180.5, "E", "W"), degrees(-3.25, "N", "S")) == ("179.5° W", "3.25° S")
    assert ticks(0, 1) == pytest.approx([0, 0.5, 1]) and ticks(-17, 42) == [0, 20, 40]
    drawn = station_map([Station("a", 1, 1, 16), Station("b", 2, 1, 4)])
    assert re.findall(r' r="([\d.]+)"', drawn) == ["26.0", "13.0"]
    for across in (0.001, 0.02, 0.13, 0.17, 3, 50):  # the scale has a length, of at most a third of the map
        drawn = station_map([Station("a", 1, 1, 1), Station("b", 1 + across / 2, 1 + across, 1)])
        ((begin, end),) = re.findall(r'class="scale" x1="([\d.]+)" x2="([\d.]+)"', drawn)
        wide = float(re.findall(r'viewBox="0 0 (\d+)', drawn)[0])
        assert 20 < float(end) - float(begin) < wide / 3 and "0 km" not in re.findall(r">([\d.,]+ km)<", drawn)


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_everyone_can_read_it(tmp_path: Path, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    sync_api = pytest.importorskip("playwright.sync_api")
    made(tmp_path / "c.birder").activity(tmp_path / "a.html")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto((tmp_path / "a.html").as_uri())
        found = axe.Axe().run(page).response["violations"]
        assert [f"{each['id']}: {node['html'][:120]}" for each in found for node in each["nodes"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert said == []
        browser.close()
