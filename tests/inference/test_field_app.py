"""The exported page in Chromium, opened from a file: it names an image as Python does, and asks for nothing."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import birder
from birder.errors import ConfigError, FileExistsError
from birder.inference.export.web_runtime import web_runtime
from birder.weights.head import save_head
from birder.weights.resolve import resolve
from tests.chromium import CHROMIUM, needs_chromium
from tests.classifiers import head_of, network_file

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "node_modules" / "onnxruntime-web"
OWL = ROOT / "examples" / "photos" / "birds" / "owl.jpg"
needs_runtime = pytest.mark.skipif(not RUNTIME.is_dir(), reason="no onnxruntime-web: npm ci")
DROP = """async text => {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], 'dropped.jpg', {type: 'image/jpeg'}));
    document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


def in_python(network: Path, image: Path) -> tuple[int, float]:
    """The first class of an exported network, and its probability."""
    pixels = np.asarray(Image.open(image).convert("RGB"))[None]
    (logits,) = onnxruntime.InferenceSession(network).run(None, {"images": pixels})
    powers = np.exp(logits[0] - logits[0].max())
    return int(logits[0].argmax()), float(powers.max() / powers.sum())


@pytest.mark.slow
@needs_chromium
@needs_runtime
def test_a_page_on_a_disk_names_images_as_python_does(tmp_path: Path) -> None:
    sync = pytest.importorskip("playwright.sync_api")
    app = birder.export_to_web("efficientnet_lite0_in1k", tmp_path / "app", runtime=RUNTIME)
    labels = (tmp_path / "app" / "labels.txt").read_text("utf-8").splitlines()
    first, share = in_python(tmp_path / "app" / "model.onnx", OWL)
    said: list[str] = []
    asked: list[str] = []
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page: Any = browser.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(app.path.as_uri())
        page.wait_for_selector("#file:enabled")
        page.get_by_label("Choose an image").set_input_files(OWL)  # its label is there for a screen reader
        page.wait_for_selector("#answer:not([hidden])")
        assert page.locator("#status").text_content() == f"owl.jpg: {labels[first]}, {100 * share:.1f} %"
        assert page.locator("#names li").count() == 5
        other = next(path for path in sorted(OWL.parent.glob("*.jpg")) if path != OWL)
        page.evaluate(DROP, base64.b64encode(other.read_bytes()).decode())
        status = page.locator("#status")
        sync.expect(status).to_contain_text("dropped.jpg: ", timeout=60_000)
        assert labels[in_python(tmp_path / "app" / "model.onnx", other)[0]] in status.text_content()
        page.get_by_label("Choose an image").set_input_files(
            {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"not an image"}
        )
        sync.expect(status).to_contain_text("cannot be used as an image", timeout=60_000)
        assert page.locator("#answer").is_hidden()
        browser.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "blob:"))] == []


@needs_runtime
@pytest.mark.slow
def test_a_page_needs_names_and_a_place(tmp_path: Path) -> None:
    network = network_file(tmp_path / "vit_b16_pn_tiny.pt")
    with pytest.raises(ConfigError, match="has no class names"):
        birder.export_to_web(network, tmp_path / "app", runtime=RUNTIME)
    assert not (tmp_path / "app").exists()
    model = resolve(network).load_image_encoder()
    owls = save_head(tmp_path / "vit_b16_pn_owls.pt", head_of(model), model=model)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "index.html").write_text("mine")
    with pytest.raises(FileExistsError, match=r"index\.html already exists"):
        birder.export_to_web(owls, tmp_path / "app", runtime=RUNTIME)
    assert (tmp_path / "app" / "index.html").read_text() == "mine"


def test_a_missing_runtime_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"is not the npm package .*npm pack onnxruntime-web@1\.30\.0"):
        web_runtime(tmp_path)
    (tmp_path / "dist").mkdir()
    (tmp_path / "package.json").write_text('{"version": "0.1"}')
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / "dist" / name).write_text("")
    with pytest.raises(ConfigError, match=r"is onnxruntime-web 0\.1; Birder's page was tested with 1\.30\.0"):
        web_runtime(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BIRDER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="npm, which would fetch it, is missing"):
        web_runtime()
