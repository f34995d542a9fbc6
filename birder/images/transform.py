"""From an image to the network's input: resize, crop, scale, normalise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from birder.errors import ConfigError
from birder.images.decode import to_rgb

if TYPE_CHECKING:
    import torch


class ClassificationTransform:
    """The inference transform of a classification network; picklable, takes any Pillow mode.

    Attributes
    ----------
    size
        (height, width) of the output in pixels.
    mean, std
        Per channel, of values in [0, 1].
    center_crop
        Share of the resized image that is kept, in (0, 1].
    simple_crop
        Keep the aspect ratio and crop, rather than squeeze the whole image into the size.
    """

    def __init__(
        self,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        center_crop: float = 1.0,
        simple_crop: bool = False,
    ) -> None:
        if len(size) != 2 or min(size) < 1:
            raise ConfigError(f"size must be (height, width) of at least 1 pixel, not {size!r}.")
        if not 0.0 < center_crop <= 1.0:
            raise ConfigError(f"center_crop must be above 0 and at most 1, not {center_crop}.")
        if len(mean) != 3 or len(std) != 3 or not all(s > 0 for s in std):
            raise ConfigError(f"rgb_stats need three means and three positive standard deviations: {mean}, {std}.")
        self.size = (int(size[0]), int(size[1]))
        self.mean = tuple(float(v) for v in mean)
        self.std = tuple(float(v) for v in std)
        self.center_crop = float(center_crop)
        self.simple_crop = simple_crop

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> ClassificationTransform:
        """The transform that a collection's card describes: size, mean, std, center_crop, simple_crop."""
        return cls(card["size"], card["mean"], card["std"], card["center_crop"], card["simple_crop"])

    def __repr__(self) -> str:
        return (
            f"ClassificationTransform(size={self.size}, mean={self.mean}, std={self.std}, "
            f"center_crop={self.center_crop}, simple_crop={self.simple_crop})"
        )

    @property
    def resize_to(self) -> tuple[int, int]:
        """(height, width) before the centre crop."""
        return int(self.size[0] / self.center_crop), int(self.size[1] / self.center_crop)

    def to_uint8(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Resize (bicubic, antialiased) and crop: uint8 RGB of shape (H, W, 3), not normalised."""
        image = to_rgb(image)
        height, width = self.resize_to
        if self.simple_crop:
            # The smallest size of the image's own aspect ratio that covers the target.
            if height * image.width >= width * image.height:
                width = max(width, height * image.width // image.height)
            else:
                height = max(height, width * image.height // image.width)
        top = round((height - self.size[0]) / 2)
        left = round((width - self.size[1]) / 2)
        if width * height > 64 * self.size[0] * self.size[1]:
            # One as narrow as a hair: only the part that is kept is resized, or the rest would fill the memory.
            across, down = image.width / width, image.height / height
            kept = (left * across, top * down, (left + self.size[1]) * across, (top + self.size[0]) * down)
            return np.asarray(image.resize(self.size[::-1], Image.Resampling.BICUBIC, box=kept))
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(image)[top : top + self.size[0], left : left + self.size[1]]

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """The network's input for one image: float32 of shape (3, H, W), normalised."""
        import torch

        pixels = torch.from_numpy(np.array(self.to_uint8(image).transpose(2, 0, 1)))
        mean, std = (torch.tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (self.mean, self.std))
        return (pixels.to(torch.float32) / 255.0 - mean) / std


def classification_transform(
    size: tuple[int, int], rgb_stats: dict[str, Any], center_crop: float = 1.0, simple_crop: bool = False
) -> ClassificationTransform:
    """Build the inference transform: bicubic resize with antialiasing to `size / center_crop`, centre crop, normalise.

    Parameters
    ----------
    size
        (height, width) of the network's input in pixels.
    rgb_stats
        {"mean": three numbers, "std": three numbers} of pixel values in [0, 1], as in `ModelInfo.rgb_stats`.
    center_crop
        Share of the resized image that is kept, in (0, 1].
    simple_crop
        Keep the aspect ratio and crop the excess, rather than squeeze the whole image into the size.

    Returns
    -------
    A picklable callable: Pillow image of any mode -> float32 tensor (3, height, width).
    """
    return ClassificationTransform(size, rgb_stats["mean"], rgb_stats["std"], center_crop, simple_crop)
