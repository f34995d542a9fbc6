"""Runs that detect, with a detector and an engine that can be followed by hand, for tests and for their processes.

The detector's boxes depend on the brightness of an image: below 0.05 it finds nothing, then a person, from 0.2 on one
animal, from 0.4 on two, from 0.6 on three.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from birder.collection.detection import Empty
from birder.pipeline.boxes import Detecting
from birder.pipeline.embed import Summary, embed_images, plan
from birder.sources import Source
from birder.weights.detector import resolve_detector
from tests.pipeline.means import TRANSFORM, Means, collection_in

ANIMALS = [(4.0, 6.0, 20.0, 30.0, 0.2), (30.0, 2.0, 60.0, 20.0, 0.4), (8.0, 40.0, 50.0, 62.0, 0.6)]
"""Boxes (left, top, right, bottom) of an input of 64 x 64, and from which brightness on they are found."""
PERSON = (0.0, 0.0, 64.0, 64.0, 0.05)


def write_detector(path: Path) -> Path:
    """A YOLO without objectness of 64 x 64 pixels whose scores depend on the mean of the input."""
    base, gate = np.zeros((1, 7, 84), np.float32), np.zeros((1, 7, 84), np.float32)
    least = np.ones((1, 7, 84), np.float32)
    for cell, (left, top, right, bottom, mean) in enumerate([*ANIMALS, PERSON]):
        base[0, :4, cell] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        score = 5 if cell == len(ANIMALS) else 4
        gate[0, score, cell], least[0, score, cell] = 1.0, mean
    constants = {"base": base, "gate": gate, "least": least}
    constants |= {name: np.array(value, np.float32) for name, value in (("steep", 1000), ("none", 0), ("sure", 0.9))}
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
            helper.make_node("Sub", ["mean", "least"], ["above"]),
            helper.make_node("Mul", ["above", "steep"], ["steeply"]),
            helper.make_node("Clip", ["steeply", "none", "sure"], ["scores"]),
            helper.make_node("Mul", ["scores", "gate"], ["gated"]),
            helper.make_node("Add", ["gated", "base"], ["output"]),
        ],
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 7, 84])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": "{0: 'animal', 1: 'person', 2: 'vehicle'}"})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def detecting(detector: Path, empty: Empty = "keep", min_conf: float = 0.2) -> Detecting:
    return Detecting(resolve_detector(detector), min_conf, empty)


def grey(path: Path, brightness: float, seed: int) -> None:
    """An image of 64 x 64 with grain, so that no two have the same content."""
    grain = np.random.default_rng(seed).uniform(-0.02, 0.02, (64, 64, 3))
    grain -= grain.mean()
    pixels = np.clip(255 * (brightness + grain), 0, 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(path)


def animals_at(brightness: float) -> int:
    return sum(brightness > least for *_, least in ANIMALS)


BRIGHTNESS = [0.02, 0.12, 0.3, 0.5, 0.8]


def draw_greys(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        grey(folder / f"{i:03}.png", BRIGHTNESS[i % len(BRIGHTNESS)], i)


def run_detecting(
    folder: Path,
    sources: Sequence[Source],
    how: Detecting,
    engine: Means | None = None,
    retry_failed: bool = False,
    **options: Any,
) -> Summary:
    collection = collection_in(folder)
    todo = plan(collection, sources, retry_failed=retry_failed, detecting=how)
    return embed_images(collection, engine or Means(), TRANSFORM, todo, draft=False, **options)


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """All rows in the order of their uris."""
    rows: list[dict[str, Any]] = collection_in(folder).to_arrow().sort_by("uri").to_pylist()
    return rows
