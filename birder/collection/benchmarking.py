"""Judging a model by a benchmark: its images embedded into a collection as the benchmark asks, then its protocols.

Images are decoded exactly, resized by their shorter side and cropped at the centre, whatever the model's transform is
elsewhere. All embeddings of a benchmark are in memory at once: 8 D bytes an image, and 4 C with zero-shot.

N is the number of images, D the embedding dimension, C the number of classes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from birder.collection.evaluating import Evaluation, Show
from birder.collection.model import resolved
from birder.collection.progress import StageProgress, stages_shown
from birder.collection.storage import Storage, exists
from birder.errors import BenchmarkFolderError, CollectionError, ConfigError, NoTextEncoderError, unknown_name
from birder.evaluation.benchmark_folder import BenchmarkFolder, read_benchmark
from birder.evaluation.benchmarks import benchmark, published_model
from birder.evaluation.few_shot import VARIANTS, Variant
from birder.pipeline.run import Progress, encoder_spec, run_embed
from birder.sources import path_to_uri
from birder.weights.hub import cache_folder, writing_cache
from birder.weights.resolve import resolve

if TYPE_CHECKING:
    from birder.evaluation.benchmark_protocols import BenchmarkRows

FOLDS = 5
"""Parts that the linear probe is cross-validated in."""
PRECISION = "fp32"
"""Of the network, so that figures do not depend on the processor."""


def evaluate_benchmark(
    name: str,
    data: str | Path,
    model: str | Path | None = None,
    *,
    collection: str | Path | None = None,
    protocols: Sequence[str] = (),
    as_: Variant = "bioclip-v2",
    seed: int = 0,
    device: str | None = None,
    progress: StageProgress = "auto",
) -> Evaluation:
    """Judge a model by a published benchmark; what `birder evaluate --benchmark` does.

    Images are embedded as published: decoded exactly, the shorter side resized (bicubic) to the network's input,
    cropped at the centre, with the statistics that belong to the weights. An image that cannot be read is left out, and
    the result says that the benchmark is incomplete.

    Parameters
    ----------
    name
        The benchmark: "rare-species", "nabirds", "meta-album/PLK_Mini", ...
    data
        Its folder, which must hold all of it.
    model
        A model with a text encoder, as for `predict`; or any model that embeds, without zero-shot (default: that of
        the collection).
    collection
        The collection that keeps the embeddings, created if it does not exist; a run that was stopped goes on there.
        Default: one in Birder's cache, which is removed once the figures are known.
    protocols
        Default: those that the benchmark is published with. Of a benchmark of classes: "zero-shot"; "few-shot", or
        where images for training are set apart, "one-shot"; "knn"; "linear".
    as_
        "bioclip-v1" or "bioclip-v2": whose few-shot folds.
    seed
        Of intervals and of the folds of the linear probe.
    device
        Device to run on: "cpu", "cuda", "mps", ... (default: best available).
    progress
        Called with the stage and the share of it that is done; "auto" for a bar in a terminal or notebook.

    Returns
    -------
    The figures, with each published value beside them: `results["published"]` (`birder.evaluation.published_values`).
    With zero-shot, `predictions` has a row for each image.

    Raises
    ------
    UnknownNameError
        There is no such benchmark, or it is not judged by such a protocol.
    BenchmarkFolderError
        The folder does not hold the whole benchmark; the message says what is missing and how to get it.
    NoTextEncoderError
        "zero-shot" is asked for, and the model has no text encoder.
    CollectionError
        The collection was not made as benchmarks are, or belongs to another model.
    """
    from birder.evaluation.benchmark_protocols import protocols_of

    entry = benchmark(name)
    for each in protocols:
        if each not in protocols_of(entry):
            raise unknown_name(f"protocol of {name}", each, protocols_of(entry))
    if as_ not in VARIANTS:
        raise unknown_name("few-shot protocol", as_, VARIANTS)
    known = None if model is None else resolve(model)
    if "zero-shot" in protocols and known is not None and not known.has_text_encoder:
        raise NoTextEncoderError(f"{known.name} has no text encoder, which zero-shot needs: name another model.")
    folder = read_benchmark(entry, data)
    with stages_shown(progress) as given, _kept(collection, folder, model) as path:
        show: Show = given or (lambda stage, done: None)
        storage = embed_benchmark(folder, path, model, device=device, show=show)
        return _judged(storage, folder, tuple(protocols), as_, seed, device, show, kept=collection is not None)


def embed_benchmark(
    folder: BenchmarkFolder,
    path: Path,
    model: str | Path | None = None,
    *,
    device: str | None = None,
    show: Show = lambda stage, done: None,
) -> Storage:
    """Embed a benchmark's images into a collection as benchmarks are embedded; those that are there are left alone.

    Parameters
    ----------
    folder
        From `read_benchmark`.
    path
        The collection's folder, which is made if it does not exist.
    model, device
        As for `evaluate_benchmark`.
    show
        Called with "embedding" and the share that is done.
    """
    storage = Storage.open(path) if exists(path) else None
    if storage is None and model is None:
        raise ConfigError("Say which model to judge: --model imageomics/bioclip, for example.")
    if storage is not None:
        _check_made_so(storage)
    spec = encoder_spec(storage, None if model is None else str(model), device=device, precision=PRECISION)

    def tell(state: Progress) -> None:
        show("embedding", state.finished / max(state.total, 1))

    storage, _, _ = run_embed(
        path,
        storage,
        folder.files,
        replace(spec, centre_crop=True),
        draft=False,
        on_progress=tell,
        folder_labels=False,
    )
    return storage


def _check_made_so(storage: Storage) -> None:
    """Refuse a collection whose embeddings were made otherwise than benchmarks ask."""
    how = storage.model.transform
    if (how.get("simple_crop"), how.get("center_crop"), how.get("draft")) != (True, 1.0, False):
        raise CollectionError(
            f"The images of {storage.path} were not embedded as benchmarks are: decoded exactly, the shorter side "
            "resized, cropped at the centre. Name a new collection, or leave it out."
        )


@contextlib.contextmanager
def _kept(collection: str | Path | None, folder: BenchmarkFolder, model: str | Path | None) -> Iterator[Path]:
    """Where the embeddings are kept: in the user's collection, or in the cache until the figures are known."""
    if collection is not None:
        yield Path(collection)
        return
    told = "\n".join([folder.benchmark.name, os.fspath(folder.root.absolute()), str(model)])
    path = cache_folder() / "benchmarks" / f"{hashlib.sha256(os.fsencode(told)).hexdigest()[:16]}.birder"
    with writing_cache():
        path.parent.mkdir(parents=True, exist_ok=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)  # kept if there was an error or Ctrl-C: the next run goes on there


