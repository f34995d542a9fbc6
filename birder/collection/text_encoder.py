"""The text half of a collection's model: what turns a text into a vector that its photographs can be compared with."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from birder.collection.model import check_width, stand_in
from birder.collection.schema import IMPORTED
from birder.collection.storage import Storage
from birder.errors import CollectionError, WeightsError
from birder.inference.engine_torch import find_device
from birder.net.base import Backbone
from birder.registry import list_pretrained_models
from birder.weights.clip import LoadedClip, load_clip
from birder.weights.load import load_any


class Projects(Protocol):
    """What projects embeddings into the space of the texts, such as `birder.weights.clip.LoadedClip`."""

    @property
    def embedding_size(self) -> int:
        """E."""

    def project(self, embedding: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Features (N, E) of embeddings (N, D)."""


def shared_features(
    collection: Storage, clip: Projects, embeddings: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Features (N, E) float32, in the space of the texts, of a collection's embeddings (N, D).

    Imported embeddings that are E-dimensional are such features already.
    """
    card = collection.model
    if card.engine == IMPORTED and card.embedding_size == clip.embedding_size:
        return embeddings
    features: npt.NDArray[np.float32] = clip.project(torch.from_numpy(embeddings)).float().cpu().numpy()
    return features


def load_text_half(collection: Storage, model: str | None = None, device: str | None = None) -> LoadedClip:
    """Load the whole model, text half and image half, that a collection's embeddings belong to.

    Parameters
    ----------
    collection
        Its image half must be that of the model; of an imported one, see `birder.collection.model.stand_in`.
    model
        Registered weights, a hub repository or a folder in OpenCLIP's layout; the collection's own without it.
    device
        As `find_device` takes it.

    Raises
    ------
    WeightsError
        The model has no text half.
    CollectionError
        It is another model than the collection's.
    """
    card = collection.model
    imported = card.engine == IMPORTED
    if model is None and not imported and card.source not in list_pretrained_models():
        raise CollectionError(
            f"{collection.path} was embedded with {card.source}, which is an image half alone: name the whole model "
            "that it came from, as in --model imageomics/bioclip. Without texts: search by photographs (--image, "
            "--id), name by examples (birder predict --like)."
        )
    try:
        name = stand_in(collection, model) if imported else model or card.source
        clip = load_clip(name, device=find_device(device))
    except WeightsError as error:
        if "no text half" in str(error):
            raise WeightsError(
                f"{error} Without texts: search by photographs (--image, --id), name by labelled ones "
                "(birder predict --like COLLECTION)."
            ) from error
        raise
    if imported:
        check_width(collection, clip.name, clip.embedding_size, clip.net.image.embedding_size)
        return clip
    image_half = load_any(card.source)
    if image_half.sha256 != card.sha256:
        raise CollectionError(f"{card.source} is no longer the model that {collection.path} was made with.")
    check_image_half(clip, image_half.net, str(collection.path))
    return clip


def check_image_half(clip: LoadedClip, net: Backbone, whose: str) -> None:
    """Refuse a CLIP model whose image half is another network than the one that stored embeddings came from.

    Raises
    ------
    CollectionError
        A parameter differs by more than rounding.
    """
    own, other = clip.net.image.state_dict(), net.state_dict()
    same = own.keys() == other.keys() and all(
        own[key].shape == other[key].shape and torch.allclose(own[key].cpu(), other[key].cpu(), rtol=1e-4, atol=1e-6)
        for key in own
    )
    if not same:
        raise CollectionError(
            f"The image half of {clip.name} is not the model of {whose}: its texts do not belong to those embeddings. "
            "Name the whole model that they were made with (--model), or embed the photographs with this one."
        )
