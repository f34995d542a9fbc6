"""Teach, in a real Chromium on a real server: what it wants, what it has learned, its two jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from birder.inference.classifier import Classifier
from tests.factory import KINDS
from tests.server.browsing import audit, expect, in_browser, label_selected, labels_of, on_forty, tile, total

pytestmark = in_browser

MEASURED = 120_000  # milliseconds that measuring may take on a busy machine


@pytest.fixture
def teach(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Teach on 40 images of four classes, 24 of them labelled, one of these wrongly."""
    with on_forty(browser, tmp_path, labelled=24) as page:
        rows = page.api.get("photos", params={"where": "label IS NOT NULL", "limit": 40}).json()["photos"]
        page.wrong = next(row["id"] for row in rows if row["label"] == "owl")
        page.api.post("labels", json={"ids": [page.wrong], "column": "label", "value": "fox", "by": "Ada"})
        page.locator("#tab-teach").click()
        expect(page.locator("#view-teach .lesson summary")).to_have_text(re.compile("Right for"), timeout=MEASURED)
        yield page


def test_it_says_what_it_wants_and_measures_once_it_has_that(browser: Any, tmp_path: Path) -> None:
    with on_forty(browser, tmp_path, labelled=0, expected="400 .Bad Request") as page:
        page.locator("#tab-teach").click()
        expect(page.get_by_role("heading", name="Teach it a few names")).to_be_visible()
        wants = page.locator("#view-teach .wants")
        expect(wants).to_contain_text("give 5 images or more of each class a label")
        expect(page.get_by_role("button", name="Name the rest")).to_be_hidden()
        assert audit(page) == []
        page.locator("#tab-gallery").click()
        for first in range(2):  # the kinds of the images take turns
            for number in range(4 + first):
                tile(page, first + 4 * number).click(modifiers=["Control"])
            label_selected(page, ["owl", "fox"][first])
            page.keyboard.press("Escape")
        page.locator("#tab-teach").click()
        expect(wants).to_have_text("It wants 5 labels of each class. Still missing: owl (1 more).")
        expect(page.locator("#view-teach .tile.loaded").first).to_be_visible()
        sure = page.locator("#view-teach .tile", has_text="owl").first
        sure.click(modifiers=["Control"])
        label_selected(page, "owl")
        expect(page.locator("#view-teach .measured")).to_contain_text("10 images of 2 classes", timeout=MEASURED)
        expect(wants).to_be_hidden()


def test_it_shows_how_good_it_is_and_what_it_doubts(teach: Any) -> None:
    page = teach
    expect(page.locator(".lesson summary")).to_have_text(re.compile(r"Right for \d+ % \(\d+ % to \d+ %\)"))
    expect(page.locator(".measured")).to_contain_text("24 images of 4 classes")
    assert audit(page) == []
    expect(page.locator(".confusions")).to_have_text(re.compile("fox taken for owl: 1 image"))
    page.get_by_role("button", name="fox taken for owl: 1 image").click()
    expect(page.locator("#view-gallery .tile")).to_have_count(1)
    assert tile(page, 0).get_attribute("data-id") == page.wrong
    page.go_back()
    doubted = page.get_by_role("button", name=re.compile("labelled fox, looks like owl"))
    expect(doubted).to_have_count(1)
    doubted.click()
    assert f"photo={page.wrong}" in page.url
    expect(page.locator(".photo .large.loaded")).to_be_visible()
    page.keyboard.press("a")
    expect(page.locator("#unwritten")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.get_by_text("It doubts none of your labels.")).to_be_visible(timeout=MEASURED)
    assert labels_of(page, [page.wrong]) == ["owl"]


def test_naming_the_rest_survives_a_reload_and_changes_no_label(teach: Any) -> None:
    page = teach
    ids = page.ids
    before = labels_of(page, ids)
    page.locator("#teach-precision").select_option("all")
    page.get_by_role("button", name="Name the rest").click()
    expect(page.get_by_role("progressbar", name="Naming")).to_be_visible()
    page.reload()
    done = page.locator(".job-done")
    expect(done).to_have_text(re.compile(r"\d+ of 16 images without a label named"), timeout=MEASURED)
    assert audit(page) == []
    assert labels_of(page, ids) == before
    named = int(re.findall(r"\d+", done.inner_text())[0])
    assert page.api.get("ids", params={"where": "predicted_label IS NOT NULL"}).json()["total"] == named
    page.get_by_role("button", name="Review the names").click()
    assert total(page, "review") == named


def test_a_job_is_cancelled_and_a_classifier_is_downloaded(teach: Any, tmp_path: Path) -> None:
    page = teach
    page.get_by_role("button", name="Name the rest").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled: nothing has been changed.")).to_be_visible()
    assert "predicted" not in page.api.get("photos").json()["photos"][0]
    page.get_by_role("button", name="Save classifier").click()
    link = page.get_by_role("link", name=re.compile(r"Download c-label\.head\.safetensors"))
    expect(link).to_be_visible(timeout=MEASURED)
    with page.expect_download() as saving:
        link.click()
    file = tmp_path / "c-label.head.safetensors"
    saving.value.save_as(file)
    assert saving.value.suggested_filename == file.name
    assert set(Classifier.load(file).classes) == set(KINDS)
