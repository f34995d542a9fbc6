"""Exported networks as PT2 files, which PyTorch loads without Birder, and the published birder package as its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from birder.errors import ConfigError
from birder.images.transform import ClassificationTransform
from birder.inference.export.graph import FromPixels, Graph, quiet, traced


def write(
    graph: Graph,
    path: Path,
    *,
    transform: ClassificationTransform | None,
    calibration: npt.NDArray[np.float32] | None,
    facts: Mapping[str, str],
) -> None:
    """Trace and write a network; parameters as for `birder.inference.export.onnx_file.write`.

    Raises
    ------
    ConfigError
        It was to be quantised.
    """
    if calibration is not None:
        raise ConfigError("int8 is for .onnx and .xml files: nothing that loads a .pt2 runs faster with it.")
    module, example = graph.module, graph.example
    if transform is not None:
        module = FromPixels(module, transform.size, transform.mean, transform.std)
        example = torch.zeros(2, 64, 48, 3, dtype=torch.uint8)
    program = traced(module, example, any_size=transform is not None)
    program.example_inputs = None  # they would be written as well
    with quiet():
        torch.export.save(program, path, extra_files=dict(sorted(facts.items())))


def runner(path: Path, outputs: Sequence[str]) -> Callable[[npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    """The file, loaded by PyTorch."""
    with quiet():
        module = torch.export.load(path).module()

    @torch.inference_mode()
    def run(values: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        found = module(torch.from_numpy(np.require(values, requirements=["C", "W"])))
        return {name: (found[name] if isinstance(found, dict) else found).numpy() for name in outputs}

    return run


def runtime() -> str:
    """The name and version of what runs the file."""
    return f"torch {torch.__version__.split('+')[0]}"
