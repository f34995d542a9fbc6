"""Detectors: what finds animals, persons and vehicles on images. ONNX graphs, run by OpenVINO on the CPU.

A detector that `birder train-detector` wrote becomes such a graph as it is opened.

Three forms of output are understood, told apart by their shapes and the graph's metadata. N is the number of boxes, C
of classes; boxes are in pixels of the input.

- YOLOv5's (1, N, 5 + C): centre, width and height, objectness, class scores; MegaDetector v5 is one of these.
- YOLO's without objectness, (1, 4 + C, N): centre, width and height, class scores; MegaDetector v6 and v1000, and the
  detector that ships with Birder.
- End to end, (1, N, 6): corners, score, class; the graph has suppressed what overlaps.

Inputs are (1, 3, H, W), RGB in [0, 1], letterboxed: resized to fit, centred, and filled up with grey.
"""

from __future__ import annotations

import ast
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import openvino
from PIL import Image

from birder.errors import WeightsError
from birder.images.decode import to_rgb
from birder.inference.engine_openvino import GRAPH, converted, graphs_folder, is_kept, keep_graph, read_facts
from birder.inference.first_touch import touch
from birder.weights.detector import CHECKPOINTS, load_detector
from birder.weights.hub import check_is_file, sha256_of

Category = Literal["animal", "person", "vehicle"]
CATEGORIES: tuple[Category, ...] = ("animal", "person", "vehicle")
"""MegaDetector's, in its order."""
_OF_NAMES: dict[Category, frozenset[str]] = {
    "animal": frozenset(
        ["animal", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"]
    ),
    "person": frozenset(["person", "human"]),
    "vehicle": frozenset(["vehicle", "bicycle", "car", "motorcycle", "bus", "truck"]),
}
"""Names of classes by category, COCO's among them; of any other class, `GraphForm.others` says what becomes."""
_FORMS = (
    "it must have one input (1, 3, H, W) and one output: (1, N, 5 + classes) as YOLOv5 and MegaDetector v5, "
    "(1, 4 + classes, N) as later YOLOs and MegaDetector v6, or (1, N, 6) with the suppression in the graph"
)
_STRIDES = (8, 16, 32)
OVERLAP = 0.5
"""Intersection over union above which the lower of two boxes of a category is suppressed."""
CANDIDATES = 1000
MOST_BOXES = 300
"""Boxes that are compared with one another, the highest-confidence ones, and that are given; of an image."""
_LONGEST_NAMES = 100_000
_FILL = 114

Form = Literal["objectness", "classes", "end to end"]
Rows = npt.NDArray[np.float32]


class Detection(NamedTuple):
    """A box on an image.

    `x`, `y`, `width` and `height` are fractions of the image, from its upper left corner; `confidence` is between 0
    and 1. `hint` is the detector's own class, where that says more than the category: "bird".
    """

    category: Category
    confidence: float
    x: float
    y: float
    width: float
    height: float
    hint: str | None = None


class ImageDetections(NamedTuple):
    """What was found on an image.

    `name` is the image's path, or the uri of a part of a file; width and height are in pixels, of the upright image.
    `detections` is empty where nothing was found, and None where the image could not be read: `failure` says why.
    """

    name: str
    detections: tuple[Detection, ...] | None
    failure: str | None = None
    width: int = 0
    height: int = 0


class Letterbox(NamedTuple):
    """Where an image lies in the detector's input, in pixels of that."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class GraphForm:
    """What a graph's shapes and metadata say.

    Attributes
    ----------
    form
        How its output is to be read.
    names
        Names of its C classes.
    size
        Input (height, width) in pixels.
    fill
        Grey level around the image, 0 to 255.
    others
        The category of classes whose names tell none; None leaves their boxes out.
    """

    form: Form
    names: tuple[str, ...]
    size: tuple[int, int]
    fill: int
    others: Category | None = None

    def category(self, name: str) -> Category | None:
        """The category of a class."""
        return next((each for each, names in _OF_NAMES.items() if name.lower() in names), self.others)

    @property
    def boxes(self) -> int:
        """How many boxes a YOLO without anchors of this input size gives: one a cell of the strides 8, 16 and 32."""
        return sum(math.ceil(self.size[0] / each) * math.ceil(self.size[1] / each) for each in _STRIDES)


class Detector:
    """A detector, ready to run.

    Parameters
    ----------
    path
        An ONNX file, or a checkpoint in the Birder format (.pt, .safetensors). Of the classes of a checkpoint, those
        that name neither a person nor a vehicle are animals; `Detection.hint` says which.

    Attributes
    ----------
    form
        What its graph is.

    Raises
    ------
    WeightsError
        The file is not an ONNX graph, or not one of a form that is understood; or the checkpoint is not a detector's.
    """

    def __init__(self, path: str | Path) -> None:
        core = openvino.Core()
        read = _network if Path(path).suffix.lower() in CHECKPOINTS else _onnx
        graph, self.form = read(core, Path(path))
        height, width = self.form.size
        prepared = openvino.preprocess.PrePostProcessor(graph)
        given = prepared.input()
        given.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        given.model().set_layout(openvino.Layout("NCHW"))
        given.preprocess().convert_element_type(graph.input().element_type).scale(255.0)
        prepared.output().tensor().set_element_type(openvino.Type.f32)
        graph = prepared.build()
        graph.reshape([1, height, width, 3])
        hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
        self._compiled = core.compile_model(graph, "CPU", hints)
        touch(self._compiled)
        self._of_thread = threading.local()
        self._requests = openvino.AsyncInferQueue(self._compiled)
        self._requests.set_callback(self._store)

    @staticmethod
    def _store(request: openvino.InferRequest, into: tuple[dict[int, Rows], int]) -> None:
        outputs, place = into
        outputs[place] = request.get_output_tensor().data[0].copy()

    def prepare(self, image: Image.Image) -> tuple[npt.NDArray[np.uint8], Letterbox]:
        """Letterbox an image of any mode: pixels (H, W, 3) uint8, and where the image lies in them."""
        return letterboxed(image, self.form.size, self.form.fill)

    def find(self, image: Image.Image, *, min_conf: float = 0.05) -> list[Detection]:
        """Find what is on an image of any mode, as `detect` does; many threads may call it at once."""
        request: openvino.InferRequest | None = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = self._compiled.create_infer_request()
        pixels, place = self.prepare(image)
        request.infer({0: pixels[None]})
        return found(request.get_output_tensor().data[0], self.form, place, min_conf)

    def detect(
        self, images: Sequence[npt.NDArray[np.uint8]], places: Sequence[Letterbox], *, min_conf: float = 0.05
    ) -> list[list[Detection]]:
        """Find what is on images.

        Parameters
        ----------
        images, places
            From `prepare`.
        min_conf
            Boxes with a lower confidence are left out.

        Returns
        -------
        The boxes of each image, at most 300, highest confidence first.
        """
        outputs = self.run(images)
        return [found(output, self.form, place, min_conf) for output, place in zip(outputs, places, strict=True)]

    def run(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Rows]:
        """The graph's outputs, without their first axis, for images (H, W, 3) uint8 of its input's size."""
        outputs: dict[int, Rows] = {}
        for place, pixels in enumerate(images):
            self._requests.start_async({0: pixels[None]}, (outputs, place))
        self._requests.wait_all()
        return [outputs[place] for place in range(len(images))]


def letterboxed(
    image: Image.Image, size: tuple[int, int], fill: int, scale: float = 1.0
) -> tuple[npt.NDArray[np.uint8], Letterbox]:
    """Resize an image of any mode to fit (height, width), centred on grey.

    Parameters
    ----------
    fill
        The grey, 0 to 255.
    scale
        Of what fits; at most 1.

    Returns
    -------
    Pixels (H, W, 3) uint8, and where the image lies in them.
    """
    height, width = size
    scale = scale * min(width / image.width, height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    pixels = np.full((height, width, 3), fill, np.uint8)
    small = to_rgb(image).resize(inner, Image.Resampling.BILINEAR, reducing_gap=3.0)
    pixels[top : top + inner[1], left : left + inner[0]] = np.asarray(small)
    return pixels, Letterbox(left, top, *inner)


def _network(core: openvino.Core, path: Path) -> tuple[openvino.Model, GraphForm]:
    """The graph of a detector's checkpoint: made once, and kept on disk by the file's sha256."""
    check_is_file(path)
    folder = graphs_folder() / f"{sha256_of(path)}-detector"
    if not is_kept(folder):
        graph, form = _traced(path)
        keep_graph(folder, graph, asdict(form))
    facts = read_facts(folder)
    form = GraphForm(
        facts["form"], tuple(facts["names"]), (facts["size"][0], facts["size"][1]), facts["fill"], facts["others"]
    )
    return core.read_model(folder / GRAPH), form


def _traced(path: Path) -> tuple[openvino.Model, GraphForm]:
    import torch

    from birder.net.fcos import RawDetections

    detector = load_detector(path)
    height, width = detector.net.size
    module = RawDetections(detector.net, detector.rgb_stats).eval()
    graph = converted(module, torch.zeros(1, 3, height, width))
    graph.reshape([1, 3, height, width])
    return graph, GraphForm("classes", detector.classes, (height, width), detector.fill, others="animal")


def _onnx(core: openvino.Core, path: Path) -> tuple[openvino.Model, GraphForm]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror}.") from None
    try:
        # From memory, so that a graph cannot name other files to read its weights from.
        graph = core.read_model(content, b"")
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise WeightsError(f"Cannot read {path} as an ONNX graph: {reason}") from None
    return graph, read_form(graph, str(path))


def read_form(graph: openvino.Model, source: str) -> GraphForm:
    """Tell what form a graph has; `WeightsError` if it is none that is understood."""
    shapes = [(port.partial_shape, "input") for port in graph.inputs]
    shapes += [(port.partial_shape, "output") for port in graph.outputs]
    saw = ", ".join(f"{what} {shape.to_string()}" for shape, what in shapes)
    refused = f"{source} is not a detector that Birder can run: it has {saw}; {_FORMS}."
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise WeightsError(refused)
    facts = _metadata(graph)
    shape = graph.input().partial_shape
    if shape.rank.is_dynamic or len(shape) != 4 or shape[1].is_dynamic or shape[1].get_length() != 3:
        raise WeightsError(refused)
    size = _size(shape, facts, source)
    try:
        graph.reshape([1, 3, *size])
    except RuntimeError:
        raise WeightsError(f"{source} does not run at {size[0]} x {size[1]} pixels: export it for one size.") from None
    output = graph.output().partial_shape
    if output.is_dynamic or len(output) != 3 or output[0].get_length() != 1:
        raise WeightsError(refused)
    rows, columns = output[1].get_length(), output[2].get_length()
    fill = facts.get("fill", "")
    named = _names(facts)
    form = GraphForm("classes", (), size, int(fill) if fill.isascii() and fill.isdigit() and int(fill) < 256 else _FILL)
    if columns == form.boxes and rows > 4:
        kind: Form = "classes"
        count = rows - 4
    elif columns == 6 and (rows <= 1000 or (named is not None and len(named) != 1)):
        kind, count = "end to end", len(named) if named is not None else len(CATEGORIES)
    elif columns > 5 and rows > columns:
        kind, count = "objectness", columns - 5
    else:
        raise WeightsError(refused)
    names = named or (CATEGORIES if count == len(CATEGORIES) else None)
    if names is None or len(names) != count:
        raise WeightsError(
            f"The number of classes in {source} is {count}, and that of the names in its metadata {len(named or ())}: "
            "export it with the names of its classes."
        )
    if not any(name.lower() in _OF_NAMES["animal"] for name in names):
        known = ", ".join(names[:10])
        raise WeightsError(f"{source} finds no animals; its classes are {known}.")
    return GraphForm(kind, tuple(names), size, form.fill)


def found(output: Rows, form: GraphForm, place: Letterbox, min_conf: float) -> list[Detection]:
    """The boxes in a graph's output (N, 5 + C), (4 + C, N) or (N, 6) of one image."""
    boxes, scores, classes = _read(np.asarray(output, np.float32), form)
    of_class = [form.category(name) for name in form.names]
    detections = []
    for category in CATEGORIES:
        codes = [code for code, each in enumerate(of_class) if each == category]
        if not codes:
            continue
        if classes is None:
            within = scores[:, codes]
            best = within.argmax(1)
            confidences, which = within[np.arange(len(within)), best], np.asarray(codes)[best]
        else:
            confidences, which = np.where(np.isin(classes, codes), scores[:, 0], -1.0), classes
        # NaN is never kept
        likely = np.flatnonzero((confidences >= min_conf) & np.isfinite(boxes).all(1))
        order = likely[np.argsort(-confidences[likely], kind="stable")][:CANDIDATES]
        kept = order if classes is not None else order[_apart(boxes[order])]
        for i in kept[:MOST_BOXES]:
            box = _in_image(boxes[i], place)
            if box is not None:
                name = form.names[which[i]]
                hint = None if name.lower() == category else name
                detections.append(Detection(category, min(float(confidences[i]), 1.0), *box, hint))
    return sorted(detections, key=lambda each: -each.confidence)[:MOST_BOXES]


def _read(output: Rows, form: GraphForm) -> tuple[Rows, Rows, npt.NDArray[np.int64] | None]:
    """Corners (N, 4) in pixels, scores (N, C), or scores (N, 1) and classes (N) where each box has one class."""
    if form.form == "end to end":
        classes = np.nan_to_num(output[:, 5], nan=-1.0, posinf=-1.0, neginf=-1.0).round().astype(np.int64)
        inside = (classes >= 0) & (classes < len(form.names))
        return output[:, :4], output[:, 4:5], np.where(inside, classes, -1)
    rows = output if form.form == "objectness" else output.T
    centre, half = rows[:, :2], rows[:, 2:4] / 2
    boxes = np.concatenate([centre - half, centre + half], 1)
    return boxes, rows[:, 5:] * rows[:, 4:5] if form.form == "objectness" else rows[:, 4:], None


def _apart(boxes: Rows) -> npt.NDArray[np.int64]:
    """Indices of boxes (N, 4), best first, that overlap none of the better ones by more than `OVERLAP`."""
    areas = (boxes[:, 2] - boxes[:, 0]).clip(0) * (boxes[:, 3] - boxes[:, 1]).clip(0)
    left = np.arange(len(boxes))
    kept: list[int] = []
    while len(left) and len(kept) < MOST_BOXES:
        best, left = left[0], left[1:]
        kept.append(best)
        sides = np.minimum(boxes[left, 2:], boxes[best, 2:]) - np.maximum(boxes[left, :2], boxes[best, :2])
        shared = sides.clip(0).prod(1)
        left = left[shared <= OVERLAP * (areas[left] + areas[best] - shared)]
    return np.array(kept, np.int64)


def _in_image(box: Rows, place: Letterbox) -> tuple[float, float, float, float] | None:
    """x, y, width and height as fractions of the image, clipped to it; None if nothing of it is on the image."""
    left, right = ((float(box[i]) - place.left) / place.width for i in (0, 2))
    top, bottom = ((float(box[i]) - place.top) / place.height for i in (1, 3))
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, 1.0), min(bottom, 1.0)
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def _metadata(graph: openvino.Model) -> Mapping[str, str]:
    """The metadata that exporters write into an ONNX file, as texts."""
    facts: dict[str, Any] = dict(graph.get_rt_info().items()).get("framework", {})
    return {key: str(value.value) for key, value in facts.items()}


def _names(facts: Mapping[str, str]) -> tuple[str, ...] | None:
    """Names of the classes, which exporters write as a Python dict or list."""
    given = facts.get("names", "")
    if not given or len(given) > _LONGEST_NAMES:
        return None
    try:
        names: Any = ast.literal_eval(given)
        values = [names[i] for i in range(len(names))]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        return None
    return tuple(values) if values and all(isinstance(each, str) for each in values) else None


def _size(shape: openvino.PartialShape, facts: Mapping[str, str], source: str) -> tuple[int, int]:
    """(height, width) of the input: the graph's own, or what its metadata says."""
    if shape[2].is_static and shape[3].is_static:
        return shape[2].get_length(), shape[3].get_length()
    try:
        height, width = ast.literal_eval(facts.get("imgsz", ""))
        if (
            isinstance(height, int)
            and isinstance(width, int)
            and 32 <= min(height, width) <= max(height, width) <= 4096
        ):
            return height, width
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    raise WeightsError(f"{source} takes images of any size and names none: export it for one size.")
