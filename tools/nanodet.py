"""NanoDet-g: a small one-stage detector of boxes, for images on which an animal may be anywhere.

The network of RangiLyu's NanoDet (Apache-2.0) in its variant "g": a cross-stage partial backbone of plain 3x3
convolutions (Wang et al., arXiv 1911.11929), a path aggregation neck that only resizes and adds, and a head for each
of three strides that scores every cell for every class and gives the distances from the cell to the four sides of a
box as distributions over eleven bins (Li et al., "Generalized focal loss", arXiv 2006.04388). Batch norm is folded into
the convolutions.

Throughout, B is the batch, H x W the input in pixels, N the number of classes, S the number of cells: of the strides 8,
16 and 32, one after the other, each row by row.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

STRIDES = (8, 16, 32)
BINS = 11
"""Bins of a distance, in strides: 0, 1, ..., 10."""
_STEM = 32
_STAGES = ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 3, 2))  # channels, partial blocks, stride
_NECK = 128


def conv(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """An evenly padded convolution, and a leaky ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2), nn.LeakyReLU(0.1))


class PartialBlock(nn.Module):
    """Two convolutions, the second over the first one's input and output; (B, C, H, W) to (B, C', H, W)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.inner = conv(channels, channels)
        self.outer = conv(2 * channels, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined: torch.Tensor = self.outer(torch.cat([self.inner(x), x], 1))
        return joined


class Stage(nn.Module):
    """Blocks over half of the channels, beside the way around them; (B, C, H, W) to (B, 2 C', H/stride, W/stride)."""

    def __init__(self, in_channels: int, channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.entry = conv(in_channels, channels, stride=stride)
        half = channels // 2
        self.narrow = conv(channels, half)
        widths = [half] * (blocks - 1) + [channels]
        self.blocks = nn.Sequential(*(PartialBlock(half, width) for width in widths))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        entry = self.entry(x)
        return torch.cat([self.blocks(self.narrow(entry)), entry], 1)


class NanoDet(nn.Module):
    """The network.

    Parameters
    ----------
    num_classes
        N.

    Attributes
    ----------
    size
        Input (height, width) in pixels that the published weights were trained at; any multiple of 32 runs.
    """

    size: ClassVar[tuple[int, int]] = (416, 416)

    def __init__(self, num_classes: int = 80) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Sequential(conv(3, _STEM, stride=2), nn.MaxPool2d(3, 2, 1))
        stages, channels = [], _STEM
        for width, blocks, stride in _STAGES:
            stages.append(Stage(channels, width, blocks, stride))
            channels = 2 * width
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(nn.Conv2d(2 * width, _NECK, 1) for width, _, _ in _STAGES[1:])
        self.heads = nn.ModuleList(
            nn.Sequential(conv(_NECK, _NECK), nn.Conv2d(_NECK, num_classes + 4 * BINS, 1)) for _ in STRIDES
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and boxes of a batch (B, 3, H, W) of normalised images.

        Returns
        -------
        Scores (B, S, N) between 0 and 1, and boxes (B, S, 4) as left, top, right and bottom in pixels of the input.
        """
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        low, middle, high = (lateral(x) for lateral, x in zip(self.laterals, maps[1:], strict=True))
        middle = middle + _resized(high, middle)
        low = low + _resized(middle, low)
        middle = middle + _resized(low, middle)
        high = high + _resized(middle, high)
        scores, boxes = [], []
        for head, stride, x in zip(self.heads, STRIDES, (low, middle, high), strict=True):
            logits, sides = head(x).flatten(2).transpose(1, 2).split([self.num_classes, 4 * BINS], 2)
            scores.append(logits.sigmoid())
            boxes.append(_boxes(sides, x.shape[2], x.shape[3], stride))
        return torch.cat(scores, 1), torch.cat(boxes, 1)


def _resized(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def _boxes(sides: torch.Tensor, height: int, width: int, stride: int) -> torch.Tensor:
    """Boxes (B, height * width, 4) from the logits (B, height * width, 4 * BINS) of the distances to their sides."""
    bins = torch.arange(BINS, dtype=sides.dtype, device=sides.device)
    distances = (sides.reshape(*sides.shape[:2], 4, BINS).softmax(3) * bins).sum(3) * stride
    y, x = torch.meshgrid(
        torch.arange(height, dtype=sides.dtype, device=sides.device),
        torch.arange(width, dtype=sides.dtype, device=sides.device),
        indexing="ij",
    )
    centres = (torch.stack([x, y], 2).reshape(1, -1, 2) + 0.5) * stride
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], 2)
