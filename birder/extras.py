"""Optional dependencies: the modules that each extra installs, and the error if one is missing."""

from __future__ import annotations

import importlib.util

from birder.errors import MissingExtraError

EXTRAS: dict[str, tuple[str, ...]] = {
    "serve": ("fastapi", "python_multipart", "uvicorn"),
    "map": ("matplotlib", "umap"),
    "learn": ("mapie",),
    "heic": ("pillow_heif",),
    "remote": ("aiohttp",),
    "quantize": ("nncf",),
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "video": ("av",),
    "detector": ("faster_coco_eval",),
    "cluster": ("lance", "ray"),
    "tensorboard": ("tensorboard",),
}
"""Extra -> the modules that it installs."""


def need(extra: str, what: str) -> None:
    """Raise `MissingExtraError` unless the modules of an extra are installed; imports none of them.

    Parameters
    ----------
    extra
        A key of `EXTRAS`.
    what
        What needs it, as a user would say: "birder serve".
    """
    if any(importlib.util.find_spec(module) is None for module in EXTRAS[extra]):
        raise MissingExtraError(extra, what)
