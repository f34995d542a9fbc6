"""What `predict`, `hold_out` and `features` give, gathered from names and features a batch at a time."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.filter import Filter
from birder.collection.model import Encoder
from birder.collection.predictions import is_prediction
from birder.collection.progress import StageProgress, stages_shown
from birder.collection.results import HeldOut, ImageFeatures, Predictions
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import CollectionError, ConfigError, ImageError, unknown_name
from birder.formats.features import write_features
from birder.naming.by_classifier import ClassifierNames, is_classifier, names_by_classifier
from birder.naming.by_sequence import NamedSequence, SequencePool
from birder.naming.by_words import are_words, name_by_words
from birder.naming.class_words import ClassWords, load_class_words
from birder.naming.inputs import image_features, stored_features
from birder.naming.method import DEFAULT_METHOD
from birder.naming.predict import HeldOutNames, Namer, by_classifier, by_examples, by_texts, by_words, imported_note
from birder.sources import is_url, path_to_uri, readable, readable_path, uri_to_name
from birder.weights.clip import LoadedClip
from birder.weights.resolve import resolve


@dataclass(frozen=True)
class LabelledRows:
    """Rows to name by: their collection, the column with the labels, and what embeds images as they were embedded."""

    storage: Storage
    column: str
    load_encoder: Callable[[], Encoder]


def predict_names(
    storage: Storage,
    images: Sequence[str | Path] | None,
    *,
    load_examples: Callable[[], LabelledRows] | None,
    load_clip: Callable[[], LoadedClip],
    load_words: Callable[[], ClassWords | None],
    load_encoder: Callable[[], Encoder],
    method: str | None,
    model: str | Path | None,
    deepest: float | None,
    where: str | Filter | None,
    k: int,
    min_score: float,
    save: bool,
    by: str | None,
    batch_size: int,
    progress: StageProgress,
    labels: str | Path | Sequence[str] | None,
    bins: str | Path | None,
    subset: str | Path | Mapping[str, Sequence[str]] | None,
    rank: str | None,
    text_type: str | None,
    templates: Sequence[str] | None,
) -> Predictions:
    """What `Collection.predict` gives: names by examples where they can be loaded, by a classifier, words, or texts."""
    choices = {"labels": labels, "bins": bins, "subset": subset, "rank": rank}
    choices |= {"text_type": text_type, "templates": templates, "model": model}
    given = [name for name, value in choices.items() if value is not None]
    if load_examples is not None and given:
        raise ConfigError(f"Examples name with their collection's model: leave out {given[0]}, or the examples.")
    if method is not None and load_examples is None:
        raise ConfigError("A method is one of naming by examples: give examples or a column.")
    if save and images is not None:
        raise ConfigError("save writes into the rows of the collection: leave out images.")
    if where is not None and images is not None:
        raise ConfigError("A filter chooses rows of the collection: leave out images or where.")
    if by not in (None, "sequence"):
        raise unknown_name("unit", by, ["sequence"])
    if by is not None and images is not None:
        raise ConfigError("Sequences are those of the collection's rows: leave out images or by.")
    words = None
    if load_examples is None and set(given) <= {"labels", "model"} and are_words(labels) and deepest is None:
        found = load_words() if model is None else load_class_words(resolve(model))
        words = None if found is None or labels is None else name_by_words(found, labels)
    classifier = None if load_examples is not None or words is not None else classifier_of(model, deepest, choices)
    if deepest is not None and classifier is None:
        raise ConfigError("The deepest rank is told by a classifier: name its file as the model.")
    filter = without_wrong_boxes(where, storage.columns)
    files = [os.fspath(image) for image in images or ()]
    named = None if images is not None else storage
    unreadable: list[tuple[str, str]] = []

    def on_unreadable(path: str, error: ImageError) -> None:
        unreadable.append((path, str(error)))

    with stages_shown(progress) as show:
        if load_examples is not None:
            examples = load_examples()
            namer = by_examples(
                examples.storage,
                examples.column,
                named,
                files,
                on_unreadable,
                method=method or DEFAULT_METHOD,
                where=filter,
                encoder=None if named is not None else examples.load_encoder(),
            )
        elif classifier is not None:
            namer = by_classifier(
                classifier,
                storage,
                files,
                on_unreadable,
                where=filter,
                encoder=None if named is not None else load_encoder(),
            )
        elif words is not None:
            namer = by_words(
                words,
                storage,
                files,
                on_unreadable,
                where=filter,
                encoder=None if named is not None else load_encoder(),
            )
        else:
            namer = by_texts(
                load_clip(),
                named,
                files,
                on_unreadable,
                where=filter,
                batch_size=batch_size,
                progress=None if show is None else lambda done, total: show("encoding labels", done / total),
                labels=labels,
                bins=bins,
                subset=subset,
                rank=rank,
                text_type=text_type,
                templates=templates,
            )
        pool = None if by is None else SequencePool(namer.names, sequences_of(storage, filter, namer), k, min_score)
        return collect_predictions(namer, k, min_score, unreadable, storage if save else None, pool)


def classifier_of(
    model: str | Path | None, deepest: float | None, choices: Mapping[str, Any]
) -> ClassifierNames | None:
    """The classifier that a model's word names; None if it names none.

    Parameters
    ----------
    model
        The word.
    deepest
        As for `Collection.predict`.
    choices
        Options by name, those of naming by texts among them, which must not be given with a classifier.
    """
    if model is None or not is_classifier(model):
        return None
    if given := [name for name, value in choices.items() if value is not None and name != "model"]:
        raise ConfigError(f"{model} is a classifier, which has classes of its own: leave out {given[0]}.")
    return names_by_classifier(model, deepest)


def collect_predictions(
    namer: Namer,
    k: int,
    min_score: float,
    unreadable: Sequence[tuple[str, str]],
    save: Storage | None = None,
    pool: SequencePool | None = None,
) -> Predictions:
    """Name everything that a namer has, and gather the names in one table.

    Parameters
    ----------
    namer
        Names images or rows.
    k, min_score
        The most names for each image, and their minimum score.
    unreadable
        Paths of images that cannot be read, and why; filled while the namer works.
    save
        The collection whose rows get the best name of each in their predicted_... columns.
    pool
        Names sequences: the table then has their names, and rows get those in predicted_sequence_... columns, too.
    """
    if pool is not None:
        return _collect_sequences(namer, pool, min_score, save)
    further = namer.names.further if isinstance(namer.names, ClassifierNames) else {}
    schema = _schema(namer.names.columns, further)
    batches: list[pa.RecordBatch] = []
    best: list[tuple[str, dict[str, Any] | None]] = []
    images = nameless = 0
    for keys, found in namer.run(k, min_score):
        lines = [{**_image(key), **name} for key, names in zip(keys, found, strict=True) for name in names]
        batches.append(pa.RecordBatch.from_pylist(lines, schema))
        images += len(keys)
        nameless += sum(not names for names in found)
        if save is not None:
            best += [(key, names[0] if names else None) for key, names in zip(keys, found, strict=True)]
    saved = [] if save is None else _save(namer, best, save)
    return Predictions(
        pa.Table.from_batches(batches, schema),
        columns=tuple(namer.names.columns),
        model=namer.model,
        sha256=namer.sha256,
        choice=namer.choice,
        images=images,
        nameless=nameless,
        unreadable=tuple(unreadable),
        saved=tuple(saved),
        notes=namer.notes,
    )


def sequences_of(storage: Storage, where: Filter | None, namer: Namer) -> dict[str, str]:
    """The sequence of each row that is named, by uri; some 300 bytes a row.

    Raises
    ------
    CollectionError
        The collection has no sequences.
    """
    found: dict[str, str] = {}
    if "sequence" in storage.columns:
        for batch in storage.scan(["uri", "sequence"], where=where):
            for uri, sequence in zip(batch["uri"].to_pylist(), batch["sequence"].to_pylist(), strict=True):
                if sequence is not None and uri not in namer.left_out:
                    found[uri] = sys.intern(sequence)
    if not found:
        raise CollectionError(
            f"The rows of {storage.path} that are to be named are in no sequences yet. Make them with: "
            f"birder sequences {storage.path}"
        )
    return found


def _collect_sequences(namer: Namer, pool: SequencePool, min_score: float, save: Storage | None) -> Predictions:
    """Name sequences, and to save them the rows as well; see `collect_predictions`."""
    schema = _schema(namer.names.columns)
    schema = schema.insert(2, pa.field("sequence", pa.string())).insert(3, pa.field("rows", pa.int64()))
    lines: list[dict[str, Any]] = []
    best: dict[str, dict[str, Any]] = {}
    sequences = nameless = 0

    def take(found: Iterable[NamedSequence]) -> None:
        nonlocal sequences, nameless
        for each in found:
            sequences += 1
            nameless += not each.names
            about = {**_image(each.uri), "sequence": each.sequence, "rows": each.rows}
            lines.extend({**about, **name} for name in each.names)
            if each.names:
                best[each.sequence] = {f"sequence_{name}": value for name, value in each.names[0].items()}

    rows: list[tuple[str, dict[str, Any] | None]] = []
    for keys, vectors in namer.batches:
        take(pool.add(keys, vectors))
        if save is not None:
            names = namer.names.predict(vectors, 1, min_score)
            rows += [(key, found[0] if found else None) for key, found in zip(keys, names, strict=True)]
    take(pool.rest())
    saved: list[str] = []
    if save is not None:
        of_sequence = {uri: best.get(pool.sequence_of.get(uri, uri)) for uri, _ in rows}
        saved = _save(namer, rows, save, of_sequence)
    return Predictions(
        pa.Table.from_pylist(lines, schema),
        columns=tuple(namer.names.columns),
        model=namer.model,
        sha256=namer.sha256,
        choice=namer.choice,
        images=sequences,
        nameless=nameless,
        saved=tuple(saved),
        notes=namer.notes,
    )


def _save(
    namer: Namer,
    best: list[tuple[str, dict[str, Any] | None]],
    save: Storage,
    of_sequence: Mapping[str, Mapping[str, Any] | None] | None = None,
) -> list[str]:
    """Write the best name of each row into a collection; of a classifier also what it says beside it, and its sum.

    `of_sequence` has the best name of each row's sequence, by uri.
    """
    now = datetime.now(UTC)
    names = namer.names
    rows = itertools.chain(best, ((uri, None) for uri in _stale(save, namer.left_out)))
    more: dict[str, pa.DataType] = {}
    if of_sequence is not None:
        more = {f"sequence_{name}": pa.string() for name in names.columns} | {"sequence_score": pa.float32()}
    if not isinstance(names, ClassifierNames):
        return save.save_predictions(_joined(rows, of_sequence), names.columns, namer.model, now, more)
    ranks = (names.classifier.adaptation.get("ranks") or {}).get("names", []) if names.floor is not None else []
    columns = [*names.columns, *(rank for rank in ranks if rank not in names.columns)]
    further = {name: pa.string() if name == "set" else type_ for name, type_ in names.further.items()}
    values = (
        (
            key,
            found
            and {
                **names.taxa_above(found),
                **found,
                "set": "; ".join(found.get("set") or ()),
                "sha256": namer.sha256,
            },
        )
        for key, found in rows
    )
    further |= {"sha256": pa.string()} | more
    return save.save_predictions(_joined(values, of_sequence), columns, namer.model, now, further)


def _stale(collection: Storage, left_out: Set[str]) -> list[str]:
    """Those of the rows left out that have a prediction: the names of one run replace all those of a former model."""
    predicted = [name for name in collection.columns if is_prediction(name)]
    if not predicted or not left_out:
        return []
    stale: list[str] = []
    for batch in collection.scan(["uri", *predicted]):
        has = functools.reduce(pc.or_, (pc.is_valid(batch[name]) for name in predicted))
        stale += [uri for uri in batch.filter(has)["uri"].to_pylist() if uri in left_out]
    return sorted(stale)


def _joined(
    best: Iterable[tuple[str, dict[str, Any] | None]], of_sequence: Mapping[str, Mapping[str, Any] | None] | None
) -> Iterable[tuple[str, dict[str, Any] | None]]:
    """What was predicted for rows, with what was predicted for their sequences."""
    if of_sequence is None:
        return best
    return ((uri, {**(found or {}), **(of_sequence.get(uri) or {})} or None) for uri, found in best)


def held_out_predictions(found: HeldOutNames, sha256: str, k: int, min_score: float) -> HeldOut:
    """The names of held-out images as `HeldOut`; k and the minimum score limit the names, not the counts."""
    schema = _schema(["is", "label"])
    lines = [
        {**_image(uri), "is": label, **name}
        for uri, label, names in zip(found.uris, found.labels, found.names, strict=True)
        for name in names[:k]
        if name["score"] >= min_score
    ]
    return HeldOut(
        pa.Table.from_pylist(lines, schema),
        columns=("label",),
        model=found.model,
        sha256=sha256,
        choice=f"{found.classes:,} classes with {found.examples:,} examples",
        images=len(found.uris),
        right=found.right,
        among_five=found.among_first,
        classes=found.classes,
        examples=found.examples,
    )


def collect_features(
    clip: LoadedClip,
    collection: Storage | None,
    images: Sequence[str | Path],
    batch_size: int,
    to: str | Path | None,
    force: bool,
    where: str | Filter | None = None,
) -> ImageFeatures:
    """Image features of a collection's rows, or of image files without one; written to a file if one is given."""
    unreadable: list[tuple[str, str]] = []
    names: list[str] = []
    blocks = []
    if collection is None:
        files = [os.fspath(image) for image in images]
        batches = image_features(files, clip, lambda path, error: unreadable.append((path, str(error))), batch_size)
    else:
        batches = stored_features(collection, clip, where=without_wrong_boxes(where, collection.columns))
    for keys, block in batches:
        names += [readable(uri_to_name(key)) for key in keys]
        blocks.append(block)
    if not blocks:
        if collection is not None:
            which = "" if where is None else " that match the filter"
            raise CollectionError(f"There are no features: {collection.path} has no rows{which}.")
        path, reason = unreadable[0]
        raise ImageError(f"There are no features: no image could be read; {readable(path)}: {reason}.")
    features = np.concatenate(blocks)
    written = "" if to is None else write_features(Path(to), names, features, clip.name, force=force)
    notes = () if collection is None else imported_note(collection)
    return ImageFeatures(tuple(names), features, clip.name, tuple(unreadable), written, notes)


def class_predictions(
    rows: Sequence[tuple[str, str, float]], model: str, sha256: str, classes: int, unreadable: Sequence[tuple[str, str]]
) -> Predictions:
    """Classes of a classifier as `Predictions`; each row is a path, a class and its probability."""
    lines = [{**_image(path), "label": label, "score": score} for path, label, score in rows]
    return Predictions(
        pa.Table.from_pylist(lines, _schema(["label"])),
        columns=("label",),
        model=model,
        sha256=sha256,
        choice=f"{classes:,} classes",
        images=len({path for path, _, _ in rows}),
        unreadable=tuple(unreadable),
    )


def _image(key: str) -> dict[str, str]:
    uri = key if key.startswith("file://") or is_url(key) else path_to_uri(Path(key))
    return {"path": readable_path(key), "uri": uri}


def _schema(columns: Sequence[str], further: Mapping[str, pa.DataType] | None = None) -> pa.Schema:
    texts = [pa.field(name, pa.string()) for name in ("path", "uri", *columns)]
    more = [pa.field(name, type_) for name, type_ in (further or {}).items()]
    return pa.schema([*texts, pa.field("score", pa.float32()), *more])
