"""The backbone of a collection's embeddings: known by the sha256 of its tensors, so that a classifier finds its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from birder.collection.model import made_elsewhere, resolved
from birder.collection.schema import IMPORTED, ModelCard
from birder.collection.storage import Storage
from birder.errors import BirderError, CollectionError, WrongModelError
from birder.weights.resolve import Weights

if TYPE_CHECKING:
    from birder.weights.load import LoadedModel


def with_backbone(card: ModelCard) -> ModelCard:
    """The card of a new collection, with the sha256 of the backbone; without it where the weights are out of reach."""
    return replace(card, backbone_sha256=backbone_sha256_of(card))


def backbone_sha256_of(card: ModelCard) -> str | None:
    """The sha256 of the backbone that a card names: from the card, else computed; None where it cannot be known."""
    if card.backbone_sha256 is not None:
        return card.backbone_sha256
    weights = _weights(card)
    return None if weights is None else weights.backbone_sha256()


def describe_backbone(collection: Storage) -> dict[str, Any]:
    """What a classifier on a collection's embeddings keeps of their backbone, to be recognised by.

    Returns
    -------
    `name`; `network`, the registered one; `sha256`, of the backbone's tensors alone; `weights_sha256`, of the file of
    weights; `dimension`. Network and sums are None where they cannot be known, as of imported embeddings.
    """
    card = collection.model
    return {
        "name": card.name,
        "network": _network(card),
        "sha256": backbone_sha256_of(card),
        "weights_sha256": None if card.engine == IMPORTED else card.sha256,
        "dimension": card.embedding_size,
    }


def load_backbone(collection: Storage) -> LoadedModel:
    """Load the network that a collection's embeddings are from, to save a classifier as its head.

    Raises
    ------
    CollectionError
        The embeddings were imported, or the weights are not on this machine any more: then only a detached head can be
        saved.
    """
    card = collection.model
    detached = "Save the classifier alone, as a detached head (--detached)."
    if card.engine == IMPORTED:
        raise CollectionError(
            f"The embeddings in {collection.path} were made elsewhere, so there is no network to save the classifier "
            f"in. {detached}"
        )
    weights = _weights(card)
    if weights is None:
        raise CollectionError(
            f"The weights of {card.name}, which {collection.path} was made with, are not on this machine as "
            f"{card.source} any more. {detached}"
        )
    return weights.load()


def check_backbone(collection: Storage, told: Mapping[str, Any], classifier: str) -> tuple[str, ...]:
    """Refuse a classifier of another backbone than a collection's.

    Parameters
    ----------
    collection
        Whose embeddings the classifier is to name.
    told
        The classifier's backbone, as `describe_backbone` describes it.
    classifier
        Its name, for messages.

    Returns
    -------
    What the user must know where the embeddings were imported, and only names can be compared.

    Raises
    ------
    WrongModelError
        The backbones differ, or nothing shows that they are the same.
    """
    card = collection.model
    mine = f"{card.name} (weights sha256 {card.sha256[:12]}, {card.embedding_size}-dimensional)"
    theirs = f"{told.get('name', 'an unknown model')} (backbone sha256 {str(told.get('sha256'))[:12]}"
    theirs += f", {told.get('dimension')}-dimensional)"
    other = WrongModelError(
        f"{classifier} was made for embeddings of {theirs}, but {collection.path} holds embeddings of {mine}. Name "
        "images or a collection of its own model, or learn a classifier here: birder adapt"
    )
    if told.get("dimension") != card.embedding_size:
        raise other
    if card.engine == IMPORTED or (told.get("sha256") is None and told.get("weights_sha256") is None):
        if not _same_name(str(told.get("name")), card.name):
            raise other
        if card.engine == IMPORTED:
            return (made_elsewhere(collection),)
        return (f"{classifier} was learned from embeddings that were made elsewhere, with {told.get('name')}.",)
    if told.get("weights_sha256") == card.sha256:
        return ()
    network = _network(card)
    if told.get("network") is not None and network is not None and told["network"] != network:
        raise other  # the same tensors in another arithmetic give other embeddings
    sha256 = backbone_sha256_of(card)
    if sha256 is None:
        raise WrongModelError(
            f"Nothing shows that {classifier}, made for {theirs}, fits the embeddings of {mine} in {collection.path}: "
            f"its weights are not on this machine as {card.source} any more. Put them back."
        )
    if sha256 != told.get("sha256"):
        raise other
    return ()


def _same_name(first: str, second: str) -> bool:
    """Whether two names mean one model."""
    models = [resolved(name) for name in (first, second)]
    names = [name if model is None else model.source for name, model in zip((first, second), models, strict=True)]
    return names[0].strip("/").lower() == names[1].strip("/").lower()


def _weights(card: ModelCard) -> Weights | None:
    """The weights that made a collection's embeddings, if they are on this machine. Nothing is fetched."""
    model = None if card.engine == IMPORTED else resolved(card.source)
    if model is None:
        return None
    try:
        if not model.image_encoder_is_here():
            return None
        weights = model.fetch()
    except BirderError:
        return None
    return weights if weights.sha256 == card.sha256 else None


def _network(card: ModelCard) -> str | None:
    weights = _weights(card)
    return None if weights is None else weights.network
