"""Detectors as ONNX or OpenVINO files that suppress overlapping boxes themselves.

The graph is the detector's own, or traced from its checkpoint. Behind it stands what
`birder.inference.detector.found` does: the classes are joined into Birder's categories, boxes that overlap a better one
of their category are left out, and the rest is sorted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import openvino

from birder.errors import ConfigError, WeightsError
from birder.extras import need
from birder.inference.detector import (
    CANDIDATES,
    CATEGORIES,
    MOST_BOXES,
    OVERLAP,
    Detection,
    Detector,
    GraphForm,
    Letterbox,
    found,
)
from birder.inference.export import check, onnx_file, openvino_file
from birder.inference.export.graph import IMAGES
from birder.registry import DETECTION_TASK
from birder.weights.detector import CHECKPOINTS, DetectorFile, load_detector

if TYPE_CHECKING:
    import onnx

OUTPUTS = ("boxes", "scores", "classes")
LEAST_SCORE = 0.05
"""Boxes with a lower score are left out, as `birder detect` does unasked."""
_ALLOWED = 1e-4
"""Of scores, and of boxes as a share of the input's longer side."""
_SAME_SCORE = 1e-6


class Exported(NamedTuple):
    """A detector that was written: its form, its metadata, and how near the file is to it."""

    form: GraphForm
    facts: Mapping[str, str]
    agreement: check.Agreement


