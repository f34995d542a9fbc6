"""Post-training quantisation to int8, calibrated on images like those that will be embedded."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError, ImageError
from birder.extras import need
from birder.images.open import open_image
from birder.images.transform import ClassificationTransform, classification_transform
from birder.inference import engine_openvino as ov
from birder.inference.engine import Engine, keep_float_graph, open_engine
from birder.registry import network_spec
from birder.vectors import unit
from birder.weights.resolve import Model

FEWEST = 8
"""Images that calibration needs."""
GOOD_COSINE = 0.99
"""A mean cosine below this deserves a warning: neighbours change."""
GOOD_GAIN = 1.1
"""A smaller gain in speed is not worth a loss in precision."""
_TIMED = 2.0  # seconds, for each precision


class Quantized(NamedTuple):
    """The result of quantising a model.

    Attributes
    ----------
    cosine, lowest
        Between the int8 and the fp32 embedding of an image: the mean, and the lowest.
    calibrated_on, measured_on
        How many images.
    rate
        Images/s of the network alone in int8, on this machine.
    usual, usual_rate
        The precision that is taken without being asked for, and its images/s.
    """

    cosine: float
    lowest: float
    calibrated_on: int
    measured_on: int
    rate: float
    usual: str
    usual_rate: float

    @property
    def gain(self) -> float:
        """How many times as fast int8 is as the usual precision."""
        return self.rate / self.usual_rate

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons not to use int8, in words."""
        found = []
        if self.gain < GOOD_GAIN:
            found.append(f"int8 is not faster on this processor. Leave --precision out: {self.usual} is better.")
        if self.cosine < GOOD_COSINE:
            found.append(
                f"the cosine is below {GOOD_COSINE}: neighbours will change. Prefer bf16 or fp32 for this model."
            )
        return tuple(found)


def calibration_images(
    model: Model, images: Sequence[str], sample: int, on_unreadable: Callable[[str, ImageError], None]
) -> npt.NDArray[np.uint8]:
    """Images as `quantize` takes them, drawn at random: the same ones for the same files.

    Parameters
    ----------
    model
        From `birder.weights.resolve.resolve`.
    images
        Files to draw from.
    sample
        How many to draw.
    on_unreadable
        Called with each image that cannot be read; another is drawn in its place.

    Returns
    -------
    (N, H, W, 3) uint8, as the model's transform makes them; N is less than `sample` if there are fewer images.
    """
    opened = open_engine(model, engine="openvino", precision="fp32")
    return draw_images(images, sample, classification_transform(opened.engine.size, opened.rgb_stats), on_unreadable)


def draw_images(
    images: Sequence[str],
    sample: int,
    transform: ClassificationTransform,
    on_unreadable: Callable[[str, ImageError], None],
) -> npt.NDArray[np.uint8]:
    """The same by a transform: (N, H, W, 3) uint8; parameters as in `calibration_images`."""
    shuffled = list(images)
    random.Random(0).shuffle(shuffled)
    pixels: list[npt.NDArray[np.uint8]] = []
    for path in shuffled:
        if len(pixels) == sample:
            break
        try:
            pixels.append(transform.to_uint8(open_image(path, draft=transform.resize_to)))
        except ImageError as error:
            on_unreadable(path, error)
    return np.stack(pixels) if pixels else np.empty((0, *transform.size, 3), np.uint8)


def quantize(model: Model, images: npt.NDArray[np.uint8]) -> Quantized:
    """Quantise a model to int8 and keep its graph on this machine, with the cosines and rates that were measured.

    Parameters
    ----------
    model
        From `birder.weights.resolve.resolve`.
    images
        (N, H, W, 3) uint8, as the model's transform makes them; N at least 8. Three quarters calibrate, the rest
        measures.

    Raises
    ------
    ConfigError
        Too few images.
    MissingExtraError
        nncf is not installed.
    """
    need("quantize", "Quantisation")
    import nncf

    if len(images) < FEWEST:
        raise ConfigError(
            f"Quantisation needs at least {FEWEST} images that can be read, not {len(images)}; better 100."
        )
    import openvino

    # It would print a page of progress of its own.
    nncf.set_log_level(logging.ERROR)
    weights = model.fetch()
    floating = ov.graph_folder(weights)
    if not ov.is_kept(floating):
        keep_float_graph(weights)
    held_out = images[::4]
    calibration = np.delete(images, np.s_[::4], axis=0)
    graph = openvino.Core().read_model(floating / "graph.xml")
    quantized = nncf.quantize(
        graph,
        nncf.Dataset([image[None] for image in calibration]),
        subset_size=len(calibration),
        model_type=nncf.ModelType.TRANSFORMER if network_spec(weights.network).transformer else None,
    )
    folder = ov.graph_folder(weights, "int8")
    facts = ov.read_facts(floating)
    ov.keep_graph(folder, quantized, facts)
    engine = ov.OpenVinoEngine(folder, "int8")
    cosines = _cosines(engine.embed(held_out), ov.OpenVinoEngine(floating, "fp32").embed(held_out))
    usual = open_engine(model, engine="openvino").engine
    result = Quantized(
        float(cosines.mean()),
        float(cosines.min()),
        len(calibration),
        len(held_out),
        _rate(engine, held_out),
        str(usual.precision),
        _rate(usual, held_out),
    )
    ov.keep_graph(folder, quantized, facts | {"quantized": result._asdict()})
    return result


def _rate(engine: Engine, images: npt.NDArray[np.uint8]) -> float:
    """Images/s."""
    batch = np.resize(images, (32, *images.shape[1:]))
    engine.embed(batch[:4])
    count, begun = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begun) < _TIMED:
        engine.embed(batch)
        count += len(batch)
    return count / seconds


def _cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    cosines: npt.NDArray[np.float64] = (unit(a.astype(np.float64)) * unit(b.astype(np.float64))).sum(axis=1)
    return cosines
