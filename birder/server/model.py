"""The collection's model: loaded at first need, one batch at a time, with a bounded queue before it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from birder.collection.schema import IMPORTED
from birder.errors import ConfigError
from birder.server.catalogue import Catalogue
from birder.server.limits.work import Workers

if TYPE_CHECKING:
    from birder.collection.model import Encoder
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

    def abilities(self) -> dict[str, Any]:
        """What this machine can do without fetching anything, and why it cannot do the rest."""
        from birder.collection.model import made_elsewhere

        collection = self._catalogue.current().collection
        card = collection.model
        imported = card.engine == IMPORTED
        text = self._clip is not None or _text_half_is_here(card.source)
        # Whoever imported embeddings named their model; its image features come from the whole of it.
        image = self._encoder is not None or model_file(card.source) is not None or (imported and text)
        why = None
        if not image:
            fetched = "" if imported and card.source.count("/") else f" Fetch them with: birder fetch {card.source}"
            why = (
                f"The weights of {card.name} are not on this machine, so pictures from elsewhere cannot be searched "
                f"for.{fetched}"
            )
        elif imported:
            why = made_elsewhere(collection)
        elif not text:
            why = f"{card.name} has no text half on this machine, so words cannot be searched for."
        return {"search_text": text, "search_image": image, "predict": image, "why": why}

    def encoder(self) -> Encoder:
        """The network that embeds photographs; in the model's thread only."""
        if self._encoder is None:
            from birder.collection.model import load_encoder_of

            self._encoder = load_encoder_of(self._catalogue.current().collection, clip=self._clip)
        return self._encoder

    def transform(self) -> dict[str, Any]:
        """How the model wants pictures to be prepared, as a card has it; in the model's thread only."""
        return self.encoder().card.transform

    def clip(self) -> LoadedClip:
        """The whole model, with its text half; in the model's thread only."""
        if self._clip is None:
            from birder.collection.text_encoder import load_text_half

            self._clip = load_text_half(self._catalogue.current().collection)
        return self._clip

    def check_can_embed(self) -> None:
        """Refuse (`ConfigError`) a picture that cannot be embedded here; nothing is fetched because of a request."""
        can = self.abilities()
        if not can["search_image"]:
            raise ConfigError(str(can["why"]))

    def embed(self, pixels: npt.NDArray[np.uint8]) -> Vector:
        """The embedding (D,) of pixels (H, W, 3) as the transform gives them; in the model's thread only."""
        vector: Vector = self.encoder().engine.embed(np.ascontiguousarray(pixels)[None])[0]
        return vector

    def has_classes(self) -> bool:
        """Whether the network's head, if it has one, is on this machine."""
        if self._head is not None:
            return bool(self._head.info.class_to_idx)
        card = self._catalogue.current().collection.model
        return card.engine != IMPORTED and model_file(card.source) is not None

    def classify(self, embedding: Vector, k: int) -> list[tuple[str, float]]:
        """The k likeliest classes of the network's head, and their probabilities; in the model's thread only."""
        import torch

        if self._head is None:
            from birder.weights.load import load_any

            self._head = load_any(self._catalogue.current().collection.model.source)
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


def model_file(source: str) -> Path | None:
    """Where a model's weights are on this machine; None if they are not. Nothing is fetched."""
    from birder.registry import list_pretrained_models, weights_spec
    from birder.weights.hub import cached_file

    if source in list_pretrained_models():
        return cached_file(weights_spec(source))
    return Path(source) if Path(source).is_file() else None


def _text_half_is_here(source: str) -> bool:
    from birder.errors import WeightsError
    from birder.naming.default_model import is_here
    from birder.registry import list_pretrained_models, weights_spec
    from birder.weights.openclip import PICKLE_FILE, SAFETENSORS_FILE, openclip_repository

    repository = source
    if source in list_pretrained_models():
        try:
            repository = openclip_repository(weights_spec(source))
        except WeightsError:
            return False
    elif Path(source).is_dir():
        return any((Path(source) / name).is_file() for name in (SAFETENSORS_FILE, PICKLE_FILE))
    elif Path(source).exists() or source.count("/") != 1:
        return False
    return is_here(repository)