def network_with_suppression(path: Path, form: GraphForm) -> onnx.ModelProto:
    """A detector's graph with the suppression behind it.

    Parameters
    ----------
    path
        Its ONNX file or checkpoint.
    form
        What its graph is, from `birder.inference.detector.Detector`.

    Returns
    -------
    A graph from one image, (1, 3, H, W) float32, RGB in [0, 1], letterboxed, to `boxes` (M, 4) float32, corners in
    pixels of the input (left, top, right, bottom), `scores` (M,) float32, highest first, and `classes` (M,) int64,
    indices of the detector's own classes; M is at most 300. Boxes of one category suppress one another, whatever their
    classes are: an animal is not a dog and a cat.

    Raises
    ------
    ConfigError
        The graph has a suppression of its own.
    """
    need("export", "An ONNX file")
    import onnx
    from onnx import TensorProto, helper

    if form.form == "end to end":
        raise ConfigError(f"{path} suppresses overlapping boxes itself: it is ready to be used as it is.")
    if path.suffix.lower() in CHECKPOINTS:
        model = _traced(path)
    else:
        model = onnx.version_converter.convert_version(onnx.load(path), onnx_file.OPSET)
    _rename(model, "detector_")
    graph = model.graph
    first = 5 if form.form == "objectness" else 4
    height, width = form.size
    constants: dict[str, npt.NDArray[Any]] = {
        "first_axis": np.array([0], np.int64),
        "columns": np.array([1], np.int64),
        "half": np.array(0.5, np.float32),
        "nought": np.array(0.0, np.float32),
        "corner": np.array([width, height, width, height], np.float32),
        "most": np.array([MOST_BOXES], np.int64),
        "overlap": np.array([OVERLAP], np.float32),
        "least": np.array([np.nextafter(np.float32(LEAST_SCORE), np.float32(0))], np.float32),
        "no": np.array([0], np.int64),
        "two": np.array([2], np.int64),
        "four": np.array([4], np.int64),
        "five": np.array([5], np.int64),
        "which_box": np.array(2, np.int64),
    }
    constants["most_candidates"] = np.array([CANDIDATES], np.int64)
    nodes = [helper.make_node("Squeeze", [graph.output[0].name, "first_axis"], ["raw"])]
    # Rows are boxes
    nodes.append(
        helper.make_node("Identity", ["raw"], ["rows"])
        if form.form == "objectness"
        else helper.make_node("Transpose", ["raw"], ["rows"], perm=[1, 0])
    )
    nodes += [
        helper.make_node("Shape", ["rows"], ["how_many"], start=0, end=1),
        helper.make_node("Min", ["how_many", "most_candidates"], ["candidates"]),
        helper.make_node("Slice", ["rows", "no", "two", "columns"], ["centre"]),
        helper.make_node("Slice", ["rows", "two", "four", "columns"], ["sides"]),
        helper.make_node("Mul", ["sides", "half"], ["half_sides"]),
        helper.make_node("Sub", ["centre", "half_sides"], ["upper_left"]),
        helper.make_node("Add", ["centre", "half_sides"], ["lower_right"]),
        helper.make_node("Concat", ["upper_left", "lower_right"], ["corners"], axis=1),
        # What lies on the image; a box without any of it is nothing
        helper.make_node("Max", ["corners", "nought"], ["within"]),
        helper.make_node("Min", ["within", "corner"], ["clipped"]),
        helper.make_node("Slice", ["clipped", "no", "two", "columns"], ["clipped_upper_left"]),
        helper.make_node("Slice", ["clipped", "two", "four", "columns"], ["clipped_lower_right"]),
        helper.make_node("Sub", ["clipped_lower_right", "clipped_upper_left"], ["spans"]),
        helper.make_node("ReduceMin", ["spans", "columns"], ["least_span"], keepdims=1),
        helper.make_node("Greater", ["least_span", "nought"], ["on_image"]),
    ]
    objectness = []
    if form.form == "objectness":
        objectness = ["objectness"]
        nodes.append(helper.make_node("Slice", ["rows", "four", "five", "columns"], objectness))
    scores, which = [], []
    kinds = [name for name in CATEGORIES if any(form.category(each) == name for each in form.names)]
    for kind in kinds:
        codes = np.array([code for code, name in enumerate(form.names) if form.category(name) == kind], np.int64)
        constants |= {f"codes_{kind}": codes, f"columns_{kind}": codes + first}
        nodes += [
            helper.make_node("Gather", ["rows", f"columns_{kind}"], [f"of_{kind}"], axis=1),
            helper.make_node("ReduceMax", [f"of_{kind}", "columns"], [f"best_{kind}"], keepdims=1),
            helper.make_node("ArgMax", [f"of_{kind}"], [f"place_{kind}"], axis=1, keepdims=1),
            helper.make_node("Gather", [f"codes_{kind}", f"place_{kind}"], [f"class_{kind}"], axis=0),
        ]
        if objectness:
            nodes.append(helper.make_node("Mul", [f"best_{kind}", *objectness], [f"score_{kind}"]))
        score = f"score_{kind}" if objectness else f"best_{kind}"
        # those that are not among the best candidates are nothing
        nodes += [
            helper.make_node("TopK", [score, "candidates"], [f"likely_{kind}", f"where_{kind}"], axis=0),
            helper.make_node("ReduceMin", [f"likely_{kind}", "first_axis"], [f"least_{kind}"], keepdims=1),
            helper.make_node("Less", [score, f"least_{kind}"], [f"unlikely_{kind}"]),
            helper.make_node("Where", [f"unlikely_{kind}", "nought", score], [f"any_candidate_{kind}"]),
            helper.make_node("Where", ["on_image", f"any_candidate_{kind}", "nought"], [f"candidate_{kind}"]),
        ]
        scores.append(f"candidate_{kind}")
        which.append(f"class_{kind}")
    nodes += [
        helper.make_node("Concat", scores, ["kinds"], axis=1),
        helper.make_node("Transpose", ["kinds"], ["kinds_first"], perm=[1, 0]),
        helper.make_node("Concat", which, ["own_classes"], axis=1),
        helper.make_node("Transpose", ["own_classes"], ["classes_first"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["kinds_first", "first_axis"], ["batch_of_kinds"]),
        helper.make_node("Unsqueeze", ["corners", "first_axis"], ["batch_of_corners"]),
        helper.make_node(
            "NonMaxSuppression", ["batch_of_corners", "batch_of_kinds", "most", "overlap", "least"], ["kept"]
        ),
        helper.make_node("Gather", ["kept", "which_box"], ["kept_boxes"], axis=1),
        helper.make_node("Slice", ["kept", "columns", "far", "columns"], ["kept_places"]),
        helper.make_node("GatherND", ["kinds_first", "kept_places"], ["kept_scores"]),
        helper.make_node("GatherND", ["classes_first", "kept_places"], ["kept_classes"]),
        helper.make_node("Shape", ["kept_scores"], ["count"]),
        helper.make_node("Min", ["count", "most"], ["shown"]),
        helper.make_node("TopK", ["kept_scores", "shown"], ["scores", "order"], axis=0),
        helper.make_node("Gather", ["kept_classes", "order"], ["classes"], axis=0),
        helper.make_node("Gather", ["kept_boxes", "order"], ["places"], axis=0),
        helper.make_node("Gather", ["clipped", "places"], ["boxes"], axis=0),
    ]
    constants["far"] = np.array([3], np.int64)
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(nodes)
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(IMAGES, TensorProto.FLOAT, [1, 3, height, width]))
    graph.output.extend(
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["boxes", 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["boxes"]),
            helper.make_tensor_value_info("classes", TensorProto.INT64, ["boxes"]),
        ]
    )
    return model


