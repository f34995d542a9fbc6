"""The engine that runs a network in PyTorch, on any of its devices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from birder.errors import ConfigError
from birder.inference.pixels import PixelNet
from birder.net.base import Backbone
from birder.weights.checkpoint import RgbStats

PRECISIONS = ("bf16", "fp32")


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
        raise ConfigError(
            f"Cannot use the device {name!r}: {reason} Leave it out to use the best available."
        ) from error
    return device


class TorchEngine:
    """A network in PyTorch: fp32, or bf16 by autocast; compiled for the device where that is a GPU.

    Parameters
    ----------
    net, rgb_stats
        The network, moved to the device, and the statistics of its input.
    device
        Where to run.
    precision
        "fp32" or "bf16".
    compile
        Run it through `torch.compile`: slower to start, faster on a GPU.
    patches
        Give patch tokens too.
    """

    name = "torch"

    def __init__(
        self,
        net: Backbone,
        rgb_stats: RgbStats,
        device: torch.device,
        precision: str = "fp32",
        *,
        compile: bool = False,
        patches: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"PyTorch runs networks in {' or '.join(PRECISIONS)}, not in {precision}.")
        self.size = net.size
        self.embedding_size = net.embedding_size
        self.precision = precision
        self._device = device
        module = PixelNet(net, rgb_stats, patches=patches).to(device).eval()
        self.patches = module.patches
        self._run = torch.compile(module) if compile else module

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings (B, D) float32 of RGB images (B, H, W, 3) uint8."""
        output = self._compute(images)
        embeddings = output if self.patches is None else output[0]
        return embeddings.float().cpu().numpy()

    def embed_with_patches(
        self, images: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
        """Embeddings, and patch tokens (B, rows, columns, D) float16, of RGB images (B, H, W, 3) uint8."""
        embeddings, patches = self._compute(images)
        return embeddings.float().cpu().numpy(), patches.half().cpu().numpy()

    @torch.inference_mode()
    def _compute(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        x = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output: torch.Tensor = self._run(x)  # a pair with `patches`, which unpacks alike
        return output
