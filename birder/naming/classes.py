"""Names from class heads: the classes that weights with class names see in images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from birder.errors import ImageError, WeightsError
from birder.inference.classification import infer_image
from birder.inference.engine_torch import find_device
from birder.registry import DEFAULT_WEIGHTS
from birder.weights.resolve import resolve


class Classified(NamedTuple):
    """Classes of images.

    Attributes
    ----------
    rows
        Path, class and probability, the most probable class of each image first.
    unreadable
        Paths of images that could not be read, each with the reason.
    model, sha256, classes
        The classifier: its name, the sha256 of its weights, and how many classes it has.
    """

    rows: list[tuple[str, str, float]]
    unreadable: list[tuple[str, str]]
    model: str
    sha256: str
    classes: int


def name_by_classes(images: Sequence[str], model: str, k: int, device: str | None = None) -> Classified:
    """Classify image files: the k most probable classes of each.

    Raises
    ------
    WeightsError
        The weights have no class names.
    """
    chosen = find_device(device)
    loaded = resolve(model).load_image_encoder(device=chosen)
    if not loaded.info.class_to_idx:
        raise WeightsError(
            f"{loaded.name} has no class names: its outputs are image features. Use its embeddings "
            f"(birder embed, birder similar), or classify with --model {DEFAULT_WEIGHTS}."
        )
    names = {index: name for name, index in loaded.info.class_to_idx.items()}
    transform = loaded.transform()
    rows: list[tuple[str, str, float]] = []
    unreadable: list[tuple[str, str]] = []
    for image in images:
        try:
            out, _ = infer_image(loaded.net, image, transform, device=chosen)
        except ImageError as error:
            unreadable.append((image, str(error)))
            continue
        best = out[0].argsort()[::-1][:k].tolist()
        rows += [(image, str(names.get(index, index)), float(out[0, index])) for index in best]
    return Classified(rows, unreadable, loaded.name, loaded.sha256, len(names))
