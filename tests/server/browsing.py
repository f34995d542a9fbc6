"""What tests of the page share: a server of its own process, pages in Chromium, and what stands on them."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from birder.collection.storage import Content, Row, Stamp, Storage
from tests.chromium import needs_chromium
from tests.factory import collection_of, collection_of_images, write
from tests.server import live

playwright_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
expect = playwright_api.expect
expect.set_options(timeout=20_000)  # as patient as the page is with a server on a busy machine

in_browser = [pytest.mark.slow, needs_chromium]

HOSTILE = "<img src=x onerror=document.title='owned'>"


@contextlib.contextmanager
def serving(collection: Path, *options: str, port: int = 0) -> Iterator[str]:
    """A server of its own process, by default on a free port; gives its address."""
    if not port:
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


def opened(browser: Any, address: str, *, expected: str = "$^", **how: Any) -> Iterator[Any]:
    """A page at an address; in the end, the console said only what is expected, and no other machine was asked.

    It is a new tab, without anything that the browser kept of that address but the page's own files.
    """
    context = _context(browser, {"viewport": {"width": 1280, "height": 800}} | how)
    page = context.new_page()
    _forget(page, address)
    page.set_default_timeout(20_000)
    known = "location.protocol == 'http:' && (localStorage['birder:name'] ??= '')"  # who labels is not asked for
    page.add_init_script(known)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.extend([message.text] if message.type in ("error", "warning") else []))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    for each in context.pages:
        each.close()
    unexpected = [text for text in said if not re.search(expected, text)]
    elsewhere = [url for url in asked if not url.startswith((address, "blob:", "data:"))]
    assert not unexpected, unexpected
    assert not elsewhere, elsewhere
    assert asked


def _context(browser: Any, how: dict[str, Any]) -> Any:
    """A browser's context of this kind without a tab, from an earlier test or new: a second one is another person's.

    The first load of the page in a context takes two seconds of a processor, later ones take one.
    """
    kind = repr(sorted(how.items()))
    for context in browser.contexts:
        if getattr(context, "kind", None) == kind and not context.pages:
            return context
    context = browser.new_context(**how)
    context.kind = kind
    return context


def _forget(page: Any, address: str) -> None:
    """Remove what earlier tests have left in the browser."""
    page.context.clear_cookies()
    origin = re.match(r"\w+://[^/]+", address)
    assert origin is not None
    devtools = page.context.new_cdp_session(page)
    devtools.send("Storage.clearDataForOrigin", {"origin": origin[0], "storageTypes": "local_storage"})
    devtools.detach()


def total(page: Any, view: str = "gallery") -> int:
    """The first number of a view's count."""
    counter = page.locator(f"#view-{view} .count")
    expect(counter).to_have_text(re.compile(r"\d"))
    return int(re.findall(r"[\d,]+", counter.inner_text())[0].replace(",", ""))


def tiles(page: Any, view: str = "gallery") -> Any:
    return page.locator(f"#view-{view} .tile")


def tile(page: Any, index: int, view: str = "gallery") -> Any:
    """One of them by its place in the list, wherever it stands in the document."""
    return page.locator(f"#view-{view} .tile[aria-posinset='{index + 1}']")


def rows(page: Any) -> int:
    return int(page.evaluate("fetch('/api/v1/collection').then(r => r.json()).then(c => c.rows)"))


def labels_of(page: Any, ids: list[str], column: str = "label") -> list[str | None]:
    """The images that the server has, requested again."""
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


def eventually(page: Any, seen: str, number: int) -> bool:
    """Wait until the server has this many images; returns whether it has."""
    script = "where => fetch('/api/v1/ids?where=' + encodeURIComponent(where)).then(r => r.json()).then(a => a.total)"
    for _ in range(50):
        if page.evaluate(script, f"seen = '{seen}'") == number:
            return True
        page.wait_for_timeout(100)
    return False


