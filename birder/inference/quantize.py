"""Post-training quantisation to int8, calibrated on photographs like those that will be embedded."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError
from birder.inference import engine_openvino as ov
from birder.inference.engine import keep_float_graph
from birder.weights.find import FoundModel

GOOD_COSINE = 0.99
"""A mean cosine below this deserves a warning: neighbours change."""


class Quantized(NamedTuple):
    """What quantising gave: the mean and the lowest cosine between int8 and fp32 embeddings of the same photograph."""

    cosine: float
    lowest: float
    calibrated_on: int
    measured_on: int


def quantize(model: FoundModel, images: npt.NDArray[np.uint8]) -> Quantized:
    """Quantise a model to int8 and keep its graph on this machine, with the cosines that were measured.

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
        Too few images, or the package for it (nncf) is not installed.
    """
    try:
        import nncf
    except ImportError as error:
        raise ConfigError('Quantising needs a package more: pip install "birder[quantize]"') from error
    if len(images) < 8:
        raise ConfigError(f"Quantising needs at least 8 photographs that can be read, not {len(images)}; 100 are good.")
    import openvino

    # It would print a page of progress of its own.
    nncf.set_log_level(logging.ERROR)
    floating = ov.graph_folder(model.sha256)
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
    folder = ov.graph_folder(model.sha256, "int8")
    facts = ov.read_facts(floating)
    ov.keep_graph(folder, quantized, facts)
    cosines = _cosines(
        ov.OpenVinoEngine(folder, "int8").embed(held_out), ov.OpenVinoEngine(floating, "fp32").embed(held_out)
    )
    result = Quantized(float(cosines.mean()), float(cosines.min()), len(calibration), len(held_out))
    ov.keep_graph(folder, quantized, facts | {"quantized": result._asdict()})
    return result


def _cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a.astype(np.float64), b.astype(np.float64)))
    cosines: npt.NDArray[np.float64] = (a * b).sum(axis=1)
    return cosines
