"""What a network sees of an image while it learns: a random part, mirrored or not, in slightly other colours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    import torch

LEAST_AREA = 0.35
"""The smallest share of an image that a crop shows."""
_ASPECT = 4 / 3
_COLOUR = 0.3
_TRIES = 10
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


class View(NamedTuple):
    """One look at an image: pixels uint8 (H, W, 3), and factors of brightness, contrast and saturation, (3,)."""

    pixels: npt.NDArray[np.uint8]
    colour: tuple[float, float, float]


def random_view(image: Image.Image, size: tuple[int, int], random: np.random.Generator) -> View:
    """A random crop of an RGB image, resized to (height, width), mirrored half of the time.

    The crop's area is 35 to 100 % of the image's and its aspect ratio 3/4 to 4/3 ("Inception" crops: Szegedy et al.,
    arXiv 1409.4842). The colour factors, between 0.7 and 1.3, are for `coloured`.
    """
    left, top, width, height = _crop(image.width, image.height, random)
    box = (left, top, left + width, top + height)
    view = np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC, box=box))
    if random.random() < 0.5:
        view = view[:, ::-1]
    brightness, contrast, saturation = random.uniform(1 - _COLOUR, 1 + _COLOUR, 3).tolist()
    return View(np.ascontiguousarray(view), (brightness, contrast, saturation))


def _crop(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random crop; the largest one in the middle where none fits."""
    for _ in range(_TRIES):
        area = random.uniform(LEAST_AREA, 1.0) * width * height
        aspect = math.exp(random.uniform(-math.log(_ASPECT), math.log(_ASPECT)))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            return int(random.integers(0, width - across + 1)), int(random.integers(0, height - down + 1)), across, down
    across, down = min(width, math.ceil(height * _ASPECT)), min(height, math.ceil(width * _ASPECT))
    return (width - across) // 2, (height - down) // 2, across, down


def coloured(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Change brightness, contrast and saturation of images, in this order.

    Parameters
    ----------
    images
        float (B, 3, H, W), RGB from 0 to 1.
    factors
        float (B, 3); 1 changes nothing. Brightness multiplies; contrast stretches about the mean of the image's grey;
        saturation stretches about each pixel's grey.

    Returns
    -------
    Of the same shape, from 0 to 1.
    """
    brightness, contrast, saturation = factors.view(-1, 3, 1, 1, 1).unbind(1)
    images = (images * brightness).clamp(0.0, 1.0)
    mean = _grey(images).mean(dim=(2, 3), keepdim=True)
    images = ((images - mean) * contrast + mean).clamp(0.0, 1.0)
    grey = _grey(images)
    return ((images - grey) * saturation + grey).clamp(0.0, 1.0)


def _grey(images: torch.Tensor) -> torch.Tensor:
    return (images * images.new_tensor(_GREY).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
