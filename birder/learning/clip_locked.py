"""The image encoder of a training that leaves it as it is (LiT: Zhai et al., arXiv 2111.07991): inference alone."""

from __future__ import annotations

import torch

from birder.errors import ConfigError
from birder.inference.engine import open_engine
from birder.learning.clip_model import Start


class LockedEncoder:
    """Embeds images as a collection's are embedded, before the projection, which is learned.

    On a CPU OpenVINO does it, for an EfficientNet-Lite0 in a tenth of PyTorch's time.

    Parameters
    ----------
    start
        What the training begins with.
    device
        Where it learns.
    precision
        "bf16" for an engine that may compute in it; else float32.

    Raises
    ------
    ConfigError
        The image encoder has new weights, or is in a file that does not say what it is.
    """

    def __init__(self, start: Start, device: torch.device, precision: str) -> None:
        if start.encoder is None:
            raise ConfigError(
                "An image encoder that stays as it is needs weights: name with --init a model, or a folder in "
                "OpenCLIP's layout."
            )
        self._device = device
        self._engine = open_engine(
            start.encoder, precision="bf16" if precision == "bf16" else "fp32", device=str(device)
        ).engine

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings, float32 (B, D) on the device, of uint8 (B, H, W, 3)."""
        return torch.from_numpy(self._engine.embed(pixels.numpy())).to(self._device)