def _judged(
    storage: Storage,
    folder: BenchmarkFolder,
    protocols: tuple[str, ...],
    as_: Variant,
    seed: int,
    device: str | None,
    show: Show,
    *,
    kept: bool,
) -> Evaluation:
    from birder.evaluation.benchmark_protocols import judge
    from birder.evaluation.evaluate import SCHEMA_VERSION, evaluate_predictions
    from birder.evaluation.predictions import SCHEMA
    from birder.evaluation.published_values import beside_published

    entry = folder.benchmark
    rows, failed = rows_of(storage, folder, device=device, folds=FOLDS, seed=seed, show=show)
    notes = [] if entry.note is None else [entry.note]
    chosen = protocols or entry.protocols
    if rows.clip is None and not protocols and "zero-shot" in chosen:
        chosen = tuple(each for each in chosen if each != "zero-shot")
        notes.append(f"{storage.model.name} has no text encoder: it was not judged by zero-shot.")
        if not chosen:
            raise NoTextEncoderError(f"{storage.model.name} has no text encoder, which {entry.name} is judged with.")
    results: dict[str, Any] = {"schema": SCHEMA_VERSION, "n": int(rows.judged.sum())}
    predictions = SCHEMA.empty_table()
    found = {}
    for each in dict.fromkeys(chosen):
        show(each, 0.0)
        found[each] = judge(
            each,
            rows,
            variant=as_,
            seed=seed,
            progress=lambda done, each=each: show(each, done),  # type: ignore[misc]
        )
    if "zero-shot" in found:
        show("computing the figures", 0.0)
        predictions = _named(rows)
        results = evaluate_predictions(predictions, classes=folder.texts, seed=seed)
    results["protocols"] = found
    known = None if failed else published_model(_published_name(storage))
    results["published"] = beside_published(entry, found, known)
    if failed:
        notes.append(
            f"Incomplete: {len(failed):,} of {len(folder):,} images could not be read and were left out, so that the "
            "figures are not compared with published ones."
        )
    elif results["published"] and not any(each["here"] is not None for each in results["published"]):
        notes.append("No published value is of this model by these protocols.")
    results["benchmark"] = {
        "name": entry.name,
        "title": entry.title,
        "images": len(folder),
        "classes": len(folder.texts),
        "text_type": entry.text_type,
        "page": entry.page,
        "failed": [list(each) for each in failed],
        "complete": not failed,
    }
    results |= _made(storage, seed)
    asked: dict[str, Any] = {"benchmark": entry.name, "data": os.fspath(folder.root), "protocols": list(found)}
    asked |= {"as": as_} if "few-shot" in found else {}
    asked |= {"collection": str(storage.path)} if kept else {}
    results["asked"] = {"column": entry.name, **asked}
    results["notes"] = [*notes, "All images are taken for independent, as in published figures."]
    return Evaluation(results, predictions)


