"""The collection's model: loaded at first need, one batch at a time, with a bounded queue before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from birder.collection.model import made_elsewhere, resolved
from birder.collection.schema import IMPORTED
from birder.errors import ConfigError
from birder.server.catalogue import Catalogue
from birder.server.limits.work import Workers
from birder.weights.resolve import Model, resolve

if TYPE_CHECKING:
    from birder.collection.model import Encoder
    from birder.naming.class_words import ClassWords
    from birder.weights.clip import LoadedClip
    from birder.weights.load import LoadedModel

Vector = npt.NDArray[np.float32]


class ModelWorker:
    """Runs what needs the model, in a thread of its own; what it loads, that thread alone uses."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.workers = Workers("model", threads=1, waiting=128)
        self._encoder: Encoder | None = None
        self._clip: LoadedClip | None = None
        self._head: LoadedModel | None = None
        self._words: ClassWords | None = None
        self._knows_words: bool | None = None

    def abilities(self) -> dict[str, Any]:
        """What this machine can do without fetching anything, and why it cannot do the rest."""
        collection = self._catalogue.current().collection
        card = collection.model
        imported = card.engine == IMPORTED
        model = resolved(card.source)
        encoder = self._clip is not None or (model is not None and model.text_encoder_is_here())
        by_words = not encoder and not imported and model is not None and self._has_words(model)
        text = encoder or by_words
        # Image features that were imported need the CLIP model, not the image encoder alone.
        here = model is not None and model.image_encoder_is_here()
        image = self._encoder is not None or here or (imported and text)
        why = None
        if not image:
            fetched = "" if imported and card.source.count("/") else f" Fetch them with: birder fetch {card.source}"
            why = (
                f"The weights of {card.name} are not on this machine, so other images cannot be searched for.{fetched}"
            )
        elif imported:
            why = made_elsewhere(collection)
        elif not text:
            why = f"{card.name} has no text encoder on this machine, so texts cannot be searched for."
        text_by = "encoder" if encoder else "class names" if by_words else None
        return {"search_text": text, "text_by": text_by, "search_image": image, "predict": image, "why": why}

    def encoder(self) -> Encoder:
        """The image encoder; in the model's thread only."""
        if self._encoder is None:
            from birder.collection.model import load_encoder_of

            self._encoder = load_encoder_of(self._catalogue.current().collection, clip=self._clip)
        return self._encoder

    def transform(self) -> dict[str, Any]:
        """How images are prepared for the model, as a card describes it; in the model's thread only."""
        return self.encoder().card.transform

    def clip(self) -> LoadedClip:
        """The CLIP model, with its text encoder; in the model's thread only."""
        if self._clip is None:
            from birder.collection.text_encoder import load_text_encoder

            self._clip = load_text_encoder(self._catalogue.current().collection)
        return self._clip

    def words(self) -> ClassWords:
        """The words of the model's classes, where `abilities` tells that there are some; in the model's thread only."""
        if self._words is None:
            from birder.naming.class_words import class_words_of_rows

            self._words = class_words_of_rows(self._catalogue.current().collection)
        if self._words is None:
            raise ConfigError("The model has no class names any more: restart the server.")
        return self._words

    def _has_words(self, model: Model) -> bool:
        if self._knows_words is None:
            from birder.naming.class_words import has_class_words

            self._knows_words = model.image_encoder_is_here() and has_class_words(model)
        return self._knows_words

    def check_can_embed(self) -> None:
        """Raise `ConfigError` if images cannot be embedded here; nothing is fetched because of a request."""
        can = self.abilities()
        if not can["search_image"]:
            raise ConfigError(str(can["why"]))

    def embed(self, pixels: npt.NDArray[np.uint8]) -> Vector:
        """The embedding (D,) of pixels (H, W, 3) as the transform gives them; in the model's thread only."""
        vector: Vector = self.encoder().engine.embed(np.ascontiguousarray(pixels)[None])[0]
        return vector

    def has_classes(self) -> bool:
        """Whether the network may have a classifier with class names, and is on this machine."""
        if self._head is not None:
            return bool(self._head.info.class_to_idx)
        card = self._catalogue.current().collection.model
        model = resolved(card.source)
        if card.engine == IMPORTED or model is None or model.has_classes is False:
            return False
        return model.image_encoder_is_here()

    def classify(self, embedding: Vector, k: int) -> list[tuple[str, float]]:
        """The k likeliest classes of the network's classifier, with probabilities; in the model's thread only."""
        import torch

        if self._head is None:
            self._head = resolve(self._catalogue.current().collection.model.source).load_image_encoder()
        names = {index: name for name, index in self._head.info.class_to_idx.items()}
        if not names:
            return []
        with torch.inference_mode():
            chances = self._head.net.classify(torch.from_numpy(np.array(embedding))[None]).float().softmax(1)[0]
        best = chances.topk(min(k, len(chances)))
        return [
            (names.get(int(index), str(int(index))), float(chance))
            for chance, index in zip(best.values, best.indices, strict=True)
        ]