def _traced(path: Path) -> onnx.ModelProto:
    """The graph of a detector's checkpoint, from (1, 3, H, W) to (1, 4 + C, P), nothing suppressed."""
    import torch

    from birder.net.fcos import RawDetections

    detector = load_detector(path)
    module = RawDetections(detector.net, detector.rgb_stats).eval()
    program = torch.export.export(module, (torch.zeros(1, 3, *detector.net.size),))
    return onnx_file.converted(program, IMAGES, ["raw_boxes"])


def export_detector(file: DetectorFile, path: Path, facts: Mapping[str, str]) -> Exported:
    """Write a detector with its suppression, and compare it; `facts` go into its metadata too.

    Raises
    ------
    ConfigError
        It suppresses boxes itself.
    WeightsError
        It is not a detector that Birder can run, or the file finds other boxes.
    """
    detector = Detector(file.path)
    form = detector.form
    model = network_with_suppression(file.path, form)
    facts = {
        **facts,
        "task": DETECTION_TASK,
        "class_to_idx": json.dumps({name: index for index, name in enumerate(form.names)}),
        "imgsz": json.dumps(list(form.size)),
        "fill": str(form.fill),
    }
    run = _write(model, path, facts)
    runtime = onnx_file.runtime() if path.suffix == ".onnx" else openvino_file.runtime()
    return Exported(form, facts, compare(detector, form, run, runtime, path.name))


def _write(model: onnx.ModelProto, path: Path, facts: Mapping[str, str]) -> check.Run:
    """Write a graph as .onnx or .xml, and give what runs the file."""
    import onnx

    if path.suffix == ".onnx":
        onnx_file.finish(model, path, {**facts, "onnx_version": onnx.__version__})
        return onnx_file.runner(path, OUTPUTS)
    network = openvino.Core().read_model(model.SerializeToString(), b"")
    openvino_file.save(network, path, facts)
    return openvino_file.runner(path, OUTPUTS)


def compare(detector: Detector, form: GraphForm, run: check.Run, runtime: str, file: str) -> check.Agreement:
    """Compare a file with `birder detect` on the images that come with Birder.

    Raises
    ------
    WeightsError
        It finds other boxes; the message says on which image, and what.
    """
    height, width = form.size
    furthest = {"boxes": 0.0, "scores": 0.0}
    images = check.check_images()
    for number, image in enumerate(images, 1):
        pixels, _ = detector.prepare(image)
        expected = found(detector.run([pixels])[0], form, Letterbox(0, 0, width, height), LEAST_SCORE)
        scaled = pixels.astype(np.float32) / np.float32(255.0)
        theirs = run(np.ascontiguousarray(scaled.transpose(2, 0, 1)[None]))
        corners = np.array([[d.x, d.y, d.x + d.width, d.y + d.height] for d in expected]).reshape(-1, 4)
        ours = {
            "boxes": corners * [width, height, width, height],
            "scores": np.array([d.confidence for d in expected]),
            "classes": np.array([_class_of(each, form) for each in expected]),
        }
        off = _furthest(theirs, ours, max(height, width))
        if off is None or max(off.values()) > _ALLOWED:
            said = "other boxes" if off is None else f"boxes and scores that are {max(off.values()):.1e} away"
            raise WeightsError(
                f"{file} was not kept: on image {number} of {len(images)} {runtime} finds {said} "
                f"({len(theirs['scores'])} boxes, birder detect {len(expected)}). Please report this, with the "
                "detector's name."
            )
        furthest = {name: max(value, off[name]) for name, value in furthest.items()}
    return check.Agreement(runtime, len(images), furthest, {}, {}, None)


