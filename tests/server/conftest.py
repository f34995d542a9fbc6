"""Images, a server of their collection, and a browser, for the tests of the page.

browsing.py is imported when a fixture runs: the other tests need no playwright.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
    command = [sys.executable, "-m", "birder", "embed", str(birds_and_flowers), "--in", str(collection)]
    done = subprocess.run([*command, "--model", "efficientnet_lite0_in1k"], capture_output=True, text=True)
    assert "failed 1" in done.stderr + done.stdout, done.stderr
    return collection


@pytest.fixture(scope="module")
def address(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on a copy of that collection, which the tests of a file may change."""
    from tests.server.browsing import serving

    with serving(shutil.copytree(embedded, tmp_path_factory.mktemp("served") / "demo.birder")) as where:
        yield where


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
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
    from tests.server.browsing import collection_of_crops, serving

    with serving(collection_of_crops(tmp_path, 40)) as where:
        yield where
