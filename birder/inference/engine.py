"""Engines: what turns a batch of pixels into embeddings, whatever runs the network."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError
from birder.inference.names import EngineName, Precision

if TYPE_CHECKING:
    from birder.net.base import Backbone
    from birder.weights.checkpoint import RgbStats
    from birder.weights.resolve import Model, Weights


class Engine(Protocol):
    """A network ready to embed.

    Attributes
    ----------
    name, precision
        What runs it ("torch", "openvino") and in which arithmetic ("fp32", "bf16", "int8").
    size
        Input (height, width) in pixels.
    embedding_size
        D.
    patches
        Shape (rows, columns, D) of an image's patch tokens; None unless it was opened to give them.
    """

    name: str
    precision: str
    size: tuple[int, int]
    embedding_size: int
    patches: tuple[int, int, int] | None

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings (B, D) float32 of RGB images (B, H, W, 3) uint8, not normalised."""

    def embed_with_patches(
        self, images: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
        """The same, and the patch tokens after the final norm, (B, rows, columns, D) float16; only with `patches`."""


@dataclass(frozen=True)
class OpenedEngine:
    """An engine, the rgb statistics of its network's input, and the sha256 of its weights."""

    engine: Engine
    rgb_stats: RgbStats
    sha256: str


def open_engine(
    model: Model,
    *,
    engine: str = EngineName.auto,
    precision: str = Precision.auto,
    device: str | None = None,
    compile: bool = False,
    patches: bool = False,
) -> OpenedEngine:
    """Open the engine for a model.

    Parameters
    ----------
    model
        From `birder.weights.resolve.resolve`.
    engine
        "torch", "openvino" (CPU only), or "auto": OpenVINO on the CPU, PyTorch elsewhere.
    precision
        "fp32", "bf16", "int8" (after `quantize`), or "auto": bf16 where the device has it and the
        network is precise enough in it.
    device
        "cpu", "cuda", "mps", ...; default: best available.
    compile
        With PyTorch, run through `torch.compile`.
    patches
        Give the patch tokens too, of networks that have them (ViT), in fp32 or bf16.

    Raises
    ------
    ConfigError
        The request cannot be met on this machine, or the options do not go together.
    """
    weights = model.fetch()
    if choose_engine(engine, device) == EngineName.openvino:
        return _open_openvino(weights, precision, patches)
    from birder.inference.engine_torch import TorchEngine, find_device

    found = find_device(device)
    if precision == Precision.auto:
        precision = _auto_precision(weights, _torch_has_bf16(found.type))
    loaded = weights.load(device=found)
    return OpenedEngine(
        TorchEngine(loaded.net, loaded.info.rgb_stats, found, precision, compile=compile, patches=patches),
        loaded.info.rgb_stats,
        weights.sha256,
    )


def is_usable(embedding: npt.NDArray[np.floating[Any]]) -> bool:
    """Whether an embedding can be compared with others: every value is finite, and not all are 0."""
    return bool(np.isfinite(embedding).all() and embedding.any())


def make_engine(net: Backbone, rgb_stats: RgbStats, *, precision: str = "fp32", device: str | None = None) -> Engine:
    """The PyTorch engine for a network that is in memory."""
    from birder.inference.engine_torch import TorchEngine, find_device

    return TorchEngine(net, rgb_stats, find_device(device), precision)


def choose_engine(engine: str = EngineName.auto, device: str | None = None) -> EngineName:
    """The engine for a device; `ConfigError` if it is not available. Does not import torch."""
    known = [name.value for name in EngineName]
    if engine not in known:
        raise ConfigError(f"Unknown engine {engine!r}; known: {', '.join(known)}.")
    installed = importlib.util.find_spec("openvino") is not None
    on_cpu = device == "cpu" or (device is None and not _may_have_gpu())
    if engine == EngineName.openvino:
        if not installed:
            raise ConfigError("OpenVINO is not installed: pip install openvino, or use --engine torch.")
        if device not in (None, "cpu"):
            raise ConfigError(f"OpenVINO runs on the CPU here, not on {device}: leave out --device or --engine.")
        return EngineName.openvino
    if engine == EngineName.torch:
        return EngineName.torch
    return EngineName.openvino if on_cpu and installed else EngineName.torch


def _may_have_gpu() -> bool:
    """Whether it is worth asking torch, which takes seconds to import, for a GPU."""
    return sys.platform == "darwin" or shutil.which("nvidia-smi") is not None or shutil.which("rocm-smi") is not None


def _auto_precision(weights: Weights, has_bf16: bool) -> Precision:
    return Precision.bf16 if has_bf16 and weights.bf16 else Precision.fp32


def _torch_has_bf16(device: str) -> bool:
    import torch

    return device == "cuda" and torch.cuda.is_bf16_supported()


def _open_openvino(weights: Weights, precision: str, patches: bool) -> OpenedEngine:
    from birder.inference import engine_openvino as ov

    if precision == Precision.auto:
        precision = _auto_precision(weights, ov.has_bf16())
    if precision not in ov.PRECISIONS:
        raise ConfigError(f"Unknown precision {precision!r}; known: {', '.join(Precision)}.")
    if precision == Precision.int8:
        if patches:
            raise ConfigError("Patch tokens are not quantised: use --precision fp32 or bf16 with --features patches.")
        folder = ov.graph_folder(weights, "int8")
        if not ov.is_kept(folder):
            raise ConfigError(
                f"{weights.model.name} is not quantised on this machine yet. Quantise it on images like yours: "
                f"birder quantize IMAGES --model {weights.model.source}"
            )
    else:
        folder = ov.graph_folder(weights, "patches" if patches else "float")
        if not ov.is_kept(folder):
            keep_float_graph(weights, patches=patches)
    return OpenedEngine(ov.OpenVinoEngine(folder, precision), ov.read_facts(folder)["rgb_stats"], weights.sha256)


def keep_float_graph(weights: Weights, *, patches: bool = False) -> None:
    """Trace an image encoder and keep its graph on disk, with or without patch tokens."""
    from birder.inference import engine_openvino as ov
    from birder.inference.pixels import PixelNet

    loaded = weights.load()
    net = PixelNet(loaded.net, loaded.info.rgb_stats, patches=patches).eval()
    rgb_stats = {key: list(value) for key, value in loaded.info.rgb_stats.items()}
    facts: dict[str, Any] = {
        "name": weights.model.name,
        "size": list(loaded.net.size),
        "embedding_size": loaded.net.embedding_size,
        "rgb_stats": rgb_stats,
        "patches": net.patches,
    }
    ov.keep_graph(ov.graph_folder(weights, "patches" if patches else "float"), ov.trace(net), facts)
