"""Engines: what turns a batch of pixels into embeddings, whatever runs the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from birder.net.base import Backbone
    from birder.weights.checkpoint import RgbStats


class Engine(Protocol):
    """A network ready to embed.

    Attributes
    ----------
    name, precision
        What runs it ("torch") and in which arithmetic ("fp32").
    size
        Input (height, width) in pixels.
    embedding_size
        D.
    """

    name: str
    precision: str
    size: tuple[int, int]
    embedding_size: int

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings (B, D) float32 of RGB images (B, H, W, 3) uint8, not normalised."""


def make_engine(net: Backbone, rgb_stats: RgbStats, *, device: str | None = None) -> Engine:
    """The engine for a network on a device ("cpu", "cuda", "mps", ...; the best there is without one).

    Raises
    ------
    ConfigError
        The device is unknown or not on this machine.
    """
    from birder.inference.engine_torch import TorchEngine, find_device

    return TorchEngine(net, rgb_stats, find_device(device))
