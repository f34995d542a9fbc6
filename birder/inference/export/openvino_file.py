"""Exported networks as OpenVINO files: NAME.xml, the graph, and NAME.bin, its weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from birder.extras import need
from birder.images.transform import ClassificationTransform
from birder.inference.export.graph import Graph, normalisation, quiet, traced

_SECTION = "birder"
"""The section of the runtime information that the metadata is in."""


def write(
    graph: Graph,
    path: Path,
    *,
    transform: ClassificationTransform | None,
    calibration: npt.NDArray[np.float32] | None,
    facts: Mapping[str, str],
) -> None:
    """Trace and write a network; parameters as for `birder.inference.export.onnx_file.write`."""
    with quiet():
        network = openvino.convert_model(traced(graph.module, graph.example))
    network.reshape([-1, *graph.example.shape[1:]])
    network.input().get_tensor().set_names({graph.given})
    for port, name in zip(network.outputs, graph.outputs, strict=True):
        port.get_tensor().set_names({name})
    if calibration is not None:
        network = quantised(network, calibration, graph.transformer)
    if transform is not None:
        network = with_transform(network, transform)
    save(network, path, facts)


def save(network: openvino.Model, path: Path, facts: Mapping[str, str]) -> None:
    """Add the metadata of a graph, and write it."""
    for key, value in sorted((facts | {"openvino_version": openvino.__version__}).items()):
        network.set_rt_info(value, [_SECTION, key])
    openvino.save_model(network, path, compress_to_fp16=False)


def quantised(network: openvino.Model, calibration: npt.NDArray[np.float32], transformer: bool) -> openvino.Model:
    """A graph in int8, calibrated on inputs (N, 3, H, W)."""
    need("quantize", "Quantisation")
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(
        network,
        nncf.Dataset([each[None] for each in calibration]),
        subset_size=len(calibration),
        model_type=nncf.ModelType.TRANSFORMER if transformer else None,
    )


def with_transform(network: openvino.Model, transform: ClassificationTransform) -> openvino.Model:
    """A graph with the transform in front, for RGB images (B, H, W, 3) uint8 of any size."""
    scale, shift = normalisation(transform.mean, transform.std)
    prepared = openvino.preprocess.PrePostProcessor(network)
    given = prepared.input()
    given.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC")).set_spatial_dynamic_shape()
    given.model().set_layout(openvino.Layout("NCHW"))
    given.preprocess().resize(openvino.preprocess.ResizeAlgorithm.RESIZE_BICUBIC_PILLOW)
    given.preprocess().convert_element_type(openvino.Type.f32)
    # (x - mean) / scale in OpenVINO's order
    given.preprocess().mean([-each / factor for each, factor in zip(shift, scale, strict=True)])
    given.preprocess().scale([1.0 / factor for factor in scale])
    return prepared.build()


def runner(path: Path, outputs: Sequence[str]) -> Callable[[npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    """The file in OpenVINO on the CPU, in single precision where it is not quantised."""
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ports = [compiled.output(name) for name in outputs]

    def run(values: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        found = compiled(values)
        return {name: np.array(found[port]) for name, port in zip(outputs, ports, strict=True)}

    return run


def runtime() -> str:
    """The name and version of what runs the file."""
    return f"OpenVINO {openvino.__version__.split('-')[0]}"


def read_facts(path: Path) -> dict[str, str]:
    """The metadata of a file."""
    graph = openvino.Core().read_model(path)
    return {key: str(value.value) for key, value in graph.get_rt_info()[_SECTION].value.items()}
