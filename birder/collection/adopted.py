"""New images in a collection of imported embeddings: by the model that made them.

The name that an import gives to a model cannot tell whether it made them. Images of imported rows that are on this
machine can: embedded again, they must come out as they are stored. How an image is decoded and resized moves its
embedding by less than 0.01 in cosine; another model, or another way to prepare images, by far more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from birder.collection.model import Encoder, load_encoder_of, made_elsewhere, prepared_whole, resolved
from birder.collection.schema import IMPORTED
from birder.collection.storage import Storage
from birder.errors import BirderError, ImageError, WrongModelError
from birder.sources import uri_to_path
from birder.words import counted

LEAST = 0.99
"""The cosine from which on an image counts as embedded alike."""
_SAMPLE = 8
_ROWS_TO_LOOK_AT = 4096
_MOST_APART = 0.25
"""The share of the sample that may differ: an image may have been edited since."""


@dataclass(frozen=True)
class EmbeddedAgain:
    """Images of imported rows, embedded again.

    Attributes
    ----------
    images
        How many images were compared.
    alike
        How many of them have a cosine of at least 0.99 with the stored embedding.
    lowest
        The lowest cosine.
    """

    images: int
    alike: int
    lowest: float

    @property
    def agrees(self) -> bool:
        """Whether at least three quarters of the images are alike."""
        return self.alike >= (1 - _MOST_APART) * self.images

    def __str__(self) -> str:
        return (
            f"{counted(self.images, 'image')} embedded again: {self.alike:,} as stored (lowest cosine "
            f"{self.lowest:.3f})"
        )


def embedded_again(collection: Storage, encoder: Encoder) -> EmbeddedAgain | None:
    """Embed some images of imported rows again; None if none of the first 4,096 rows' images can be read here."""
    cosines = []
    for path, stored in _at_hand(collection):
        try:
            again = encoder.embed_one(path)
        except ImageError:
            continue
        cosines.append(float(again @ stored / (np.linalg.norm(again) * np.linalg.norm(stored))))
        if len(cosines) == _SAMPLE:
            break
    if not cosines:
        return None
    return EmbeddedAgain(len(cosines), sum(cosine >= LEAST for cosine in cosines), min(cosines))


def check_import(collection: Storage) -> str | None:
    """What an import says of the model that it was given; None where nothing can be told.

    Only a model that is on this machine is asked, and only if images of the rows are, too.
    """
    model = resolved(collection.model.source)
    if collection.model.engine != IMPORTED or model is None or next(_at_hand(collection), None) is None:
        return None
    if not (model.image_encoder_is_here() or model.text_encoder_is_here()):
        return None
    try:
        _, found = _as_they_did(collection, load_encoder_of(collection))
    except BirderError as error:
        return str(error)
    if found is None:
        return None
    if found.agrees:
        return f"{collection.model.source} made these embeddings ({found}): new images can be embedded into this one."
    return (
        f"{collection.model.source} gives other embeddings ({found}). New images cannot be compared with these, and "
        "birder embed refuses to add any: import them again with the model that they were made with."
    )


def adopted(collection: Storage, encoder: Encoder) -> tuple[Encoder, tuple[str, ...]]:
    """A model as the one of an imported collection, from `load_encoder_of`; and what the user must be told.

    Raises
    ------
    WrongModelError
        Images of the collection come out differently when they are embedded again.
    """
    card = collection.model
    encoder, found = _as_they_did(collection, encoder)
    as_theirs = replace(encoder, card=replace(card, transform=encoder.card.transform))
    if found is None:
        left = collection.count("width IS NULL")
        return as_theirs, (made_elsewhere(collection),) if left else ()
    if not found.agrees:
        raise WrongModelError(
            f"{card.name} gives other embeddings than those imported into {collection.path} ({found}): their "
            "images were prepared in another way, or embedded by another model. Embed the images into a collection of "
            "their own."
        )
    return as_theirs, (f"{card.name} made the imported embeddings ({found}).",)


def _as_they_did(collection: Storage, encoder: Encoder) -> tuple[Encoder, EmbeddedAgain | None]:
    """The model with images prepared in the way that agrees with the stored embeddings, else in the first way."""
    found = embedded_again(collection, encoder)
    if found is None or found.alike == found.images or (other := prepared_whole(encoder)) is None:
        return encoder, found
    again = embedded_again(collection, other)
    return (other, again) if again is not None and again.alike > found.alike else (encoder, found)


def _at_hand(collection: Storage) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Imported rows whose images are files of this machine: the path and the stored embedding.

    A row that was embedded here has a width.
    """
    looked_at = 0
    for table, vectors in collection.embedding_batches(("uri",), where="width IS NULL"):
        for uri, vector in zip(table["uri"].to_pylist(), vectors, strict=True):
            looked_at += 1
            if looked_at > _ROWS_TO_LOOK_AT:
                return
            if uri.startswith("file://") and "#" not in uri and Path(path := uri_to_path(uri)).is_file():
                yield path, vector