def crops(folder: Path, start: int, end: int, size: int = 4) -> list[Row]:
    """Rows of pieces of one image, so that each has an image of its own."""
    if not (folder / "one.jpg").exists():
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((1000, 1000)).save(folder / "one.jpg")
    uri = (folder / "one.jpg").as_uri()
    vectors = np.random.default_rng(start).normal(size=(end - start, size)).astype(np.float32)
    return [
        Row(
            f"{uri}#xywh=percent:{i % 400 / 5:.4g},{i // 400 * 0.32:.4g},20,20",
            f"{i:064x}",
            Stamp(1, 1_767_225_600_000_000),
            Content(vector, 200, 200, datetime(2026, 1, 1 + i % 28, 12), None, None),
            {"label": f"kind {i % 7}", "night": i % 3 == 0, "Temp C": float(i % 40)},
        )
        for i, vector in zip(range(start, end), vectors, strict=True)
    ]


def collection_of_crops(folder: Path, rows: int) -> Path:
    """A collection of crops, with a column of booleans and one of numbers that has a space in its name."""
    collection = collection_of(folder / "crops.birder", types={"night": pa.bool_(), "Temp C": pa.float64()})
    for start in range(0, rows, 20_000):
        write(collection, crops(folder, start, min(rows, start + 20_000)))
    return collection.path


_AXE = axe.Axe().axe_script
_CONTRAST = ["color-contrast", "link-in-text-block"]
"""The rules that depend on colours."""


def store_map(collection: Storage) -> None:
    """A map of a collection as if it had been computed, which takes ten seconds of a processor."""
    rows = collection.to_arrow()
    places = np.random.default_rng(0).normal(size=(2, len(rows))).astype(np.float32)
    table = pa.table({"id": rows["id"], "x": places[0], "y": places[1], "sha256": rows["sha256"]})
    made = {b"birder": json.dumps({"neighbours": 15}).encode()}
    collection.write_side_table("map", table.replace_schema_metadata(made))


_SETTLED = """async () => {
    for (let still = 0; still < 3; still++) {  // what an element inherits changes after its parent's
        await new Promise(requestAnimationFrame);
        const changing = document.getAnimations().filter(each => each.playState === 'running');
        if (changing.length) still = -1;
        await Promise.all(changing.map(each => each.finished.catch(() => null)));
    }
}"""
"""Wait until colours have stopped changing."""


def audit(page: Any, *, contrast: bool = False) -> list[str]:
    """What axe-core (https://github.com/dequelabs/axe-core) finds wrong for people who do not see, or use no mouse.

    With `contrast`, by the rules on colours alone.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE)
    # It takes the first tab, scrolled out of sight on a phone, for a link that skips; these addresses are of views.
    options: dict[str, Any] = {"rules": {"skip-link": {"enabled": False}}, "resultTypes": ["violations"]}
    if contrast:
        options["runOnly"] = _CONTRAST
    found = page.evaluate("async options => (await axe.run(options)).violations", options)
    nodes = [(each["id"], node) for each in found for node in each["nodes"]]
    return [f"{name}: {node['html'][:120]} {node['failureSummary'][:300]}" for name, node in nodes]


def audit_both_schemes(page: Any) -> list[str]:
    """`audit` in light colours, and in dark ones what depends on colours."""
    found = audit(page)
    page.emulate_media(color_scheme="dark")
    page.evaluate(_SETTLED)
    found += [f"dark: {each}" for each in audit(page, contrast=True)]
    page.emulate_media(color_scheme="light")
    page.evaluate(_SETTLED)
    return found


@functools.cache
def _forty(labelled: int) -> TemporaryDirectory[str]:
    """The collection of `on_forty`, and its images."""
    folder = TemporaryDirectory()
    collection_of_images(Path(folder.name), labelled=labelled)
    return folder


@contextlib.contextmanager
def on_forty(browser: Any, folder: Path, *, labelled: int = 20, expected: str = "$^", **how: Any) -> Iterator[Any]:
    """A page on 40 little images in four clusters, some of them labelled; `ids` are in the gallery's order.

    The collection is c.birder in the folder, and a test's own; its images are those of other tests too.
    """
    with live.serving(Path(shutil.copytree(Path(_forty(labelled).name, "c.birder"), folder / "c.birder"))) as client:
        for page in opened(browser, str(client.base_url).removesuffix("/api/v1/"), expected=expected, **how):
            page.api = client
            page.ids = client.get("ids").json()["ids"]
            total(page)
            yield page


def label_selected(page: Any, value: str) -> None:
    """Label what is selected, and wait until it is written."""
    box = page.locator("#selection-bar .label-input")
    box.fill(value)
    box.press("Enter")
    expect(page.locator(".toast", has_text=f"is now “{value}”").last).to_be_visible()
