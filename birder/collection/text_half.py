"""The text half of a collection's model: what turns a text into a vector that its photographs can be compared with."""

from __future__ import annotations

import torch

from birder.collection.rows import IMPORTED
from birder.collection.store import Collection
from birder.errors import CollectionError, WeightsError
from birder.inference.engine_torch import find_device
from birder.net.base import Backbone
from birder.registry import list_pretrained_models
from birder.weights.clip import LoadedClip, load_clip
from birder.weights.load import load_any


def load_text_half(collection: Collection, model: str | None = None, device: str | None = None) -> LoadedClip:
    """Load the whole model, text half and image half, that a collection's embeddings belong to.

    Parameters
    ----------
    collection
        Its image half must be that of the model. An imported one holds image features, in the space of the texts: of
        these only the number of values can be compared.
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
        clip = load_clip(model or card.source, device=find_device(device))
    except WeightsError as error:
        if "no text half" in str(error):
            raise WeightsError(
                f"{error} Without texts: search by photographs (--image, --id), name by labelled ones "
                "(birder predict --like COLLECTION)."
            ) from error
        raise
    if imported:
        if clip.embedding_size != card.embedding_size:
            raise CollectionError(
                f"{collection.path} holds embeddings of {card.embedding_size} numbers, {clip.name} gives "
                f"{clip.embedding_size}: name the model that they were made with (--model)."
            )
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
