"""Exported networks as ONNX files, which onnxruntime runs in Python, R, C++, Java, on telephones and in browsers."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError
from birder.extras import need
from birder.images.transform import ClassificationTransform
from birder.inference.export.graph import IMAGES, Graph, normalisation, quiet, traced
from birder.version import __version__

if TYPE_CHECKING:
    import onnx
    import torch

_TRANSFORMED = "normalised"
"""The name of the network's own input behind a transform in the graph."""
OPSET = 18
_LARGEST = 2**31 - 1
"""Bytes of an ONNX file with its weights inside; protobuf has no larger messages."""


def write(
    graph: Graph,
    path: Path,
    *,
    transform: ClassificationTransform | None,
    calibration: npt.NDArray[np.float32] | None,
    facts: Mapping[str, str],
) -> None:
    """Trace and write a network.

    Parameters
    ----------
    graph
        The network, for inputs of float32 (B, 3, H, W) or tokens.
    path
        The file, .onnx.
    transform
        Put in front: the input is then RGB images (B, H, W, 3) uint8 of any size.
    calibration
        Inputs (N, 3, H, W) to quantise the network to int8 with; None leaves it as it is.
    facts
        The file's metadata.

    Raises
    ------
    MissingExtraError
        onnx, onnxscript or onnxruntime is not installed.
    ConfigError
        The network is too large for one file.
    """
    need("export", "An ONNX file")
    import onnx

    weights = itertools.chain(graph.module.parameters(), graph.module.buffers())
    if sum(each.numel() * each.element_size() for each in weights) > _LARGEST:
        raise ConfigError(
            f"{path.name} would be larger than 2 GB, which an ONNX file cannot be: use --precision fp16, or write "
            "OpenVINO's format, NAME.xml."
        )
    model = converted(traced(graph.module, graph.example), graph.given, graph.outputs)
    _name_the_batch(model)
    if calibration is not None:
        model = quantised(model, graph, calibration)
    if transform is not None:
        add_transform(model, transform)
    finish(model, path, {**facts, "onnx_version": onnx.__version__})


def converted(program: torch.export.ExportedProgram, given: str, outputs: Sequence[str]) -> onnx.ModelProto:
    """A traced network as an ONNX graph, without what was noted while it was made."""
    import torch

    with quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[given],
            output_names=list(outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert exported is not None  # a program is given, not a file to write
    model = exported.model_proto
    _forget_the_making(model.graph)
    return model


def finish(model: onnx.ModelProto, path: Path, facts: Mapping[str, str]) -> None:
    """Check a graph, add its metadata, and write it."""
    import onnx

    model.producer_name, model.producer_version, model.doc_string = "birder", __version__, ""
    onnx.helper.set_model_props(model, dict(sorted(facts.items())))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def quantised(model: onnx.ModelProto, graph: Graph, calibration: npt.NDArray[np.float32]) -> onnx.ModelProto:
    """A graph in int8, calibrated on inputs (N, 3, H, W)."""
    need("quantize", "Quantisation")
    import nncf

    nncf.set_log_level(logging.ERROR)
    with quiet():
        found: onnx.ModelProto = nncf.quantize(
            model,
            nncf.Dataset([{graph.given: each[None]} for each in calibration]),
            subset_size=len(calibration),
            model_type=nncf.ModelType.TRANSFORMER if graph.transformer else None,
        )
    return found


def add_transform(model: onnx.ModelProto, transform: ClassificationTransform) -> None:
    """Put the transform in front of a graph whose input is (B, 3, H, W) float32, normalised.

    Resize of onnxruntime on uint8 with `antialias` is Pillow's algorithm with Pillow's fixed-point arithmetic. Pillow
    resizes columns before rows where an image of h x w is cut down to H x W and h - H is more than 2 (w - W).
    """
    import onnx
    from onnx import TensorProto, helper

    graph = model.graph
    for node in graph.node:
        node.input[:] = [_TRANSFORMED if name == IMAGES else name for name in node.input]
    scale, shift = normalisation(transform.mean, transform.std)
    height, width = transform.size
    constants: dict[str, npt.NDArray[Any]] = {
        "transform_size": np.array([height, width], np.int64),
        "transform_height": np.array([height], np.int64),
        "transform_width": np.array([width], np.int64),
        "transform_two": np.array([2], np.int64),
        "transform_scale": np.array(scale, np.float32).reshape(1, 3, 1, 1),
        "transform_shift": np.array(shift, np.float32).reshape(1, 3, 1, 1),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    how = {
        "mode": "cubic",
        "antialias": 1,
        "cubic_coeff_a": -0.5,
        "exclude_outside": 1,
        "axes": [2, 3],
        "coordinate_transformation_mode": "half_pixel",
    }
    steps: list[tuple[str, Sequence[str], str, dict[str, Any]]] = [
        ("Shape", [IMAGES], "image_height", {"start": 1, "end": 2}),
        ("Shape", [IMAGES], "image_width", {"start": 2, "end": 3}),
        ("Sub", ["image_height", "transform_height"], "excess_height", {}),
        ("Sub", ["image_width", "transform_width"], "excess_width", {}),
        ("Mul", ["excess_width", "transform_two"], "twice_excess_width", {}),
        ("Greater", ["excess_height", "twice_excess_width"], "is_tall", {}),
        ("Greater", ["image_height", "transform_height"], "is_high", {}),
        ("And", ["is_tall", "is_high"], "columns_first", {}),
        ("Concat", ["transform_height", "image_width"], "low_size", {"axis": 0}),
        ("Concat", ["image_height", "transform_width"], "narrow_size", {"axis": 0}),
        ("Where", ["columns_first", "low_size", "narrow_size"], "between_size", {}),
        ("Transpose", [IMAGES], "image_channels", {"perm": [0, 3, 1, 2]}),
        ("Resize", ["image_channels", "", "", "between_size"], "image_between", how),
        ("Resize", ["image_between", "", "", "transform_size"], "image_resized", how),
        ("Cast", ["image_resized"], "image_floats", {"to": TensorProto.FLOAT}),
        ("Mul", ["image_floats", "transform_scale"], "image_scaled", {}),
        ("Add", ["image_scaled", "transform_shift"], _TRANSFORMED, {}),
    ]
    front = [helper.make_node(kind, given, [made], **more) for kind, given, made, more in steps]
    behind = list(graph.node)
    del graph.node[:]
    graph.node.extend([*front, *behind])
    del graph.input[:]
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    graph.input.append(helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, shape))


def runner(path: Path, outputs: Sequence[str]) -> Callable[[npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    """The file in onnxruntime on the CPU: from an input to outputs by name."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda values: dict(zip(outputs, session.run(list(outputs), {given.name: values}), strict=True))


def runtime() -> str:
    """The name and version of what runs the file."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def _forget_the_making(graph: onnx.GraphProto) -> None:
    """Remove what the exporter notes of the program's source: places and lines of files on this machine."""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]


def _name_the_batch(model: onnx.ModelProto) -> None:
    for each in (*model.graph.input, *model.graph.output):
        each.type.tensor_type.shape.dim[0].dim_param = "batch"
