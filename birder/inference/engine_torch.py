"""The engine that runs a network in PyTorch, on any of its devices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from birder.errors import ConfigError
from birder.net.base import Backbone
from birder.weights.checkpoint import RgbStats


def find_device(name: str | None) -> torch.device:
    """A device by name, or the best one on this machine: CUDA, then MPS, then the CPU."""
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"Cannot use the device {name!r}: {reason} Leave it out to use the best there is.") from error
    return device


class TorchEngine:
    """A network in PyTorch, fp32. Scaling and normalisation run on the device too."""

    name = "torch"
    precision = "fp32"

    def __init__(self, net: Backbone, rgb_stats: RgbStats, device: torch.device) -> None:
        self.size = net.size
        self.embedding_size = net.embedding_size
        self._device = device
        self._net = net.to(device).eval()
        mean = torch.tensor(rgb_stats["mean"], dtype=torch.float32, device=device).view(1, 3, 1, 1)
        std = torch.tensor(rgb_stats["std"], dtype=torch.float32, device=device).view(1, 3, 1, 1)
        # (x / 255 - mean) / std as one multiplication and one addition
        self._scale = 1.0 / (255.0 * std)
        self._shift = -mean / std

    @torch.inference_mode()
    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings (B, D) float32 of RGB images (B, H, W, 3) uint8."""
        x = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2)
        x = torch.addcmul(self._shift, x.float(), self._scale)
        return self._net.embedding(x.contiguous()).float().cpu().numpy()
