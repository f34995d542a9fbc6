"""The model of a collection, ready to embed: network, engine and transform, and the card that names them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from birder.collection.schema import IMPORTED
from birder.collection.storage import ModelCard, Storage
from birder.errors import BirderError, CollectionError, WeightsError, WrongModelError
from birder.images.open import open_image
from birder.images.transform import ClassificationTransform, classification_transform
from birder.inference.engine import Engine, is_usable, open_engine
from birder.weights.resolve import Kind, Model, resolve

if TYPE_CHECKING:
    from birder.weights.clip import LoadedClip


@dataclass(frozen=True)
class Encoder:
    """What turns images into a collection's embeddings, and the card by which a collection knows it."""

    engine: Engine
    transform: ClassificationTransform
    card: ModelCard

    def embed_one(self, path: str | Path) -> npt.NDArray[np.float32]:
        """The embedding (D,) float32 of one image, decoded as the card says."""
        draft = self.transform.resize_to if self.card.transform["draft"] else None
        pixels = self.transform.to_uint8(open_image(path, draft=draft))
        vector: npt.NDArray[np.float32] = self.engine.embed(pixels[None].copy())[0]
        if not is_usable(vector):
            raise WeightsError(
                f"{self.card.name} gives {path} an embedding that is zero or not finite, so it cannot be compared: "
                "the weights are damaged. Fetch them again."
            )
        return vector


@dataclass(frozen=True)
class EncoderSpec:
    """Arguments of `load_encoder`, small enough to send to another process."""

    model: str
    device: str | None = None
    engine: str = "auto"
    precision: str = "auto"
    compile: bool = False
    patches: bool = False
    centre_crop: bool = False

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
            centre_crop=self.centre_crop,
        )


def load_encoder(
    model: str | Path | Model,
    device: str | None = None,
    *,
    draft: bool = True,
    engine: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    patches: bool = False,
    centre_crop: bool = False,
) -> Encoder:
    """Load the image encoder of a model for a collection; `model` as in `resolve`, `draft` as in `embed_images`.

    `engine, precision, device, compile, patches` are as in `birder.inference.engine.open_engine`. With `centre_crop`,
    images keep their aspect ratio and lose their edges, as published benchmarks have it.
    """
    found = resolve(model).encoder()
    opened = open_engine(found, engine=engine, precision=precision, device=device, compile=compile, patches=patches)
    transform = classification_transform(opened.engine.size, opened.rgb_stats, simple_crop=centre_crop)
    card = model_card(found.name, found.source, opened.sha256, transform, opened.engine, draft=draft)
    return Encoder(opened.engine, transform, card)


def load_encoder_of(
    collection: Storage,
    device: str | None = None,
    *,
    engine: str = "auto",
    compile: bool = False,
    model: str | None = None,
    clip: LoadedClip | None = None,
) -> Encoder:
    """Load the model that a collection was made with, in its precision; of an imported collection, see `stand_in`.

    `clip` is the CLIP model, if it is loaded already: it serves an imported collection of its image features.

    Raises
    ------
    WrongModelError
        Its name or path now means another model; for an imported collection, as in `stand_in`.
    """
    card = collection.model
    if card.engine == IMPORTED:
        if clip is not None and clip.embedding_size == card.embedding_size:
            return _clip_encoder(clip, card)
        return _encoder_of_imported(collection, model, device)
    encoder = load_encoder(
        card.source,
        device,
        draft=card.transform["draft"],
        engine=engine,
        precision=precision_for(card),
        compile=compile,
        centre_crop=card.transform["simple_crop"],
    )
    if encoder.card.sha256 != card.sha256:
        raise WrongModelError(
            f"{card.source} is not the model that {collection.path} was made with (sha256 {encoder.card.sha256[:12]}, "
            f"not {card.sha256[:12]}): put the former file back, or embed the images into a new collection."
        )
    return encoder


def stand_in(collection: Storage, model: str | None = None) -> str:
    """The model that new images and texts are compared with imported embeddings by: the one rule for all uses.

    It is the model that the user named at the import, or names now: the same name, a folder or a checkpoint on this
    machine, or any model if the import gave a name that is not a model's. The caller checks its embedding dimension
    with `check_width`, and tells the user that the embeddings were `made_elsewhere`.

    Raises
    ------
    WrongModelError
        Another model is named than at the import.
    """
    card = collection.model
    theirs = resolved(card.source)
    if model is None or Path(model).exists() or theirs is None:
        return model or card.source
    if _identity(resolve(model)) != _identity(theirs):
        raise WrongModelError(
            f"{collection.path} was imported as embeddings by {card.source}, not {model}: embeddings of two models "
            f"cannot be compared. Name {card.source}, or its folder on this machine."
        )
    return model


