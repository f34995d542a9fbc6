"""From pixels to embeddings in one module: what every engine runs."""

from __future__ import annotations

import torch
from torch import nn

from birder.errors import ConfigError
from birder.net.base import Backbone
from birder.weights.checkpoint import RgbStats


class PixelNet(nn.Module):
    """A network with the normalisation in front: RGB images (B, H, W, 3) uint8 in, embeddings (B, D) out.

    Parameters
    ----------
    net, rgb_stats
        The network and the statistics of its input.
    patches
        Give the patch tokens after the final norm too: (B, rows, columns, D).

    Raises
    ------
    ConfigError
        It has no patch tokens.
    """

    def __init__(self, net: Backbone, rgb_stats: RgbStats, *, patches: bool = False) -> None:
        super().__init__()
        if patches and net.patch_shape is None:
            raise ConfigError("This network has no patch tokens: leave out --features patches, or use a ViT.")
        self.net = net
        self.patches = net.patch_shape if patches else None
        mean = torch.tensor(rgb_stats["mean"], dtype=torch.float32).view(1, 3, 1, 1)
        std = torch.tensor(rgb_stats["std"], dtype=torch.float32).view(1, 3, 1, 1)
        # (x / 255 - mean) / std as one multiplication and one addition
        self.register_buffer("scale", 1.0 / (255.0 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        x = images.permute(0, 3, 1, 2).float() * self.get_buffer("scale") + self.get_buffer("shift")
        if self.patches is None:
            return self.net.embedding(x.contiguous())
        tokens = self.net.forward_features(x.contiguous())
        return tokens[:, 0], tokens[:, 1:].reshape(-1, *self.patches)
