"""Functions on files, without an open collection: embed, import, name and classify them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

import pyarrow as pa

from birder.collection.adopted import check_import
from birder.collection.api import Collection, ImportReport, Paths, open_collection, paths_of, with_sequences
from birder.collection.detecting import Detected, detect_files
from birder.collection.progress import (
    DetectShow,
    EmbedProgress,
    StageProgress,
    detecting_shown,
    embedding_shown,
    stages_shown,
)
from birder.collection.results import ImageFeatures, Predictions
from birder.collection.storage import Storage, exists
from birder.errors import ConfigError, ImageError
from birder.files import at_home
from birder.formats.boxes import BoxFormat
from birder.formats.import_embeddings import import_embeddings
from birder.formats.import_predictions import has_predictions
from birder.pipeline.run import EmbedOptions, EmbedReport, encoder_spec, run_embed
from birder.registry import DEFAULT_WEIGHTS


def embed(
    images: Paths,
    into: str | Path,
    model: str | None = None,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str | None = None,
    compile: bool = False,
    patches: bool | None = None,
    exact: bool = False,
    progress: EmbedProgress = "auto",
    stop: threading.Event | None = None,
    **options: Unpack[EmbedOptions],
) -> tuple[Collection, EmbedReport]:
    """Embed images into the collection in a folder, created if it does not exist; what `birder embed` does.

    Nothing is loaded or created until there is something to embed.

    Parameters
    ----------
    images, progress, stop, options
        As for `Collection.embed`.
    into
        The collection's folder.
    model
        Weights by name, or the path of a checkpoint (default: the collection's own, or efficientnet_lite0_in1k).
    engine, precision, device, compile, patches, exact
        As for `create_collection`; `patches` and `precision` default to those of the collection.

    Returns
    -------
    The collection, and the report.

    Raises
    ------
    WrongModelError
        The collection belongs to another model.
    """
    path = at_home(into)
    storage = Storage.open(path) if exists(path) else None
    spec = encoder_spec(
        storage, model, device=device, engine=engine, precision=precision, compile=compile, patches=patches
    )
    with embedding_shown(progress) as on_progress:
        storage, encoder, report = run_embed(
            path, storage, paths_of(images), spec, draft=not exact, on_progress=on_progress, stop=stop, **options
        )
        report = with_sequences(storage, report)
    return Collection(storage, device=device, engine=engine, compile=compile, encoder=encoder), report


def import_file(
    file: str | Path,
    into: str | Path,
    *,
    model: str | None = None,
    embedding: str | None = None,
    uri: str | None = None,
    table: str | Path | None = None,
    progress: StageProgress = "auto",
) -> ImportReport:
    """Import embeddings by another tool, or predictions for existing rows; what `birder import` does.

    Existing rows are left alone; predictions go into columns predicted_..., never into labels.

    Parameters
    ----------
    file
        Embeddings: Parquet or a folder of it, CSV, NumPy's .npz or .npy, the JSON of `bioclip embed`. Or predictions:
        SpeciesNet's predictions.json, the CSV of `bioclip predict`, the JSON of what pybioclip's `predict` returns.
    into
        The collection's folder; for embeddings, created if it does not exist.
    model
        The model that made the embeddings or predictions; not needed if the file names it.
    embedding
        The column with the embeddings, or what their columns have in front of their number (default: recognised by
        its name).
    uri
        The column with the images' locations (default: recognised by its name).
    table
        For an array: a CSV or Parquet file with one line per row.
    progress
        Called with ("reading", the share of rows read); "auto" for a bar in a terminal or notebook.

    Raises
    ------
    ConfigError
        The file cannot be read, or the model is not given.
    CollectionError
        The collection belongs to another model, or its columns have other types.
    """
    file = Path(file)
    if has_predictions(file):
        if embedding is not None or uri is not None or table is not None:
            raise ConfigError(f"{file} holds predictions: leave out embedding, uri and table.")
        return open_collection(into).import_predictions(file, model=model)
    with stages_shown(progress) as show:
        done = import_embeddings(
            file,
            into,
            model=model,
            embedding=embedding,
            uri=uri,
            table=table,
            on_progress=None if show is None else lambda read, total: show("reading", read / max(total, 1)),
        )
    told = check_import(done.collection) if done.new or done.changed else None
    return ImportReport(
        Collection(done.collection),
        done.new,
        done.changed,
        done.unchanged,
        done.failed,
        done.off_earth,
        notes=() if told is None else (told,),
    )


def detect(
    images: Paths,
    *,
    model: str | Path | None = None,
    min_conf: float = 0.05,
    to: str | Path | None = None,
    format: BoxFormat = "megadetector",
    force: bool = False,
    threads: int | None = None,
    progress: DetectShow = "auto",
    stop: threading.Event | None = None,
) -> Detected:
    """Find animals, persons and vehicles on images; what `birder detect` does.

    Parameters
    ----------
    images
        Files, folders, patterns, URLs, tables and shards, as for `Collection.embed`.
    model
        A registered detector; an ONNX file: MegaDetector v5, v6 or v1000, or another YOLO whose classes have names; or
        a checkpoint that `train_detector` wrote (default: the detector that is installed with Birder).
    min_conf
        Boxes with a lower confidence are left out.
    to
        A file to write. Until it is written, what was found is kept beside it, and a run that was stopped goes on.
        Names in it are relative to the folder, if one folder was given.
    format
        "megadetector": MegaDetector's results, format 1.4; "coco": COCO's JSON with scores.
    force
        Replace a file that exists.
    threads
        Threads that read and decode (default: one per processor).
    progress
        Called with a `DetectProgress` after each batch; "auto" for a bar in a terminal or notebook.
    stop
        Once set, images already decoded are dealt with, and the run ends.

    Returns
    -------
    The boxes of each image, or why it could not be read.

    Raises
    ------
    ConfigError
        No image is found.
    UnknownNameError, WeightsError
        The detector is not known, or its graph cannot be run.
    FileExistsError
        Birder's own: the file exists, and `force` is not set.
    """
    with detecting_shown(progress) as show:
        return detect_files(
            [os.fspath(each) for each in paths_of(images)],
            model=model,
            min_conf=min_conf,
            to=to,
            form=format,
            force=force,
            threads=threads,
            on_progress=show,
            stop=stop,
        )


def predict(
    images: Paths,
    *,
    labels: str | Path | Sequence[str] | None = None,
    bins: str | Path | None = None,
    subset: str | Path | Mapping[str, Sequence[str]] | None = None,
    rank: str | None = None,
    text_type: str | None = None,
    templates: Sequence[str] | None = None,
    k: int = 5,
    min_score: float = 0.0,
    model: str | Path | None = None,
    deepest: float | None = None,
    device: str | None = None,
    batch_size: int = 16,
    progress: StageProgress = "auto",
) -> Predictions:
    """Name image files by texts or by a classifier; to name them by labelled examples see `Collection.predict`.

    Parameters
    ----------
    images
        Files, folders and patterns.
    model
        A model with a text encoder: registered weights, a hub repository such as imageomics/bioclip, or a folder in
        OpenCLIP's layout (default: BioCLIP 2, where it is on this machine). Or the file of a classifier, which
        `birder adapt` wrote, or another checkpoint with class names: its network embeds the images. With `labels`, a
        model that has class names and no text encoder names by those: see `Collection.predict`.
    deepest
        With a classifier that has ranks: also name the deepest rank that can be trusted, as for `Collection.predict`.
    device
        Device to run on: "cpu", "cuda", "mps", ... (default: best available).
    labels, bins, subset, rank, text_type, templates, k, min_score, batch_size, progress
        As for `Collection.predict`.

    Returns
    -------
    The names, the best first for each image; scores are probabilities over all labels or classes.

    Raises
    ------
    ConfigError
        Options that exclude each other, or a file that cannot be used.
    NoTextEncoderError
        The model has no text encoder.
    """
    from birder.collection.predicting import classifier_of, collect_predictions  # torch comes with these
    from birder.naming.by_words import are_words, name_by_words
    from birder.naming.class_words import load_class_words
    from birder.naming.predict import by_classifier, by_texts, by_words, load_text_model
    from birder.weights.resolve import resolve

    files = [os.fspath(image) for image in paths_of(images)]
    unreadable: list[tuple[str, str]] = []

    def on_unreadable(path: str, error: ImageError) -> None:
        unreadable.append((path, str(error)))

    choices = {"labels": labels, "bins": bins, "subset": subset, "rank": rank}
    choices |= {"text_type": text_type, "templates": templates}
    if model is not None and are_words(labels) and not any((bins, subset, rank, text_type, templates, deepest)):
        words = load_class_words(resolve(model))
        if words is not None and labels is not None:
            namer = by_words(name_by_words(words, labels), None, files, on_unreadable, device=device)
            return collect_predictions(namer, k, min_score, unreadable)
    if (classifier := classifier_of(model, deepest, choices)) is not None:
        return collect_predictions(
            by_classifier(classifier, None, files, on_unreadable, device=device), k, min_score, unreadable
        )
    if deepest is not None:
        raise ConfigError("The deepest rank is told by a classifier: name its file as the model.")
    with stages_shown(progress) as show:
        namer = by_texts(
            load_text_model(None, None if model is None else str(model), device),
            None,
            files,
            on_unreadable,
            batch_size=batch_size,
            progress=None if show is None else lambda done, total: show("encoding labels", done / total),
            labels=labels,
            bins=bins,
            subset=subset,
            rank=rank,
            text_type=text_type,
            templates=templates,
        )
        return collect_predictions(namer, k, min_score, unreadable)


def classify(images: Paths, *, model: str = DEFAULT_WEIGHTS, k: int = 5, device: str | None = None) -> Predictions:
    """Classify image files with weights that have class names.

    Parameters
    ----------
    images
        Files.
    model
        Weights by name, the path of a checkpoint, or a detached head (NAME.head.safetensors).
    k
        Number of classes per image.
    device
        Device to run on: "cpu", "cuda", "mps", ... (default: best available).

    Returns
    -------
    The classes as `label`, the most probable first for each image; scores are probabilities.

    Raises
    ------
    WeightsError
        The weights have no class names.

    Examples
    --------
    >>> found = birder.classify(["photos/mammals/badger.jpg", "photos/insects/mantis.jpg"], k=1)
    >>> [(row["label"], round(row["score"], 1)) for row in found]
    [('badger', 0.9), ('mantis, mantid', 1.0)]
    """
    from birder.collection.predicting import class_predictions
    from birder.naming.classes import name_by_classes

    named = name_by_classes([os.fspath(image) for image in paths_of(images)], model, k, device)
    return class_predictions(named.rows, named.model, named.sha256, named.classes, named.unreadable)


def image_features(
    images: Paths,
    *,
    to: str | Path | None = None,
    model: str | None = None,
    device: str | None = None,
    batch_size: int = 16,
    force: bool = False,
) -> ImageFeatures:
    """Image features of files in the space that images and texts share; those of a collection: `Collection.features`.

    Parameters
    ----------
    images
        Files, folders and patterns.
    model, device
        As for `predict`.
    to, batch_size, force
        As for `Collection.features`.

    Raises
    ------
    NoTextEncoderError
        The model has no text encoder, so there is no such space.
    ImageError
        No image could be read.
    """
    from birder.collection.predicting import collect_features
    from birder.naming.predict import load_text_model

    return collect_features(load_text_model(None, model, device), None, paths_of(images), batch_size, to, force)


def list_taxa(
    model: str = "imageomics/bioclip-2",
    *,
    rank: str | None = None,
    subset: str | Path | Mapping[str, Sequence[str]] | None = None,
    to: str | Path | None = None,
) -> pa.Table:
    """List the taxa that TreeOfLife's text embeddings of a model have names for.

    Parameters
    ----------
    model
        "imageomics/bioclip" or "imageomics/bioclip-2".
    rank
        List each taxon of this rank once (default: species).
    subset
        Only these taxa: a table with one column, named by its rank, or lists of names by rank.
    to
        Also write them, as .csv or .parquet.

    Returns
    -------
    A table with a column for each rank from kingdom down, and `common_name`.
    """
    from birder.naming.taxa import list_taxa as listed
    from birder.naming.taxa import write_taxa

    table = listed(model, rank, Path(subset) if isinstance(subset, str) else subset)
    if to is not None:
        write_taxa(table, Path(to))
    return table
