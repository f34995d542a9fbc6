"""Networks that were exported as PT2 files, by Birder or by the published package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from birder.errors import WeightsError
from birder.weights.checkpoint import get_channels_from_signature, get_size_from_signature, wrong_signature
from birder.weights.hub import check_is_file
from birder.weights.load import ModelInfo


def load_pt2(
    path: str | Path, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> tuple[torch.nn.Module, ModelInfo]:
    """Load a PT2 file: what was exported, as a module that gives what it was exported to give.

    Such a file is a program. Unlike checkpoints, load it only from people whom you would run a program from.

    Parameters
    ----------
    path
        The file, .pt2.
    device, dtype
        Of the parameters; default: as they were exported.

    Returns
    -------
    The module, with `size`, `input_channels` and `task` as networks have them, and its `ModelInfo`.

    Raises
    ------
    WeightsError
        The file is missing, damaged, or does not carry the birder package's extra files.
    """
    path = Path(path)
    check_is_file(path)
    texts = {"task": "", "class_to_idx": "", "signature": "", "rgb_stats": ""}
    try:
        module = torch.export.load(path, extra_files=texts).module()
    except Exception as error:  # a damaged archive can make torch raise any of Python's errors
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} is damaged or not a PT2 file ({reason[:200]}). Export it again.") from error
    try:
        classes, signature, rgb_stats = (json.loads(texts[key]) for key in ("class_to_idx", "signature", "rgb_stats"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path} does not say its classes, signature and rgb_stats, as the birder package's PT2 files do: load it "
            "with torch.export.load."
        ) from error
    if wrong := wrong_signature(signature):
        raise WeightsError(f"{path} cannot be used: {wrong}.")
    module.to(device=device, dtype=dtype)
    module.requires_grad_(False)
    found: Any = module
    found.size, found.input_channels = get_size_from_signature(signature), get_channels_from_signature(signature)
    found.task = texts["task"]
    return module, ModelInfo(classes or {}, signature, rgb_stats)