def _furthest(
    theirs: Mapping[str, npt.NDArray[Any]], ours: Mapping[str, npt.NDArray[Any]], side: int
) -> dict[str, float] | None:
    """How far each box and its score are from the nearest of the other side's; None if a box has none of its class.

    A box at the very threshold, or with the lowest score of as many boxes as there may be, may be on one side alone. Of
    two boxes with the same score, either may have suppressed the other.
    """
    boxes = np.abs(theirs["boxes"][:, None] - ours["boxes"][None]).max(axis=2, initial=0.0) / side
    scores = np.abs(theirs["scores"][:, None] - ours["scores"][None])
    boxes[(scores < _SAME_SCORE) & (_overlaps(theirs["boxes"], ours["boxes"]) > OVERLAP)] = 0.0
    apart = np.where(theirs["classes"][:, None] == ours["classes"][None], np.maximum(boxes, scores), np.inf)
    furthest = {"boxes": 0.0, "scores": 0.0}
    for each, other, distances, by_name in (
        (theirs, ours, apart, {"boxes": boxes, "scores": scores}),
        (ours, theirs, apart.T, {"boxes": boxes.T, "scores": scores.T}),
    ):
        least = float(other["scores"].min()) if len(other["scores"]) == MOST_BOXES else LEAST_SCORE
        clear = np.flatnonzero(each["scores"] >= least + _ALLOWED)
        if len(clear) and not np.isfinite(distances[clear].min(axis=1, initial=np.inf)).all():
            return None
        nearest = distances[clear].argmin(axis=1) if len(clear) else clear
        for name, values in by_name.items():
            furthest[name] = max(furthest[name], float(values[clear, nearest].max(initial=0.0)))
    return furthest


def _overlaps(boxes: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Intersection over union of boxes (M, 4) and others (N, 4), corners in pixels: (M, N)."""
    corners, edges = (
        f(boxes[:, None, half], others[None, :, half])
        for f, half in ((np.maximum, slice(0, 2)), (np.minimum, slice(2, 4)))
    )
    shared = (edges - corners).clip(0).prod(axis=2)
    areas, other_areas = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, others))
    overlaps: npt.NDArray[np.float64] = shared / np.maximum(areas[:, None] + other_areas[None] - shared, 1e-9)
    return overlaps


def _class_of(detection: Detection, form: GraphForm) -> int:
    """The index of the detector's own class."""
    if detection.hint is not None:
        return form.names.index(detection.hint)
    return [name.lower() for name in form.names].index(detection.category)


def _rename(model: onnx.ModelProto, prefix: str) -> None:
    """Give everything in a graph but its input other names, so that what is added takes none of them."""
    graph = model.graph
    for node in graph.node:
        node.name = ""
    given = graph.input[0].name
    names = {name: prefix + name for node in graph.node for name in (*node.input, *node.output) if name}
    names |= {each.name: prefix + each.name for each in (*graph.initializer, *graph.output)}
    names[given] = IMAGES
    for node in graph.node:
        node.input[:] = [names[name] if name else "" for name in node.input]
        node.output[:] = [names[name] if name else "" for name in node.output]
    for each in (*graph.initializer, *graph.output):
        each.name = names[each.name]
