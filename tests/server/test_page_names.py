"""The names of the map's clusters, in a real Chromium."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from birder.collection.storage import Storage
from tests.factory import lay_out
from tests.server.browsing import audit, collection_of_crops, expect, in_browser, opened
from tests.server.live import address_of

pytestmark = in_browser

KINDS = [f"kind {number}" for number in range(7)]  # what collection_of_crops calls its images
BOXES = """[...document.querySelectorAll('.map-names li.here')].map(each => {
    const {left, right, top, bottom} = each.getBoundingClientRect();
    return [each.textContent, left, right, top, bottom];
})"""


def boxes(page: Any) -> dict[str, list[float]]:
    """The names that are shown, and where; none may overlap another."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    found = {name: box for name, *box in page.evaluate(BOXES)}
    for (left, right, top, bottom), (west, east, north, south) in itertools.combinations(found.values(), 2):
        assert left >= east or west >= right or top >= south or north >= bottom
    return found


def test_names_follow_zoom_filters_and_labels_and_can_be_switched_off(browser: Any, tmp_path: Path) -> None:
    collection = Storage.open(collection_of_crops(tmp_path, 140))
    labels = collection.stored_rows().to_table(["label"])["label"].to_pylist()
    noise = np.random.default_rng(0).normal(scale=0.05, size=(140, 2))
    lay_out(collection, np.array([[KINDS.index(label), 0] for label in labels]) + noise)
    with address_of(collection.path) as where:
        for page in opened(browser, where, reduced_motion="reduce"):
            page.locator("#tab-map").click()
            shown = page.locator(".map-names li.here")
            expect(shown).to_have_count(7)
            whole = boxes(page)
            assert [name for name, box in sorted(whole.items(), key=lambda each: each[1])] == KINDS
            assert audit(page) == []
            page.get_by_role("button", name="Dark colours").click()
            assert audit(page) == []
            canvas = page.locator(".map-canvas")
            canvas.focus()
            canvas.press("+")
            closer = boxes(page)
            gap = {name: box["kind 4"][0] - box["kind 3"][0] for name, box in (("whole", whole), ("closer", closer))}
            assert gap["closer"] > 1.2 * gap["whole"]
            for _ in range(12):
                canvas.press("-")
            few = boxes(page)
            assert 2 <= len(few) < 7, few  # those that would meet others are left out
            canvas.press("0")
            assert boxes(page) == whole
            page.locator(".legend-entry", has_text="kind 3").click()
            expect(shown).to_have_text(["kind 3"])
            assert boxes(page)["kind 3"][:2] == whole["kind 3"][:2]  # the filter takes room above the map
            page.locator(".legend-entry", has_text="kind 3").click()
            expect(shown).to_have_count(7)
            change = "ids => fetch('/api/v1/labels', {method: 'POST', headers: {'Content-Type': 'application/json'},"
            change += " body: JSON.stringify({ids, value: '<b>owl</b>', by: 'Ada'})}).then(answer => answer.status)"
            kinds = "fetch('/api/v1/ids?where=' + encodeURIComponent(\"label = 'kind 5'\")).then(r => r.json())"
            assert page.evaluate(change, page.evaluate(kinds)["ids"]) == 200
            expect(shown.filter(has_text="<b>owl</b>")).to_be_visible()
            button = page.get_by_role("button", name="Names of clusters")
            button.click()
            expect(page.locator(".map-names")).to_be_hidden()
            page.reload()
            expect(button).to_have_attribute("aria-pressed", "false")
            expect(page.locator(".legend-entry").first).to_be_visible()
            expect(page.locator(".map-names")).to_be_hidden()
            button.click()
            expect(shown).to_have_count(7)
