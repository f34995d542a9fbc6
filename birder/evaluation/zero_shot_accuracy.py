"""Zero-shot accuracy of a CLIP model on a benchmark without a collection, as training shows it after each epoch.

B is the number of images that are encoded at once, E the dimension of image and text features, M the number of images
that are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from birder.errors import ConfigError, ImageError
from birder.evaluation.benchmark_folder import BenchmarkFolder
from birder.evaluation.benchmark_protocols import zero_shot_figures
from birder.evaluation.benchmarks import TEST
from birder.images.open import open_image
from birder.images.transform import ClassificationTransform
from birder.naming.prompts import BIOCLIP_TEMPLATES
from birder.naming.text_embeddings import TextEncoder, encode_labels

if TYPE_CHECKING:
    import torch


class ClipEncoder(TextEncoder, Protocol):
    """What encodes images and texts, such as `birder.weights.clip.LoadedClip`."""

    transform: ClassificationTransform

    def encode_image(self, image: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Features (B, E) of images (B, 3, H, W), of length 1 with `normalize`."""


def zero_shot_accuracy(
    clip: ClipEncoder,
    folder: BenchmarkFolder,
    *,
    templates: Sequence[str] = BIOCLIP_TEMPLATES,
    batch_size: int = 64,
    threads: int = 2,
    progress: Callable[[float], None] | None = None,
) -> dict[str, float | int]:
    """How many of a benchmark's images are named right by the texts of its classes.

    Images are prepared as in `birder evaluate --benchmark`: decoded exactly, the shorter side resized, cropped at the
    centre. Memory: one batch of images, and 4 (C + M) E bytes.

    Parameters
    ----------
    clip
        The model as it is now; it is put into evaluation mode by the caller.
    folder
        From `birder.evaluation.benchmark_folder.read_benchmark`, of a benchmark of classes.
    templates
        Texts with one {} each, where the class goes; fewer ones are faster and tell less.
    batch_size
        B.
    threads
        Threads that decode.
    progress
        Called with the share of the images that is done.

    Returns
    -------
    top1, top5, mean_recall; images, which is M; and failed, how many images could not be read and were left out.

    Raises
    ------
    ConfigError
        The benchmark has no classes, or no image could be read.
    """
    import torch

    if folder.benchmark.task != "classes":
        raise ConfigError(f"{folder.benchmark.name} has no classes that texts could name.")
    transform = ClassificationTransform(clip.transform.size, clip.transform.mean, clip.transform.std, simple_crop=True)
    places = [place for place, part in enumerate(folder.parts) if part == TEST]
    with torch.inference_mode(), ThreadPoolExecutor(threads, thread_name_prefix="birder-benchmark") as pool:
        matrix = torch.from_numpy(encode_labels(clip, folder.texts, templates))
        tops, codes = [], []
        for start in range(0, len(places), batch_size):
            some = places[start : start + batch_size]
            read = list(pool.map(lambda place: _pixels(folder.files[place], transform), some))
            kept = [(place, pixels) for place, pixels in zip(some, read, strict=True) if pixels is not None]
            if kept:
                images = torch.stack([pixels for _, pixels in kept])
                similar = clip.encode_image(images, normalize=True).float().cpu() @ matrix
                tops.append(similar.topk(min(5, matrix.shape[1]), dim=1).indices)
                codes += [int(folder.codes[place]) for place, _ in kept]
            if progress is not None:
                progress(min(start + batch_size, len(places)) / len(places))
    if not codes:
        raise ConfigError(f"None of the {len(places):,} images in {folder.root} could be read.")
    right = torch.cat(tops).numpy()
    figures = zero_shot_figures(right, np.array(codes, np.int64))
    found: dict[str, float | int] = {name: figure["estimate"] for name, figure in figures.items()}
    return found | {"images": len(codes), "failed": len(places) - len(codes)}


def _pixels(file: Path, transform: ClassificationTransform) -> torch.Tensor | None:
    """The network's input (3, H, W) for one image; None if it cannot be read."""
    try:
        return transform(open_image(file))
    except ImageError:
        return None
