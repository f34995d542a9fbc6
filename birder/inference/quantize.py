"""Post-training quantisation to int8, calibrated on photographs like those that will be embedded."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError
from birder.extras import need
from birder.inference import engine_openvino as ov
from birder.inference.engine import Engine, keep_float_graph, open_engine
from birder.weights.find import FoundModel

GOOD_COSINE = 0.99
"""A mean cosine below this deserves a warning: neighbours change."""
_TIMED = 2.0  # seconds, for each precision


class Quantized(NamedTuple):
    """What quantising gave.

    Attributes
    ----------
    cosine, lowest
        Between the int8 and the fp32 embedding of a photograph: the mean, and the lowest.
    calibrated_on, measured_on
        How many photographs.
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


def quantize(model: FoundModel, images: npt.NDArray[np.uint8]) -> Quantized:
    """Quantise a model to int8 and keep its graph on this machine, with the cosines and rates that were measured.

    Parameters
    ----------
    model
        From `find_model`.
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

    if len(images) < 8:
        raise ConfigError(f"Quantising needs at least 8 photographs that can be read, not {len(images)}; 100 are good.")
    import openvino

    # It would print a page of progress of its own.
    nncf.set_log_level(logging.ERROR)
    floating = ov.graph_folder(model)
    if not ov.is_kept(floating):
        keep_float_graph(model)
    held_out = images[::4]
    calibration = np.delete(images, np.s_[::4], axis=0)
    graph = openvino.Core().read_model(floating / "graph.xml")
    is_transformer = model.network.startswith("vit")
    quantized = nncf.quantize(
        graph,
        nncf.Dataset([image[None] for image in calibration]),
        subset_size=len(calibration),
        model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
    )
    folder = ov.graph_folder(model, "int8")
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
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a.astype(np.float64), b.astype(np.float64)))
    cosines: npt.NDArray[np.float64] = (a * b).sum(axis=1)
    return cosines
