"""`birder export-model --to-web`: a classifier as one page that runs in a browser, without a server and a network.

Everything is inside index.html: the network as ONNX, onnxruntime-web as WebAssembly, and the page. A browser lets a
page that was opened from a file read no other file, and so it needs none.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from birder.errors import ConfigError, ImageError, file_exists
from birder.files import replacing_folder
from birder.inference.export.check import Agreement
from birder.inference.export.run import CARD, LABELS, Precision, export_model
from birder.inference.export.web_runtime import WebRuntime, web_runtime
from birder.weights.resolve import Model, resolve

PAGE, NETWORK = "index.html", "model.onnx"
_EXPORTS = re.compile(r"export\s*\{([^{}]*)\};?\s*(//# sourceMappingURL=\S*\s*)?$")
_SHOWN = {
    "name": "Model",
    "network": "Network",
    "license": "Licence of the weights",
    "citation": "Citation",
    "weights_sha256": "sha256 of the weights",
    "precision": "Precision",
    "birder_version": "Exported by Birder",
}


@dataclass(frozen=True)
class FieldApp:
    """A page that was written: its file, all files, and how near its network is to the original."""

    path: Path
    files: tuple[Path, ...]
    agreement: Agreement


def export_to_web(
    model: str | Path | Model,
    folder: str | Path,
    *,
    size: int | None = None,
    precision: Precision = "fp32",
    calibrate: Sequence[str] = (),
    runtime: str | Path | None = None,
    force: bool = False,
    on_unreadable: Callable[[str, ImageError], None] = lambda path, error: None,
) -> FieldApp:
    """Write a classifier as a page that names an image in any browser, opened from a disk or a USB stick.

    Beside the page are the ONNX file that is inside it, `labels.txt` and the model card.

    Parameters
    ----------
    model, size, precision, calibrate, on_unreadable
        As for `birder.inference.export.run.export_model`; the model must have class names.
    folder
        The folder to write.
    runtime
        The npm package onnxruntime-web, unpacked (default: fetched with npm, and kept in Birder's cache).
    force
        Replace files that exist.

    Raises
    ------
    ConfigError
        The model has no class names, or onnxruntime-web is out of reach.
    FileExistsError
        One of the files exists, and `force` is false.
    """
    folder = Path(folder)
    found = resolve(model)
    for name in (PAGE, NETWORK, LABELS, CARD):
        if not force and (folder / name).exists():
            raise file_exists(folder / name)
    nameless = (
        f"{found.name} has no class names, so a page could name nothing: learn a classifier with birder adapt, and "
        "export that."
    )
    if found.has_classes is False:
        raise ConfigError(nameless)
    engine = web_runtime(None if runtime is None else Path(runtime))
    with replacing_folder(folder) as draft:
        done = export_model(
            found,
            draft / NETWORK,
            output="logits",
            size=size,
            precision=precision,
            with_transform=True,
            calibrate=calibrate,
            on_unreadable=on_unreadable,
        )
        if not done.classes:
            raise ConfigError(nameless)
        text = page(done.path.read_bytes(), done.classes, done.facts, engine)
        (draft / PAGE).write_text(text, "utf-8", newline="\n")
    files = tuple(folder / name for name in (PAGE, *(path.name for path in done.files)))
    return FieldApp(folder / PAGE, files, done.agreement)


def page(network: bytes, classes: Sequence[str], facts: Mapping[str, str], engine: WebRuntime) -> str:
    """The page: HTML with everything that it needs inside, and a policy that lets it load nothing else."""
    style = _own("field_app.css")
    script = f"{_as_global(engine.script)}\n{_own('field_app.js')}"
    if "</script" in script.lower():
        raise ConfigError("This onnxruntime-web cannot stand within a page: it ends a script.")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}' 'wasm-unsafe-eval'; style-src '{_hash(style)}'; "
        "img-src blob: data:; base-uri 'none'; form-action 'none'"
    )
    about = "".join(
        f"<dt>{html.escape(label)}</dt><dd>{html.escape(facts[key])}</dd>"
        for key, label in _SHOWN.items()
        if key in facts
    )
    values = {
        "policy": policy,
        "title": html.escape(facts["name"]),
        "style": style,
        "count": f"{len(classes):,}",
        "facts": f"{about}<dt>Runs on</dt><dd>onnxruntime-web {html.escape(engine.version)} (MIT)</dd>",
        "labels": json.dumps(list(classes)).replace("<", "\\u003c"),
        "model": base64.b64encode(network).decode("ascii"),
        "runtime": base64.b64encode(engine.wasm).decode("ascii"),
        "script": script,
    }
    return re.sub(r"%([a-z]+)%", lambda found: values[found[1]], _own("field_app.html"))


def _own(name: str) -> str:
    return resources.files("birder.inference.export").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _as_global(module: str) -> str:
    """A JavaScript module whose exports are left in `globalThis.ort` instead."""
    found = _EXPORTS.search(module)
    if found is None:
        raise ConfigError("This onnxruntime-web has another form than Birder knows: use the version that it names.")
    pairs = [part.split(" as ") for part in found[1].split(",")]
    names = ",".join(f"{pair[-1].strip()}:{pair[0].strip()}" for pair in pairs)
    return f"{module[: found.start()]}globalThis.ort={{{names}}};"
