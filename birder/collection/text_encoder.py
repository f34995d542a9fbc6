"""The text encoder of a collection's model, which turns a text into a vector that its images are compared with."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from birder.collection.model import check_width, resolved, stand_in
from birder.collection.schema import IMPORTED
from birder.collection.storage import Storage
from birder.errors import CollectionError, NoTextEncoderError, UnknownNameError, WrongModelError
from birder.inference.engine_torch import find_device
from birder.net.base import Backbone
from birder.weights.clip import LoadedClip
from birder.weights.resolve import Kind, resolve


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


def text_encoder_is_here(collection: Storage) -> bool:
    """Whether the model that a collection names has a text encoder on this machine. Nothing is fetched."""
    own = resolved(collection.model.source)
    return own is not None and own.text_encoder_is_here()


def load_text_encoder(collection: Storage, model: str | None = None, device: str | None = None) -> LoadedClip:
    """Load the CLIP model, text encoder and image encoder, that a collection's embeddings belong to.

    Parameters
    ----------
    collection
        Its image encoder must be that of the model; of an imported collection, see `birder.collection.model.stand_in`.
    model
        As in `birder.weights.resolve.resolve`; default: the collection's own.
    device
        As `find_device` takes it.

    Raises
    ------
    NoTextEncoderError
        The model has no text encoder.
    WrongModelError
        It is another model than the collection's.
    CollectionError
        The model that the collection was made with is not known on this machine.
    """
    card = collection.model
    imported = card.engine == IMPORTED
    own = resolved(card.source)
    if model is None and not imported and (own is None or own.kind == Kind.file):
        raise NoTextEncoderError(
            f"{collection.path} was embedded with {card.source}, which is an image encoder alone: name the CLIP model "
            "that it came from, as in --model imageomics/bioclip. Without texts: search by images (--image, --id), "
            "name by examples (birder predict --like)."
        )
    try:
        found = resolve(stand_in(collection, model) if imported else model or card.source)
        clip = found.load_clip(device=find_device(device))
    except NoTextEncoderError as error:
        raise NoTextEncoderError(
            f"{error} Without texts: search by images (--image, --id), name by labelled ones "
            "(birder predict --like COLLECTION)."
        ) from error
    except UnknownNameError as error:
        if model is not None or imported:
            raise
        raise CollectionError(
            f"{collection.path} was embedded with {card.source}, which is not known on this machine: name the whole "
            "model that it came from, as in --model imageomics/bioclip. Without texts: search by images (--image, "
            "--id), name by labelled ones (birder predict --like COLLECTION)."
        ) from error
    if imported:
        check_width(collection, clip.name, clip.embedding_size, clip.net.image.embedding_size)
        return clip
    image_encoder = resolve(card.source).load_image_encoder()
    if image_encoder.sha256 != card.sha256:
        raise WrongModelError(f"{card.source} is no longer the model that {collection.path} was made with.")
    check_image_encoder(clip, image_encoder.net, str(collection.path))
    return clip


def check_image_encoder(clip: LoadedClip, net: Backbone, whose: str) -> None:
    """Refuse a CLIP model whose image encoder is another network than the one that stored embeddings came from.

    Raises
    ------
    WrongModelError
        A parameter differs by more than rounding.
    """
    own, other = clip.net.image.state_dict(), net.state_dict()
    same = own.keys() == other.keys() and all(
        own[key].shape == other[key].shape and torch.allclose(own[key].cpu(), other[key].cpu(), rtol=1e-4, atol=1e-6)
        for key in own
    )
    if not same:
        raise WrongModelError(
            f"The image encoder of {clip.name} is not the model of {whose}: its texts cannot be compared with those "
            "embeddings. Name the CLIP model that they were made with (--model), or embed the images with this one."
        )
