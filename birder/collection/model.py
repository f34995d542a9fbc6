"""The model of a collection, ready to embed: network, engine and transform, and the card that names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from birder.collection.rows import IMPORTED
from birder.collection.store import Collection, ModelCard
from birder.errors import CollectionError, WeightsError
from birder.images.open import open_image
from birder.images.transform import ClassificationTransform, classification_transform
from birder.inference.engine import Engine, is_usable, open_engine
from birder.weights.find import find_model


@dataclass(frozen=True)
class Encoder:
    """What turns photographs into a collection's embeddings, and the card by which a collection knows it."""

    engine: Engine
    transform: ClassificationTransform
    card: ModelCard

    def embed_one(self, path: str | Path) -> npt.NDArray[np.float32]:
        """The embedding (D,) float32 of one photograph, decoded as the card says."""
        draft = self.transform.resize_to if self.card.transform["draft"] else None
        pixels = self.transform.to_uint8(open_image(path, draft=draft))
        vector: npt.NDArray[np.float32] = self.engine.embed(pixels[None].copy())[0]
        if not is_usable(vector):
            raise WeightsError(
                f"{self.card.name} gives {path} an embedding that is zero or not finite, which is like nothing: its "
                "weights are damaged. Fetch them again."
            )
        return vector


@dataclass(frozen=True)
class EncoderSpec:
    """What to load and how, as for `load_encoder`; small enough to send to another process."""

    model: str
    device: str | None = None
    engine: str = "auto"
    precision: str = "auto"
    compile: bool = False
    patches: bool = False

    def load(self, draft: bool) -> Encoder:
        """Load it on this machine."""
        return load_encoder(
            self.model,
            self.device,
            draft=draft,
            engine=self.engine,
            precision=self.precision,
            compile=self.compile,
            patches=self.patches,
        )


def load_encoder(
    model: str,
    device: str | None = None,
    *,
    draft: bool = True,
    engine: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    patches: bool = False,
) -> Encoder:
    """Load a model for a collection: weights by name or a checkpoint's path; `draft` as in `embed_images`.

    `engine, precision, device, compile, patches` are as in `birder.inference.engine.open_engine`.
    """
    found = find_model(model)
    opened = open_engine(found, engine=engine, precision=precision, device=device, compile=compile, patches=patches)
    transform = classification_transform(opened.engine.size, opened.rgb_stats)
    card = model_card(found.name, model, found.sha256, transform, opened.engine, draft=draft)
    return Encoder(opened.engine, transform, card)


def load_encoder_of(
    collection: Collection, device: str | None = None, *, engine: str = "auto", compile: bool = False
) -> Encoder:
    """Load the model that a collection was made with, in its precision.

    Raises
    ------
    CollectionError
        What its name or path stands for now is another model, or its embeddings were imported.
    """
    card = collection.model
    if card.engine == IMPORTED:
        raise CollectionError(
            f"{collection.path} was imported: its embeddings are by {card.name}, and no network makes more of them. "
            "Search it by its own rows (--id), or embed photographs into a collection of their own: "
            "birder embed PHOTOS --to DIR"
        )
    encoder = load_encoder(
        card.source,
        device,
        draft=card.transform["draft"],
        engine=engine,
        precision=precision_for(card),
        compile=compile,
    )
    if encoder.card.sha256 != card.sha256:
        raise CollectionError(
            f"{card.source} is not the model that {collection.path} was made with (sha256 {encoder.card.sha256[:12]}, "
            f"not {card.sha256[:12]}): put the former file back, or embed the photographs into a new collection."
        )
    return encoder


def precision_for(card: ModelCard) -> str:
    """The precision to ask for, to go on as a card says; for bf16 what the processor has, bf16 or fp32."""
    return "auto" if card.precision == "bf16" else card.precision


def model_card(
    name: str, source: str, sha256: str, transform: ClassificationTransform, engine: Engine, *, draft: bool
) -> ModelCard:
    """The card of a model as it is used here."""
    return ModelCard(
        name=name,
        source=source if source == name else str(Path(source).resolve()),
        sha256=sha256,
        transform={
            "size": list(transform.size),
            "mean": list(transform.mean),
            "std": list(transform.std),
            "center_crop": transform.center_crop,
            "simple_crop": transform.simple_crop,
            "draft": draft,
        },
        engine=engine.name,
        precision=engine.precision,
        embedding_size=engine.embedding_size,
        patches=list(engine.patches) if engine.patches else None,
    )
