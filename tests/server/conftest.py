"""Images, a server of their collection, and a browser, for the tests of the page.

browsing.py is imported when a fixture runs: the other tests need no playwright.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import shared_session

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


@pytest.fixture(scope="session")
def birds_and_flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of birds and flowers, a second copy of one, a hostile name and a file that is not an image."""
    from tests.server.browsing import HOSTILE

    folder = tmp_path_factory.mktemp("photos")
    shutil.copytree(PHOTOS / "birds", folder / "birds")
    shutil.copytree(PHOTOS / "plants" / "flowers", folder / "flowers")
    shutil.copy(folder / "birds" / "crow.jpg", folder / "birds" / "crow-again.jpg")
    shutil.copy(folder / "birds" / "owl.jpg", folder / "birds" / f"{HOSTILE}.jpg")
    (folder / "birds" / "broken.jpg").write_bytes(b"not a photograph")
    return folder


@pytest.fixture(scope="session")
def embedded(birds_and_flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their collection: 46 or so rows, labelled birds and flowers by their folders."""
    collection = tmp_path_factory.mktemp("embedded") / "demo.birder"
    command = ("embed", birds_and_flowers, "--in", collection, "--model", "efficientnet_lite0_in1k")
    assert "failed 1" in shared_session().run(*command, code=1).stderr
    return collection


@pytest.fixture(scope="module")
def address(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on a copy of that collection, which the tests of a file may change."""
    from tests.server.live import address_of

    with address_of(shutil.copytree(embedded, tmp_path_factory.mktemp("served") / "demo.birder")) as where:
        yield where


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """A Chromium; while it runs, `asyncio.run` needs a thread of its own: Playwright's loop is the main thread's."""
    from tests.chromium import CHROMIUM
    from tests.server.browsing import playwright_api

    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A fresh page; in the end, nothing was said on the console and nothing was asked of another machine."""
    from tests.server.browsing import opened

    yield from opened(browser, address)


@pytest.fixture
def few(tmp_path: Path) -> Iterator[str]:
    """A server on 40 rows."""
    from tests.server.browsing import collection_of_crops
    from tests.server.live import address_of

    with address_of(collection_of_crops(tmp_path, 40)) as where:
        yield where
