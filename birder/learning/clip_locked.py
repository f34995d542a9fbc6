"""The image encoder of a training that leaves it as it is (LiT: Zhai et al., arXiv 2111.07991): inference alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from birder.learning.clip_model import Start, model_input

if TYPE_CHECKING:
    from birder.inference.engine import Engine


class LockedEncoder:
    """Embeds images, before the projection, which is learned.

    What embeds a collection's images does it: on a CPU OpenVINO, for an EfficientNet-Lite0 in a tenth of PyTorch's
    time. PyTorch does it where the image encoder is not of a model that has a name.

    Parameters
    ----------
    start
        What the training begins with.
    device
        Where it learns.
    precision
        "bf16" lets the engine compute in it, if the network is precise enough in it; else it computes in float32.
    """

    def __init__(self, start: Start, device: torch.device, precision: str) -> None:
        self._start, self._device = start, device
        self._engine: Engine | None = None
        if start.encoder is not None:
            from birder.inference.engine import open_engine

            computed_in = "auto" if precision == "bf16" else "fp32"
            self._engine = open_engine(start.encoder, precision=computed_in, device=str(device)).engine

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings, float32 (B, D) on the device, of uint8 (B, H, W, 3)."""
        if self._engine is not None:
            return torch.from_numpy(self._engine.embed(pixels.numpy())).to(self._device)
        with torch.no_grad():
            inputs = model_input(pixels, self._start.rgb_stats, self._device)
            return self._start.clip.image.embedding(inputs).float()
