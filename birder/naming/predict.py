"""Names for the rows of a collection or for image files, by texts, by labelled examples or by a classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np

from birder.collection.backbone import check_backbone
from birder.collection.filter import Filter
from birder.collection.model import Encoder, load_encoder, load_encoder_of, made_elsewhere
from birder.collection.schema import IMPORTED
from birder.collection.storage import Storage
from birder.collection.text_encoder import load_text_encoder
from birder.errors import CollectionError, ConfigError, NoTextEncoderError, WrongModelError, unknown_name
from birder.inference.engine_torch import find_device
from birder.naming.by_classifier import ClassifierNames, backbone_told
from birder.naming.by_examples import ExampleNames, hold_out, name_by_stream
from birder.naming.by_texts import TextNames, name_by_texts
from birder.naming.by_words import WordNames
from birder.naming.default_model import default_clip
from birder.naming.inputs import (
    IMAGES_AT_ONCE,
    Batches,
    OnUnreadable,
    image_embeddings,
    image_features,
    labelled_embeddings,
    stored_embeddings,
    stored_features,
)
from birder.naming.method import DEFAULT_METHOD
from birder.naming.prompts import OPENAI_TEMPLATES, TextType
from birder.taxonomy import is_rank
from birder.weights.clip import LoadedClip
from birder.weights.resolve import resolve
from birder.words import counted

FIRST = 5
"""Names among which the right one is looked for in a check on held-out examples."""


class TextOptions(TypedDict, total=False):
    """What to choose from by texts; `birder.predict` explains them."""

    labels: str | Path | Sequence[str] | None
    bins: str | Path | None
    subset: str | Path | Mapping[str, Sequence[str]] | None
    rank: str | None
    text_type: str | None
    templates: Sequence[str] | None


class NamedBatch(NamedTuple):
    """Some images, by uri or path, and the names of each, best first: its columns of text, and `score`."""

    keys: list[str]
    names: list[list[dict[str, Any]]]


@dataclass(frozen=True)
class Namer:
    """What names images, and the embeddings to name.

    Attributes
    ----------
    names
        Names embeddings.
    batches
        What to name.
    model, sha256
        What names: the model, or the examples and their model; and the sha256 of its weights.
    choice
        What it chooses from, in words.
    notes
        Warnings for the user.
    left_out
        Uris of rows that match the filter and are not named: they are the examples.
    """

    names: TextNames | ExampleNames | ClassifierNames | WordNames
    batches: Batches
    model: str
    sha256: str
    choice: str
    notes: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()

    def run(self, k: int, min_score: float) -> Iterator[NamedBatch]:
        """Name everything, a batch at a time: at most k names each, none with a score below the least."""
        for keys, vectors in self.batches:
            yield NamedBatch(keys, self.names.predict(vectors, k, min_score))


def load_text_model(collection: Storage | None, model: str | None, device: str | None) -> LoadedClip:
    """The model with a text encoder: the one named, else the collection's, else the default.

    Raises
    ------
    NoTextEncoderError
        It has no text encoder.
    CollectionError
        It is another model than the collection's.
    """
    if collection is not None:
        return load_text_encoder(collection, model, device)
    try:
        return (resolve(model) if model else default_clip()).load_clip(device=find_device(device))
    except NoTextEncoderError as error:
        more = "Labelled images name others without texts: birder predict --like COLLECTION"
        raise NoTextEncoderError(f"{error} {more}") from error


def by_texts(
    clip: LoadedClip,
    collection: Storage | None,
    images: Sequence[str],
    on_unreadable: OnUnreadable,
    *,
    where: Filter | None = None,
    batch_size: int = IMAGES_AT_ONCE,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[TextOptions],
) -> Namer:
    """Name the rows of a collection, or without one image files, by the text encoder of a model.

    Parameters
    ----------
    clip
        The model, from `load_text_model`.
    collection
        Whose rows; None for `images`.
    images
        Files, folders and patterns.
    on_unreadable
        Called with each image that cannot be read.
    where
        A filter: only these rows.
    batch_size
        Images that are embedded at once.
    progress
        Called with the labels encoded so far, and their number.
    options
        See `TextOptions`.
    """
    text_type = options.get("text_type")
    if text_type is not None and text_type not in list(TextType):
        raise unknown_name("text type", text_type, TextType)
    subset, bins, labels = options.get("subset"), options.get("bins"), options.get("labels")
    names = name_by_texts(
        clip,
        source=labels if labels is None or isinstance(labels, str) else _source(labels),
        bins=None if bins is None else Path(bins),
        subset=Path(subset) if isinstance(subset, str) else subset,
        rank=options.get("rank"),
        text_type=TextType(text_type) if text_type else None,
        templates=options.get("templates") or OPENAI_TEMPLATES,
        progress=progress,
    )
    groups = f" in {names.groups.names.num_rows:,} groups" if names.groups else ""
    choice = f"{counted(names.labels.names.num_rows, 'label')}{groups}"
    if collection is None:
        return Namer(names, image_features(images, clip, on_unreadable, batch_size), clip.name, clip.sha256, choice)
    batches = stored_features(collection, clip, where=where)
    return Namer(names, batches, clip.name, clip.sha256, choice, imported_note(collection))


def by_examples(
    examples: Storage,
    column: str,
    collection: Storage | None,
    images: Sequence[str],
    on_unreadable: OnUnreadable,
    *,
    method: str = DEFAULT_METHOD,
    where: Filter | None = None,
    encoder: Encoder | None = None,
    device: str | None = None,
) -> Namer:
    """Name the rows of a collection, or without one image files, by the labelled rows of a collection.

    Parameters
    ----------
    examples
        Its rows with a value in `column` are the examples. They are not named where `collection` is the same one.
    column
        The column with the labels. If it is a rank, names have this rank, and the ranks above are those of the
        examples.
    collection, images, on_unreadable, where
        As for `by_texts`.
    method
        "simpleshot" or "knn"; see `birder.naming.by_examples`.
    encoder
        The model of the examples, where it is loaded already.
    device
        Where else it is loaded.

    Raises
    ------
    CollectionError
        The two collections are of different models, or there is nothing to learn from or to name.
    """
    if collection is not None:
        examples.check_model(collection.model)
    labelled = labelled_embeddings(examples, column)
    names = name_by_stream(labelled.embeddings, labelled.labels, method=method)
    if is_rank(column):
        names = replace(names, column=column, lineages=labelled.lineages)
    choice = f"{len(names.classifier.classes):,} classes with {len(labelled.labels):,} examples"
    model = f"{names.method.display_name} on {column}, {examples.model.name}"
    notes: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()
    if collection is None:
        notes = imported_note(examples)
        encoder = encoder or load_encoder_of(examples, device)
        batches = image_embeddings(images, encoder.embed_one, on_unreadable)
    elif collection.path.resolve() == examples.path.resolve():
        if len(labelled.uris) == collection.count():
            folders = column == "label" and (
                " A name that is only that of the folder counts as well; to take it away: birder label "
                f"{collection.path} --where \"label = 'NAME'\" --clear label"
            )
            raise CollectionError(
                f"Every row of {collection.path} has its {column} already. To see how well the examples do, leave some "
                f"out: birder predict --like {examples.path} --column {column} --hold-out 0.25."
                f"{folders if column == 'label' else ''}"
            )
        notes = (f"The rows that have no {column} are named; the others are the examples.",)
        left_out = frozenset(labelled.uris)
        if where is not None:
            left_out &= {uri for batch in collection.scan(["uri"], where=where) for uri in batch["uri"].to_pylist()}
        batches = stored_embeddings(collection, leave_out=left_out, where=where)
    else:
        batches = stored_embeddings(collection, where=where)
    return Namer(names, batches, model, examples.model.sha256, choice, notes, left_out)


def by_classifier(
    names: ClassifierNames,
    collection: Storage | None,
    images: Sequence[str],
    on_unreadable: OnUnreadable,
    *,
    where: Filter | None = None,
    encoder: Encoder | None = None,
    device: str | None = None,
) -> Namer:
    """Name the rows of a collection, or image files, by a classifier from a file.

    Parameters
    ----------
    names
        The classifier, from `birder.naming.by_classifier.names_by_classifier`.
    collection
        Whose rows, by their stored embeddings; with `images` and `encoder`, the collection whose model embeds them.
    images
        Files, folders and patterns; none to name the rows.
    on_unreadable, where
        As for `by_texts`.
    encoder
        What embeds images as the collection's rows were.
    device
        Where the classifier's own network is loaded, without `encoder`.

    Raises
    ------
    WrongModelError
        The collection's embeddings are of another backbone than the classifier's.
    WeightsError
        The classifier is a detached head, and its backbone is not on this machine.
    """
    notes = () if collection is None else check_backbone(collection, backbone_told(names), names.name)
    if collection is not None and encoder is None:
        return Namer(
            names, stored_embeddings(collection, where=where), names.name, names.sha256, names.description, notes
        )
    if encoder is None:
        model = resolve(names.source)
        model.fetch()  # of a detached head, this compares its backbone with what is here
        # In PyTorch: a graph for another engine would be kept on disk for each classifier.
        encoder = load_encoder(model, device, draft=False, engine="torch", precision="fp32")
    if encoder.card.embedding_size != names.classifier.dimension:
        raise WrongModelError(
            f"{names.name} takes {names.classifier.dimension}-dimensional embeddings, but {encoder.card.name} gives "
            f"{encoder.card.embedding_size}-dimensional ones. Embed the images into the collection that it was learned "
            "from, and name them there with --in."
        )
    batches = image_embeddings(images, encoder.embed_one, on_unreadable)
    return Namer(names, batches, names.name, names.sha256, names.description, notes)


def by_words(
    names: WordNames,
    collection: Storage | None,
    images: Sequence[str],
    on_unreadable: OnUnreadable,
    *,
    where: Filter | None = None,
    encoder: Encoder | None = None,
    device: str | None = None,
) -> Namer:
    """Name the rows of a collection, or image files, by words for a model's classes; as `by_classifier`.

    Parameters
    ----------
    names
        The words, from `birder.naming.by_words.name_by_words`.
    collection, images, on_unreadable, where, encoder, device
        As for `by_classifier`.
    """
    words = names.words
    classifier = ClassifierNames(words.classifier, words.model, words.sha256, words.source)
    namer = by_classifier(classifier, collection, images, on_unreadable, where=where, encoder=encoder, device=device)
    choice = f"{len(names.places):,} labels, among {namer.choice}"
    return replace(namer, names=names, choice=choice, notes=(*namer.notes, names.note))


@dataclass(frozen=True)
class HeldOutNames:
    """Labelled images that were left out of the examples: their uris, labels, and names, the best first.

    Attributes
    ----------
    uris, labels, names
        Of each image; the names have `label` and `score`.
    model
        What named them.
    examples, classes
        How many there were to learn from.
    right, among_first
        How many have the right name first, and among the first five.
    """

    uris: list[str]
    labels: list[str]
    names: list[list[dict[str, Any]]]
    model: str
    examples: int
    classes: int
    right: int
    among_first: int


def name_held_out(
    examples: Storage,
    column: str,
    share: float,
    k: int,
    *,
    method: str = DEFAULT_METHOD,
    where: str | Filter | None = None,
) -> HeldOutNames:
    """Name labelled rows that were left out of the examples, to see how often that is right.

    Parameters
    ----------
    examples
        The collection.
    column
        The column with the labels.
    share
        Of each class, the share of its rows that is left out; between 0 and 1.
    k
        How many names for each.
    method
        As for `by_examples`.
    where
        A filter: only these rows, as examples and left out.

    Raises
    ------
    ConfigError
        No class is large enough.
    """
    labelled = labelled_embeddings(examples, column, where=where)
    out = hold_out(labelled.labels, share)
    if not out.any():
        raise ConfigError(
            f"No class of {column} is large enough to leave {share} of it out. Label more images, "
            f"or increase the share."
        )
    kept = [label for label, left in zip(labelled.labels, out, strict=True) if not left]
    names = name_by_stream(lambda: labelled.embeddings(~out), kept, method=method)
    found = [some for part in labelled.embeddings(out) for some in names.predict(part, max(k, FIRST))]
    held = np.flatnonzero(out).tolist()
    truths = [labelled.labels[row] for row in held]
    guesses = [[each["label"] for each in some[:FIRST]] for some in found]
    return HeldOutNames(
        [labelled.uris[row] for row in held],
        truths,
        [some[:k] for some in found],
        f"{names.method.display_name} on {column}, {examples.model.name}",
        len(kept),
        len(names.classifier.classes),
        sum(some[:1] == [truth] for some, truth in zip(guesses, truths, strict=True)),
        sum(truth in some for some, truth in zip(guesses, truths, strict=True)),
    )


def imported_note(collection: Storage) -> tuple[str, ...]:
    """What must be said of a collection whose embeddings others made; nothing of others."""
    return (made_elsewhere(collection),) if collection.model.engine == IMPORTED else ()


def _source(labels: str | Path | Sequence[str]) -> str | Sequence[str]:
    return str(labels) if isinstance(labels, Path) else labels