def made_elsewhere(collection: Storage) -> str:
    """The note to the user when imported embeddings are compared with embeddings made here."""
    card = collection.model
    return (
        f"The embeddings in {collection.path} were made elsewhere, with {card.source} according to the import. Only "
        f"that name and their {card.embedding_size} dimensions show that the model fits."
    )


def check_width(collection: Storage, name: str, *widths: int) -> None:
    """Raise `WrongModelError` unless one of a model's embedding dimensions is that of the imported embeddings."""
    card = collection.model
    if card.embedding_size not in widths:
        gives = " and ".join(dict.fromkeys(f"{width}-dimensional" for width in widths))
        raise WrongModelError(
            f"{collection.path} holds {card.embedding_size}-dimensional embeddings, imported as {card.source}, but "
            f"{name} gives {gives} ones: name the model that they were made with (--model)."
        )


def _clip_encoder(clip: LoadedClip, card: ModelCard) -> Encoder:
    """A CLIP model as the encoder of an imported collection of its image features, prepared as OpenCLIP does."""
    how = replace(card, transform=_described(clip.transform, draft=False))
    return Encoder(_ClipEngine(clip), clip.transform, how)


def prepared_whole(encoder: Encoder) -> Encoder | None:
    """A CLIP model that gives image features, with images resized as a whole; None for other models.

    So do pybioclip and `birder features`; OpenCLIP crops by default.
    """
    if not isinstance(encoder.engine, _ClipEngine):
        return None
    transform = encoder.engine.clip.whole_image_transform
    return Encoder(encoder.engine, transform, replace(encoder.card, transform=_described(transform, draft=False)))


class _ClipEngine:
    """The engine that gives image features in the space of the texts."""

    name = "torch"
    precision = "fp32"
    patches: tuple[int, int, int] | None = None

    def __init__(self, clip: LoadedClip) -> None:
        self.clip = clip
        self.size = clip.transform.size
        self.embedding_size = clip.embedding_size

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        import torch

        mean, std = (np.array(each, np.float32) for each in (self.clip.transform.mean, self.clip.transform.std))
        x = torch.from_numpy(((images.astype(np.float32) / 255.0 - mean) / std).transpose(0, 3, 1, 2).copy())
        features: npt.NDArray[np.float32] = self.clip.encode_image(x).float().cpu().numpy()
        return features

    def embed_with_patches(
        self, images: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
        raise CollectionError("Image features in the space of the texts have no patch tokens.")


def _encoder_of_imported(collection: Storage, model: str | None, device: str | None) -> Encoder:
    from birder.inference.engine_torch import find_device

    name = stand_in(collection, model)
    found = resolved(name)
    if found is None:
        raise CollectionError(
            f"{collection.path} was imported, and {name!r}, which is given as the model of its embeddings, is not a "
            "model that can be loaded. Search it by its own rows (--id), or name the model: "
            "--model imageomics/bioclip-2"
        )
    widths = []
    if found.kind in (Kind.registered, Kind.file):
        encoder = load_encoder(found, device, draft=False, precision="fp32")
        widths.append(encoder.engine.embedding_size)
        if widths[0] == collection.model.embedding_size or not found.has_text_encoder:
            check_width(collection, name, *widths)
            return encoder
    clip = found.load_clip(device=find_device(device))
    check_width(collection, name, *widths, clip.embedding_size, clip.net.image.embedding_size)
    if clip.embedding_size == collection.model.embedding_size:
        return _clip_encoder(clip, collection.model)
    return load_encoder(found, device, draft=False, precision="fp32")


def resolved(word: str) -> Model | None:
    """What a card's word for its model means; None if it does not name a model, or a file that is gone."""
    try:
        return resolve(word)
    except BirderError:
        return None


def _identity(model: Model) -> str:
    """A key that all spellings of a model's name share."""
    return model.name.strip("/").lower() if model.kind == Kind.hub else model.source


def precision_for(card: ModelCard) -> str:
    """The precision to ask for to continue as a card says; for bf16, whichever of bf16 and fp32 the processor has."""
    return "auto" if card.precision == "bf16" else card.precision


def model_card(
    name: str, source: str, sha256: str, transform: ClassificationTransform, engine: Engine, *, draft: bool
) -> ModelCard:
    """The card of a model as it is used here."""
    return ModelCard(
        name=name,
        source=source,
        sha256=sha256,
        transform=_described(transform, draft=draft),
        engine=engine.name,
        precision=engine.precision,
        embedding_size=engine.embedding_size,
        patches=list(engine.patches) if engine.patches else None,
    )


def _described(transform: ClassificationTransform, *, draft: bool) -> dict[str, Any]:
    return {
        "size": list(transform.size),
        "mean": list(transform.mean),
        "std": list(transform.std),
        "center_crop": transform.center_crop,
        "simple_crop": transform.simple_crop,
        "draft": draft,
    }
