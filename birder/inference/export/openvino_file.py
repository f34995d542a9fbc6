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
from birder.inference.export.graph import IMAGES, Graph, normalisation, quiet, traced

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
    """Add the metadata of a graph, and write it; its nodes are named by their order, not by the process's count."""
    network.set_friendly_name("birder")
    for place, node in enumerate(network.get_ordered_ops()):
        if node.get_type_name() != "Parameter":
            node.set_friendly_name(f"{node.get_type_name()}_{place}")
    for key, value in sorted({**facts, "openvino_version": openvino.__version__}.items()):
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
    """A graph with the transform in front, for RGB images (B, H, W, 3) uint8 of any size.

    The two passes stand in Pillow's order: see `birder.inference.export.onnx_file.add_transform`.
    """
    import openvino.opset13 as ops

    height, width = (np.array([each], np.int64) for each in transform.size)
    (given,) = network.get_parameters()
    images = ops.parameter(openvino.PartialShape([-1, -1, -1, 3]), openvino.Type.u8, name=IMAGES)
    shape = ops.shape_of(images)
    image_height, image_width = (ops.gather(shape, np.array([axis]), np.int64(0)) for axis in (1, 2))
    is_tall = ops.greater(
        ops.subtract(image_height, height), ops.multiply(ops.subtract(image_width, width), np.array([2], np.int64))
    )
    columns_first = ops.logical_and(is_tall, ops.greater(image_height, height))
    between = ops.select(
        columns_first,
        ops.concat([ops.constant(height), image_width], 0),
        ops.concat([image_height, ops.constant(width)], 0),
    )
    x = ops.transpose(images, np.array([0, 3, 1, 2]))
    for size in (between, ops.constant(np.array(transform.size, np.int64))):
        x = ops.interpolate(
            x,
            size,
            mode="bicubic_pillow",
            shape_calculation_mode="sizes",
            axes=np.array([2, 3], np.int64),
            cube_coeff=-0.5,
        )
    scale, shift = (
        np.array(each, np.float32).reshape(1, 3, 1, 1) for each in normalisation(transform.mean, transform.std)
    )
    x = ops.add(ops.multiply(ops.convert(x, openvino.Type.f32), scale), shift)
    for target in given.output(0).get_target_inputs():
        target.replace_source_output(x.output(0))
    images.output(0).get_tensor().set_names({IMAGES})
    return openvino.Model(network.get_results(), [images])


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
