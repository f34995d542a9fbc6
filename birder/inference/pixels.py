"""From pixels to embeddings in one module: what every engine runs."""

from __future__ import annotations

import torch
from torch import nn

from birder.net.base import Backbone
from birder.weights.checkpoint import RgbStats


class PixelNet(nn.Module):
    """A network with the normalisation in front: RGB images (B, H, W, 3) uint8 in, embeddings (B, D) out."""

    def __init__(self, net: Backbone, rgb_stats: RgbStats) -> None:
        super().__init__()
        self.net = net
        mean = torch.tensor(rgb_stats["mean"], dtype=torch.float32).view(1, 3, 1, 1)
        std = torch.tensor(rgb_stats["std"], dtype=torch.float32).view(1, 3, 1, 1)
        # (x / 255 - mean) / std as one multiplication and one addition
        self.register_buffer("scale", 1.0 / (255.0 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.permute(0, 3, 1, 2).float() * self.get_buffer("scale") + self.get_buffer("shift")
        return self.net.embedding(x.contiguous())
