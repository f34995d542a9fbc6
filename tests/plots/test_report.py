"""The report of an evaluation: everything in one page, escaped, sortable, legible for everyone, and not too large."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from birder.collection.filter import parse_filter
from birder.errors import ConfigError
from birder.plots import report_pictures
from birder.plots.report import write_report
from birder.plots.report_words import compared, difference, estimate, figure
from birder.sources.thumbnails import thumbnails
from tests.chromium import CHROMIUM, needs_chromium
from tests.factory import jpeg
from tests.plots.evaluations import NASTY, RIGHT_TO_LEFT, made, without

PLACEHOLDERS = re.compile(r"\{\{\w+\}\}")
SECTIONS = (
    "figures", "comparison", "protocols", "groups", "confusions", "classes", "ranks", "calibration", "coverage", "sets",
    "unknown", "doubtful", "made",
)  # fmt: skip


def small_jpegs(uris: Sequence[str]) -> Mapping[str, bytes]:
    return {uri: image for uri, image in thumbnails(uris, 96).items() if isinstance(image, bytes)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("images")
    names = ["Bubo bubo", "Strix aluco", RIGHT_TO_LEFT, NASTY, "Asio otus"]
    pairs = []
    for number, name in enumerate(names * 4):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
        pairs.append((name, folder / f"{number}.jpg"))
    return pairs


@pytest.fixture(scope="module")
def written(files: list[tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    evaluation, predictions = made(files)
    evaluation["notes"].append(f"A note with {NASTY}.")
    evaluation["asked"]["collection"] = f"it's {NASTY[:8]}.birder"
    return write_report(tmp_path_factory.mktemp("r") / "report", evaluation, predictions, thumbnails=small_jpegs)


def test_it_is_three_files_and_the_table_comes_back(files: list[tuple[str, Path]], tmp_path: Path) -> None:
    evaluation, predictions = made(files)
    page = write_report(tmp_path / "new" / "report", evaluation, predictions, thumbnails=small_jpegs)
    assert page == tmp_path / "new" / "report" / "report.html"
    assert {file.name for file in page.parent.iterdir()} == {"report.html", "metrics.json", "predictions.parquet"}
    assert json.loads((page.parent / "metrics.json").read_text()) == evaluation
    assert pq.read_table(page.parent / "predictions.parquet").equals(predictions)
    again = write_report(tmp_path / "again", evaluation, predictions, thumbnails=small_jpegs)
    for name in ("report.html", "metrics.json", "predictions.parquet"):
        assert (again.parent / name).read_bytes() == (page.parent / name).read_bytes()


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_written(
    files: list[tuple[str, Path]], tmp_path: Path
) -> None:
    evaluation, predictions = made(files)
    evaluation["metrics"]["brier"]["estimate"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(tmp_path / "report", evaluation, predictions, thumbnails=small_jpegs)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        write_report(tmp_path / "file", *made(files), thumbnails=small_jpegs)


def test_the_page_needs_nothing_else_and_escapes_everything(written: Path) -> None:
    page = written.read_text()
    assert NASTY not in page and "alert('x')" not in page
    assert page.count("</script>") == page.count("<script") == 1
    assert not PLACEHOLDERS.search(page.replace("{{style}}&", "").replace("{{style}}", ""))
    assert not re.search(r"@import|url\(|https?://|<link|<iframe", page)
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)"', page))
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))
    assert "default-src 'none'" in page
    assert f"<bdi>{RIGHT_TO_LEFT}</bdi>" in page


def test_the_first_screen_has_the_figure_its_interval_and_the_notes(written: Path) -> None:
    evaluation = json.loads((written.parent / "metrics.json").read_text())
    head = written.read_text().partition("<nav")[0]
    top1 = evaluation["metrics"]["top1"]
    for share in (top1["estimate"], top1["low"], top1["high"]):
        assert f"{100 * share:.1f}\u00a0%" in head
    assert f"{round(top1['estimate'] * top1['n']):,} of {top1['n']:,} images" in head
    assert "owls.safetensors" in head and "species" in head and "latitude &gt; 50" in head
    assert "12 rows were left out" in head and "37 groups" in head
    worst = evaluation["top_confusions"][0]
    assert head.index("What it gets wrong") < head.index(f"{worst['n']:,} of")
    assert head.count("<img") >= 6


def test_what_the_evaluation_lacks_is_not_on_the_page(files: list[tuple[str, Path]], tmp_path: Path) -> None:
    evaluation, predictions = made(files)
    needs = {
        "comparison": ["comparison"], "protocols": ["protocols"], "groups": ["by_group"], "confusions": ["confusion"],
        "classes": ["classes"], "ranks": ["ranks"], "calibration": ["calibration"], "coverage": ["risk_coverage"],
        "doubtful": ["doubtful"],
    }  # fmt: skip

    def sections(*keys: str) -> list[str]:
        page = write_report(tmp_path / "r", without(evaluation, *keys), predictions, thumbnails=small_jpegs)
        return re.findall(r'<section id="(\w+)"', page.read_text())

    assert sections() == ["mistakes", *SECTIONS]
    for section, keys in needs.items():
        assert sections(*keys) == [each for each in ["mistakes", *SECTIONS] if each != section]
    bare = {"schema": 1, "n": 0, "asked": {"column": "species"}, "protocols": evaluation["protocols"]}
    page = write_report(tmp_path / "bare", bare, predictions.slice(0, 0), thumbnails=small_jpegs).read_text()
    assert re.findall(r'<section id="(\w+)"', page) == ["protocols", "made"]
    assert "80.0\u00a0%" in page.partition("<nav")[0]


def test_images_are_few_and_small_however_much_there_is(files: list[tuple[str, Path]], tmp_path: Path) -> None:
    evaluation, predictions = made(files, each=30)
    asked: list[str] = []

    def large(uris: Sequence[str]) -> Mapping[str, bytes]:
        asked.extend(uris)
        return {uri: bytes(200_000) for uri in uris}

    page = write_report(tmp_path / "r", evaluation, predictions, thumbnails=large)
    assert 0 < len(asked) <= report_pictures.MOST
    assert page.stat().st_size < report_pictures.BYTES * 4 / 3 + 500_000
    none = write_report(tmp_path / "n", evaluation, predictions, thumbnails=lambda uris: {})
    assert "<img" not in none.read_text()
    assert "0.jpg" in none.read_text()  # the name stands where the image would


def test_with_many_classes_there_is_a_list_instead_of_a_matrix(files: list[tuple[str, Path]], tmp_path: Path) -> None:
    for count, drawn in ((60, True), (61, False)):
        many = [(f"class {number:03}", files[0][1]) for number in range(count)]
        evaluation, predictions = made(many, each=3)
        page = write_report(tmp_path / f"{count}", evaluation, predictions, thumbnails=small_jpegs).read_text()
        assert ('class="matrix"' in page) == drawn
        assert "Of this label" in page


def test_the_search_for_a_doubtful_label_is_a_command_line(written: Path) -> None:
    import html

    from birder.collection.schema import image_fields
    from tests.factory import card

    columns = {field.name: field.type for field in image_fields(card(4))}
    lines = [html.unescape(each) for each in re.findall(r"<code>(birder search .*?)</code>", written.read_text())]
    evaluation = json.loads((written.parent / "metrics.json").read_text())
    assert len(lines) == len(evaluation["doubtful"]) + 1
    for line, each in zip(lines, evaluation["doubtful"], strict=False):
        program, command, collection, option, where = shlex.split(line)
        assert (program, command, option) == ("birder", "search", "--where")
        assert collection == evaluation["asked"]["collection"]
        assert parse_filter(where, columns).text == f"id = '{each['id']}'"


def test_figures_in_words() -> None:
    found = {"estimate": 0.864, "low": 0.831, "high": 0.89, "n": 10, "interval": "Wilson"}
    assert estimate("top1", found) == "86.4\u00a0% (83.1 to 89.0\u00a0%)"
    assert estimate("log_loss", found | {"low": None}) == "0.864"
    assert figure("top1_5_shot").name == "Right name with 5 examples of each class"
    assert figure("something_new").name == "something new"
    assert difference("top1", {"estimate": -0.041, "low": -0.072, "high": -0.012}) == "−4.1 (−7.2 to −1.2)"
    both = {
        "names": ["a", "b"],
        "n": 600,
        "difference": {"top1": found | {"estimate": -0.02, "low": -0.05, "high": 0.01}},
    }
    said = compared(both)
    assert said.startswith("b names 2.0 percentage points more of the 600 images rightly than a (")
    assert "−1.0 to +5.0 points, which includes 0: this may be chance" in said


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_everyone_can_read_it(written: Path, browser: Any, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(written.as_uri())
    found = axe.Axe().run(page).response["violations"]
    nodes = [(each["id"], node) for each in found for node in each["nodes"]]
    assert [f"{name}: {node['html'][:120]} {node['failureSummary'][:300]}" for name, node in nodes] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing hangs over the side
    assert [url for url in asked if not url.startswith("data:image/jpeg")] == [written.as_uri()]
    assert said == []
    page.close()


@needs_chromium
@pytest.mark.slow
def test_tables_are_sorted_by_their_headings_also_by_keyboard(written: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(written.as_uri())
    numbers = page.locator("#classes tbody tr td:nth-child(3)")
    button = page.locator("#classes th", has_text="Recall").locator("button")

    def shares() -> list[float]:
        return [float(text.removesuffix("%")) for text in numbers.all_inner_texts()]

    button.focus()
    page.keyboard.press("Enter")
    assert shares() == sorted(shares())
    assert len(set(shares())) > 2
    page.keyboard.press("Space")
    assert shares() == sorted(shares(), reverse=True)
    heading = page.locator("#classes th[aria-sort]")
    assert heading.count() == 1 and heading.get_attribute("aria-sort") == "descending"
    names = page.locator("#classes th[scope=row]")
    page.locator("#classes thead button", has_text="Class").click()
    assert names.all_inner_texts() == page.evaluate(
        "names => names.sort((a, b) => a.localeCompare(b))", names.all_inner_texts()
    )
    page.close()


@needs_chromium
@pytest.mark.slow
def test_printed_it_is_black_on_white_and_whole(written: Path, browser: Any, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 900}, color_scheme="dark")
    page.goto(written.as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    page.screenshot(path=tmp_path / "print.png")
    assert np.median(np.asarray(Image.open(tmp_path / "print.png").convert("L"))) > 240
    hidden = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollHeight > e.clientHeight + 2).length"
    )
    assert hidden == 0
    assert not page.locator("nav").is_visible()
    page.close()
