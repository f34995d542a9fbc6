"""Pyramids of feature maps for detectors, in the Birder format's parameter names.

`FeaturePyramid` joins maps of several strides (Lin et al., arXiv 1612.03144); `SimplePyramid` makes them from one map,
as ViTDet does for a plain ViT (Li et al., arXiv 2203.16527, section 3). Both have two coarser maps on top, "p6" and
"p7".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

_EPS = 1e-6


class TopLevels(nn.Module):
    """Two maps (B, W, ...) above the coarsest one, each at twice the stride of the one below."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        for conv in (self.p6, self.p7):
            _initialise(conv)

    def forward(self, coarsest: torch.Tensor) -> list[torch.Tensor]:
        p6 = self.p6(coarsest)
        return [p6, self.p7(F.relu(p6))]


class FeaturePyramid(nn.Module):
    """Maps of one width from maps of several strides: each takes up the coarser one above it.

    Parameters
    ----------
    channels
        Of each map, finest first.
    width
        W, channels of the maps that come out.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        # Each convolution stands in a Sequential of its own: the format's names count a norm that could follow it.
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(each, width, 1)) for each in channels)
        self.layer_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 3, padding=1)) for _ in channels)
        for blocks in (self.inner_blocks, self.layer_blocks):
            for block in blocks:
                _initialise(block[0])  # type: ignore[index]
        self.extra_blocks = TopLevels(width)

    def forward(self, maps: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Maps (B, W, ...) by name, finest first: one for each of `maps`, then "p6" and "p7"."""
        above: torch.Tensor | None = None
        levels: list[torch.Tensor] = []
        for inner, layer, x in reversed(list(zip(self.inner_blocks, self.layer_blocks, maps.values(), strict=True))):
            x = inner(x)
            above = x if above is None else x + F.interpolate(above, size=x.shape[-2:], mode="nearest")
            levels.insert(0, layer(above))
        levels += self.extra_blocks(levels[-1])
        return dict(zip([*maps, "p6", "p7"], levels, strict=True))


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of a map (B, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SimplePyramid(nn.Module):
    """Maps of half, the same and twice the stride of one map, each computed from it alone.

    Parameters
    ----------
    channels
        Of the map.
    width
        W, channels of the maps that come out.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = channels // 2
        finer = nn.ConvTranspose2d(channels, half, 2, stride=2)
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(finer, *_lateral(half, width)),
                nn.Sequential(*_lateral(channels, width)),
                nn.Sequential(nn.MaxPool2d(2), *_lateral(channels, width)),
            ]
        )
        self.extra_blocks = TopLevels(width)

    def forward(self, maps: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Maps (B, W, ...) by name, finest first: "stage1", "stage2", "stage3", "p6", "p7"; `maps` has one map."""
        (x,) = maps.values()
        levels = [block(x) for block in self.blocks]
        levels += self.extra_blocks(levels[-1])
        return dict(zip(["stage1", "stage2", "stage3", "p6", "p7"], levels, strict=True))


def _lateral(channels: int, width: int) -> list[nn.Module]:
    """Two convolutions with a layer norm each, as ViTDet has them."""
    return [
        nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), LayerNorm2d(width, eps=_EPS)),
        nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), LayerNorm2d(width, eps=_EPS)),
    ]


def _initialise(conv: nn.Module) -> None:
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    nn.init.kaiming_uniform_(conv.weight, a=1)
    nn.init.zeros_(conv.bias)