def rows_of(
    storage: Storage,
    folder: BenchmarkFolder,
    *,
    device: str | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    show: Show = lambda stage, done: None,
) -> tuple[BenchmarkRows, list[tuple[str, str]]]:
    """The rows of a benchmark as its protocols take them, and the images that could not be read, with the reasons.

    Parameters
    ----------
    storage
        From `embed_benchmark`.
    folder
        From `read_benchmark`.
    device
        Of the text encoder.
    folds, seed
        Of the linear probe.
    show
        Called with the stage, and the share of it that is done.
    """
    from birder.evaluation.benchmark_protocols import BenchmarkRows
    from birder.learning.splits import make_folds

    place_of = {path_to_uri(file): place for place, file in enumerate(folder.files)}
    embeddings = np.empty((len(folder), storage.model.embedding_size), np.float32)
    there = np.zeros(len(folder), bool)
    for table, vectors in storage.embedding_batches(["uri"]):
        own = [(row, place_of[uri]) for row, uri in enumerate(table["uri"].to_pylist()) if uri in place_of]
        if own:
            at, places = (np.array(each, np.int64) for each in zip(*own, strict=True))
            embeddings[places] = vectors[at]
            there[places] = True
    reasons = {each["uri"]: str(each["reason"]) for each in storage.failures()}
    failed = [
        (os.fspath(folder.files[place].relative_to(folder.root)), reasons.get(path_to_uri(folder.files[place]), ""))
        for place in np.flatnonzero(~there)
    ]
    if not there.any():
        raise BenchmarkFolderError(f"None of the {len(folder):,} images in {folder.root} could be read.")
    places = np.flatnonzero(there)
    embeddings = embeddings[there]
    clip = None
    if _has_text_encoder(storage):
        from birder.collection.text_encoder import load_text_encoder, shared_features

        show("loading the text encoder", 0.0)
        clip = load_text_encoder(storage, device=device)
    features = None if clip is None else shared_features(storage, clip, embeddings)
    rows = BenchmarkRows(folder, places, embeddings, features, clip)
    learned = ~rows.judged if (~rows.judged).any() else rows.judged
    fold_of = np.full(len(places), -1, np.int64)
    count = int(learned.sum())
    if count >= folds and len(folder.texts) > 1:
        fold_of[learned] = make_folds(rows.codes[learned], np.arange(count, dtype=np.int64), folds, seed).of
    return replace(rows, folds=fold_of), failed


def _has_text_encoder(storage: Storage) -> bool:
    """Whether the collection's model has a text encoder, which may have to be fetched."""
    found = resolved(storage.model.source)
    return found is not None and found.has_text_encoder


def _published_name(storage: Storage) -> str:
    """The hub repository of a collection's model where it has one, which published tables are known by."""
    found = resolved(storage.model.source)
    return storage.model.name if found is None or found.openclip is None else found.openclip


def _named(rows: BenchmarkRows) -> pa.Table:
    """The zero-shot names of the judged images with their probabilities, one row for each."""
    from birder.evaluation.predictions import predictions_table
    from birder.naming.by_texts import name_by_texts
    from birder.naming.prompts import BIOCLIP_TEMPLATES

    assert rows.clip is not None
    assert rows.features is not None
    texts = rows.folder.texts
    judged = rows.judged
    names = name_by_texts(rows.clip, source=list(texts), templates=BIOCLIP_TEMPLATES)
    logs = names.all_scores(rows.features[judged])
    files = [rows.folder.files[place] for place in rows.places[judged]]
    return predictions_table(
        [os.fspath(file.relative_to(rows.folder.root)) for file in files],
        [path_to_uri(file) for file in files],
        None,
        None,
        [texts[code] for code in rows.codes[judged]],
        np.exp(logs, out=logs),
        texts,
    )


def _made(storage: Storage, seed: int) -> dict[str, Any]:
    """How it was made: enough to do it again."""
    from birder.collection.backbone import describe_backbone
    from birder.evaluation.provenance import versions

    card = storage.model
    return {
        "model": {"name": card.name, "sha256": card.sha256, "backbone_sha256": describe_backbone(storage)["sha256"]},
        "transform": dict(card.transform),
        "engine": f"{card.engine} {card.precision}",
        "seeds": {"folds and intervals": seed},
        "versions": versions(),
    }
