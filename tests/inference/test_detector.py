"""Detectors: the one that ships with Birder against TensorFlow.js, and graphs of every form with a known answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from birder.errors import WeightsError
from birder.inference.detector import Detection, Detector
from birder.weights.detector import resolve_detector

DATA = Path(__file__).parents[1] / "data"
DEFAULT = resolve_detector().path
THREE = "{0: 'animal', 1: 'person', 2: 'vehicle'}"
CELLS = 64 * 8 * 8 // 64 + 16 + 4  # of an input of 64 x 64 at the strides 8, 16 and 32


def save(path: Path, output: npt.NDArray[np.float32], size: tuple[Any, Any] = (64, 64), **metadata: str) -> Path:
    """A graph that finds the same on every image: it adds the input's mean, which it multiplies by zero."""
    inputs = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])
    found = helper.make_tensor_value_info("output", TensorProto.FLOAT, list(output.shape))
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["boxes", "nothing"], ["output"]),
        ],
        "detector",
        [inputs],
        [found],
        [numpy_helper.from_array(output, "boxes"), numpy_helper.from_array(np.array(0, np.float32), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


def rows_of(form: str, boxes: list[tuple[float, float, float, float, float, int]], classes: int = 3) -> Any:
    """The output of a form that has boxes (left, top, right, bottom in pixels, score, class)."""
    if form == "end to end":
        rows = np.zeros((1, 300, 6), np.float32)
        for row, box in zip(rows[0], boxes, strict=False):
            row[:] = box
        return rows
    count, start = (252, 5) if form == "objectness" else (84, 4)
    rows = np.zeros((count, start + classes), np.float32)
    for row, (left, top, right, bottom, score, code) in zip(rows, boxes, strict=False):
        row[:4] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        row[start + code] = score
        if form == "objectness":
            row[4], row[start + code] = 0.8, score / 0.8
    return (rows if form == "objectness" else rows.T)[None]


def find(path: Path, image: Image.Image, **options: Any) -> list[Detection]:
    detector = Detector(path)
    pixels, place = detector.prepare(image)
    return detector.detect([pixels], [place], **options)[0]


def test_shipped_detector_computes_what_its_publisher_s_graph_does() -> None:
    reference = np.load(DATA / "nanodet_tfjs.npz")
    with Image.open(DATA / "chelsea.png") as opened:
        image = np.asarray(opened.convert("RGB"))
    side = np.arange(416)
    pixels = image[side * image.shape[0] // 416][:, side * image.shape[1] // 416]  # as tests/data/SOURCES.md says
    detector = Detector(DEFAULT)
    output = detector.run([pixels])[0].T[reference["cells"]]
    np.testing.assert_allclose(output[:, 4:], reference["scores"], atol=2e-5)
    # each side's distance is the mean of eleven bins; the strides' cells are one after the other
    sides = reference["sides"].reshape(-1, 4, 11).astype(np.float64)
    shares = np.exp(sides - sides.max(2, keepdims=True))
    distances = (shares / shares.sum(2, keepdims=True)) @ np.arange(11)
    for row, distance, cell in zip(output, distances, reference["cells"], strict=True):
        stride, first = next((s, f) for s, f in ((32, 3380), (16, 2704), (8, 0)) if cell >= f)
        y, x = divmod(cell - first, 416 // stride)
        left, top, right, bottom = distance * stride
        expected = [(x + 0.5) * stride + (right - left) / 2, (y + 0.5) * stride + (bottom - top) / 2]
        np.testing.assert_allclose(row[:4], [*expected, left + right, top + bottom], atol=2e-2)


def test_shipped_detector_finds_the_cat() -> None:
    with Image.open(DATA / "chelsea.png") as image:
        best = max(find(DEFAULT, image), key=lambda each: each.confidence if each.category == "animal" else 0)
    assert best.category == "animal" and best.hint in ("cat", "dog")
    assert best.width * best.height > 0.4


@pytest.mark.parametrize("form", ["objectness", "classes", "end to end"])
def test_every_form_gives_the_boxes_that_its_graph_has(tmp_path: Path, form: str) -> None:
    boxes = [(16.0, 24.0, 48.0, 40.0, 0.75, 0), (0.0, 16.0, 8.0, 32.0, 0.5, 1), (8.0, 20.0, 32.0, 44.0, 0.25, 2)]
    path = save(tmp_path / "d.onnx", rows_of(form, boxes), names=THREE)
    assert Detector(path).form.form == form
    # an image of 128 x 64 fills the rows 16 to 48 of the input
    animal, person, vehicle = find(path, Image.new("RGB", (128, 64)))
    assert (animal.category, person.category, vehicle.category) == ("animal", "person", "vehicle")
    assert animal == pytest.approx(("animal", 0.75, 0.25, 0.25, 0.5, 0.5, None), abs=1e-6)
    assert person == pytest.approx(("person", 0.5, 0.0, 0.0, 0.125, 0.5, None), abs=1e-6)
    assert vehicle[2:6] == pytest.approx((0.125, 0.125, 0.375, 0.75), abs=1e-6)
    assert [each.confidence for each in find(path, Image.new("RGB", (128, 64)), min_conf=0.4)] == [0.75, 0.5]


_AT_ONCE = """
import sys, threading
from PIL import Image
from birder.inference.detector import Detector
detector, image, go = Detector(sys.argv[1]), Image.new("RGB", (64, 64)), threading.Event()
def find():
    go.wait()
    detector.find(image)
threads = [threading.Thread(target=find) for _ in range(8)]
for each in threads: each.start()
go.set()
for each in threads: each.join()
"""


@pytest.mark.slow
def test_threads_may_begin_at_once_in_a_fresh_process(tmp_path: Path) -> None:
    """They waited for each other forever, in one run of five; see `birder.inference.first_touch`."""
    path = save(tmp_path / "d.onnx", rows_of("classes", [(16.0, 24.0, 48.0, 40.0, 0.75, 0)]), names=THREE)
    for _ in range(2):
        subprocess.run([sys.executable, "-c", _AT_ONCE, path], check=True, timeout=60)


def test_boxes_are_clipped_to_the_image_and_those_beside_it_left_out(tmp_path: Path) -> None:
    boxes = [(-20.0, -20.0, 200.0, 200.0, 0.9, 0), (0.0, 0.0, 20.0, 10.0, 0.8, 0), (40.0, 40.0, 30.0, 50.0, 0.7, 0)]
    path = save(tmp_path / "d.onnx", rows_of("classes", boxes), names=THREE)
    (only,) = find(path, Image.new("L", (128, 64)))
    assert only[2:6] == (0.0, 0.0, 1.0, 1.0)


def test_overlapping_boxes_of_one_category_are_one(tmp_path: Path) -> None:
    same = [(10.0, 10.0, 50.0, 50.0, 0.6, 0), (11.0, 10.0, 51.0, 50.0, 0.9, 0), (10.0, 11.0, 50.0, 51.0, 0.5, 1)]
    path = save(tmp_path / "d.onnx", rows_of("classes", same), names=THREE)
    found = find(path, Image.new("RGB", (64, 64)))
    assert [(each.category, round(each.confidence, 3)) for each in found] == [("animal", 0.9), ("person", 0.5)]
    kept = save(tmp_path / "e.onnx", rows_of("end to end", same), names=THREE)  # its graph has decided
    assert len(find(kept, Image.new("RGB", (64, 64)))) == 3


def test_names_of_classes_tell_the_categories(tmp_path: Path) -> None:
    names = "['bird', 'bench', 'truck']"
    boxes = [(0.0, 0.0, 9.0, 9.0, 0.9, 0), (20.0, 20.0, 29.0, 29.0, 0.8, 1), (40.0, 40.0, 49.0, 49.0, 0.7, 2)]
    path = save(tmp_path / "d.onnx", rows_of("classes", boxes), names=names)
    assert [each[::6] for each in find(path, Image.new("RGB", (64, 64)))] == [("animal", "bird"), ("vehicle", "truck")]


def test_values_that_are_no_numbers_are_no_boxes(tmp_path: Path) -> None:
    rows = rows_of("classes", [(0.0, 0.0, 9.0, 9.0, 0.9, 0), (20.0, 20.0, 29.0, 29.0, 0.8, 0)])
    rows[0, 0, 0], rows[0, 4, 5], rows[0, 2, 6], rows[0, 4, 6] = np.nan, np.nan, np.inf, 0.9
    path = save(tmp_path / "d.onnx", rows, names=THREE)
    assert [round(each.confidence, 3) for each in find(path, Image.new("RGB", (64, 64)))] == [0.8]


def test_graph_that_takes_any_size_runs_at_the_one_its_metadata_name(tmp_path: Path) -> None:
    rows = rows_of("classes", [(0.0, 0.0, 32.0, 32.0, 0.9, 0)])
    assert Detector(save(tmp_path / "d.onnx", rows, ("h", "w"), names=THREE, imgsz="[64, 64]")).form.size == (64, 64)
    with pytest.raises(WeightsError, match="export it for one size"):
        Detector(save(tmp_path / "e.onnx", rows, ("h", "w"), names=THREE))


@pytest.mark.parametrize(
    ("shape", "metadata", "reason"),
    [
        ((1, 10), {"names": THREE}, r"output \[1,10\].*must have one input"),
        ((2, 252, 8), {"names": THREE}, "must have one input"),
        ((1, 252, 8), {"names": "{0: 'animal'}"}, "is 3, and that of the names in its metadata 1"),
        ((1, 252, 10), {}, "is 5, and that of the names in its metadata 0"),
        ((1, 252, 8), {"names": "['cup', 'fork', 'spoon']"}, "finds no animals; its classes are cup, fork, spoon"),
        ((1, 252, 10), {"names": "__import__('os').system('true')"}, "is 5, and that of the names in its metadata 0"),
    ],
)
def test_graph_of_another_form_is_refused_with_what_was_found(
    tmp_path: Path, shape: tuple[int, ...], metadata: dict[str, str], reason: str
) -> None:
    path = save(tmp_path / "d.onnx", np.zeros(shape, np.float32), (64, 64), **metadata)
    with pytest.raises(WeightsError, match=reason):
        Detector(path)


def test_file_that_is_not_a_graph_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    whole = save(tmp_path / "d.onnx", rows_of("classes", []), names=THREE).read_bytes()
    for content in (b"", b"not a graph", whole[: len(whole) // 2], np.random.default_rng(0).bytes(5000)):
        broken.write_bytes(content)
        with pytest.raises(WeightsError, match=r"broken\.onnx"):
            Detector(broken)
    with pytest.raises(WeightsError, match="No such file"):
        Detector(tmp_path / "none.onnx")


def test_graph_cannot_read_its_weights_from_another_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(rows_of("classes", [(0.0, 0.0, 9.0, 9.0, 0.9, 0)]).tobytes())
    model = onnx.load_model_from_string(save(tmp_path / "d.onnx", rows_of("classes", []), names=THREE).read_bytes())
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, str(tmp_path / "secret"))
    tensor.ClearField("raw_data")
    (tmp_path / "e.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError):
        find(tmp_path / "e.onnx", Image.new("RGB", (64, 64)))
