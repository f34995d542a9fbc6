"""One run of `embed`: from the images that a user names to rows, with a report of what became of each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict, Unpack

from birder.collection.adopted import adopted
from birder.collection.backbone import with_backbone
from birder.collection.detection import NO_ANIMAL, Empty
from birder.collection.model import Encoder, EncoderSpec, load_encoder_of, precision_for, stand_in
from birder.collection.schema import IMPORTED, ModelCard, other_model
from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.extras import need
from birder.files import check_writable
from birder.formats.megadetector import read_boxes
from birder.formats.sources import find_sources
from birder.many_objects import many_objects
from birder.pipeline.boxes import Detecting
from birder.pipeline.brought_back import bring_back
from birder.pipeline.embed import Plan, Summary, begin_run, embed_images, plan
from birder.pipeline.moved import refuse_moved
from birder.registry import DEFAULT_WEIGHTS
from birder.sources import Source, image_of, sources_again
from birder.sources.deployment import name_deployments
from birder.sources.table import Join, join_table, read_table
from birder.sources.video import FrameChoice
from birder.weights.detector import resolve_detector
from birder.weights.resolve import resolve

MIN_CONFIDENCE = 0.2
"""Of a box that becomes a row, whether it is found or read from a file."""
LOCAL_RAY = "local"
"""The address that stands for a Ray of its own on this machine."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes
    ----------
    stage
        "loading" while the model is loaded, then "embedding".
    total
        Images to embed in this run.
    already
        Images whose rows were there before the run.
    failed_before
        Images that failed in an earlier run and are left alone.
    finished, embedded, reused, failed
        Images dealt with so far; of them those with a row, the rows whose embedding was copied from an image with the
        same content, and those that could not be read.
    seconds
        Since embedding began.
    card
        The model and the engine that runs it; None while it is loaded.
    """

    stage: Literal["loading", "embedding"]
    total: int
    already: int = 0
    failed_before: int = 0
    finished: int = 0
    embedded: int = 0
    reused: int = 0
    failed: int = 0
    seconds: float = 0.0
    card: ModelCard | None = None

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.finished / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class EmbedReport:
    """What a run did.

    Attributes
    ----------
    total
        Images named.
    embedded, reused
        Rows written, with `detect` one for each box; of them those whose embedding was copied from an image with the
        same content.
    already
        Images whose rows were there before, or of which it was noted that they have no animal.
    updated
        Existing rows that got other values in the user's columns.
    off_earth
        Rows with a latitude or longitude out of range, which is left empty.
    failed
        Paths of images that could not be read, each with the reason.
    failed_before
        Images that failed in an earlier run and were left alone; `retry_failed` tries them again.
    skipped_boxes
        Boxes that failed before and that only their list of crops can name; `retry_failed` leaves them alone.
    without_animal
        With `detect`: images on which no animal was found.
    table
        How the table matched the images; None without a table.
    sequenced
        Rows that got another sequence after the run; 0 where no time is known.
    untimed
        Rows of the collection that have no time, where others have one.
    stopped
        Whether the run was stopped before its end; the next one goes on.
    left
        Images that are still to do.
    seconds
        Time that embedding took.
    notes
        What the user must be told.
    """

    total: int
    embedded: int = 0
    reused: int = 0
    already: int = 0
    updated: int = 0
    off_earth: int = 0
    failed: tuple[tuple[str, str], ...] = ()
    failed_before: int = 0
    skipped_boxes: int = 0
    without_animal: int = 0
    table: Join | None = None
    sequenced: int = 0
    untimed: int = 0
    stopped: bool = False
    left: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


class EmbedOptions(TypedDict, total=False):
    """Options of a run; `birder.Collection.embed` explains them."""

    detect: bool | str | Path
    empty: Empty
    table: str | Path | None
    crops: str | Path | None
    min_confidence: float
    folder_labels: bool
    deployment_from: int | None
    fps: float
    max_frames: int | None
    retry_failed: bool
    as_new: bool
    batch_size: int
    threads: int | None
    ray: str | None


def encoder_spec(
    collection: Storage | None,
    model: str | None = None,
    *,
    device: str | None = None,
    engine: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    patches: bool | None = None,
) -> EncoderSpec:
    """What to load for a run: as the collection's card says unless something else is asked for.

    Raises
    ------
    WrongModelError
        The model is known to be another one than the collection's, before anything is fetched.
    """
    found = None if model is None else resolve(model)
    model = None if found is None else found.source
    if collection is None:
        return EncoderSpec(model or DEFAULT_WEIGHTS, device, engine, precision, compile, bool(patches))
    card = collection.model
    if card.engine == IMPORTED:
        if precision not in ("auto", "fp32") or patches:
            raise ConfigError(
                f"{collection.path} has imported embeddings: embed into it in fp32, without patch tokens."
            )
        return EncoderSpec(stand_in(collection, model), device, engine, "fp32", compile)
    if found is not None and found.pinned_sha256 not in (None, card.sha256):
        raise other_model(collection.path, card, found.name, str(found.pinned_sha256))
    precision = precision_for(card) if precision == "auto" else precision
    patches = bool(card.patches) if patches is None else patches
    return EncoderSpec(model or card.source, device, engine, precision, compile, patches)


def run_embed(
    path: Path,
    collection: Storage | None,
    images: Sequence[str | Path],
    spec: EncoderSpec,
    *,
    encoder: Encoder | None = None,
    draft: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    **options: Unpack[EmbedOptions],
) -> tuple[Storage, Encoder | None, EmbedReport]:
    """Embed images into a collection, which is created if it does not exist.

    Nothing is loaded or created until there is something to do.

    Parameters
    ----------
    path
        The collection's folder.
    collection
        The existing collection; None to create one.
    images
        Files, folders, patterns, URLs, tables, shards and packages, as in `birder.sources.find_sources`; none to
        try what failed before.
    spec
        The model to load, from `encoder_spec`.
    encoder
        The model, if it is loaded already.
    draft
        Decode JPEGs at a reduced size where that is enough for the transform.
    on_progress
        Called when the model is loaded, and after each batch.
    stop
        Once set, images already decoded are embedded and committed, and the run ends.
    options
        See `EmbedOptions`.

    Returns
    -------
    The collection, the encoder if it was needed, and the report.

    Raises
    ------
    ConfigError
        No image is named or found.
    CollectionError
        The collection belongs to another model, or another process is adding images.
    ImagesMovedError
        Images already have rows, under the uris of a folder that they have left, and `as_new` is not set.
    """
    ray = options.get("ray")
    if ray is not None:
        need("cluster", "Embedding on Ray")
    tell = on_progress or (lambda progress: None)
    table = options.get("table")
    read = None if table is None else read_table(table, rows=True)
    only_rows = read is not None and read.ids is not None and not images and not options.get("retry_failed", False)
    detecting = None if only_rows else _detecting(collection, images, options)
    with many_objects():
        sources, skipped = ([], 0) if only_rows else _sources(collection, images, options, detecting)
    if (level := options.get("deployment_from")) is not None:
        if not images:
            raise ConfigError("Name the folder that deployments are counted from: deployment_from needs images.")
        name_deployments(sources, images, level)
    rows: list[Source] = []
    joined = None
    if read is not None and read.ids is not None:
        back = bring_back(read, collection)
        rows = back.changed
        joined = replace(join_table(sources, back.rest, back.there), rows=back.matched)
    elif read is not None:
        joined = join_table(sources, read)
    with many_objects():
        todo = plan(collection, sources, retry_failed=options.get("retry_failed", False), detecting=detecting)
    todo.described += rows
    todo.roots = [os.fspath(image) for image in images]
    if collection is not None and not options.get("as_new", False):
        refuse_moved(collection, todo)
    if not todo.total and not only_rows and not options.get("retry_failed", False):
        raise ConfigError(f"Found no images in {_named(images)}.")
    report = EmbedReport(todo.total, already=todo.done, failed_before=todo.failed_before)
    report = replace(report, skipped_boxes=skipped, table=joined)
    if not todo.pending and collection is not None and spec.model in (collection.model.name, collection.model.source):
        tell(Progress("embedding", 0, todo.done, todo.failed_before))
        return collection, encoder, replace(report, updated=_update(collection, todo))
    state = Progress("loading", len(todo.pending), todo.done, todo.failed_before)
    tell(state)
    if detecting is not None:
        detecting.load()  # refused here if it cannot be run
    if collection is None:
        check_writable(path)
    else:
        collection.check_free()
    if collection is not None and collection.model.engine == IMPORTED:
        if ray is not None:
            raise ConfigError(f"{path} has imported embeddings: embed into it on this machine, without Ray.")
        draft = False
        encoder = encoder or load_encoder_of(collection, spec.device, engine=spec.engine, model=spec.model)
        encoder, notes = adopted(collection, encoder)
        report = replace(report, notes=notes)
    encoder = encoder or spec.load(draft)
    if collection is None:
        collection = Storage.create_or_open(path, with_backbone(encoder.card))
    else:
        collection.check_model(encoder.card)
    state = replace(state, stage="embedding", card=encoder.card)
    tell(state)
    begun = time.perf_counter()

    def show(summary: Summary) -> None:
        tell(
            replace(
                state,
                finished=summary.finished,
                embedded=summary.embedded,
                reused=summary.reused,
                failed=len(summary.failed),
                seconds=time.perf_counter() - begun,
            )
        )

    batch_size = options.get("batch_size", 32)
    if ray is not None:
        from birder.pipeline.distributed import embed_on_ray

        source, encoder = encoder.card.source, None  # the workers load their own
        summary = embed_on_ray(
            collection,
            replace(spec, model=source),
            todo,
            address=None if ray == LOCAL_RAY else ray,
            batch_size=batch_size,
            on_progress=show,
            stop=stop,
        )
    else:
        summary = embed_images(
            collection,
            encoder.engine,
            encoder.transform,
            todo,
            draft=draft,
            batch_size=batch_size,
            threads=options.get("threads"),
            on_progress=show,
            stop=stop,
        )
    report = replace(
        report,
        embedded=summary.embedded,
        reused=summary.reused,
        already=todo.done,
        updated=summary.updated,
        off_earth=summary.off_earth,
        failed=tuple(summary.failed),
        without_animal=summary.without_animal,
        stopped=summary.stopped,
        left=len(todo.pending) - summary.finished,
        seconds=summary.seconds,
    )
    return collection, encoder, report


def _detecting(collection: Storage | None, images: Sequence[str | Path], options: EmbedOptions) -> Detecting | None:
    """How the run detects; a detector that cannot be used is refused before the work."""
    word = options.get("detect", False)
    if word is False:
        if collection is not None and not images and (there := collection.detection) is not None:
            raise ConfigError(
                f"The boxes of {collection.path} were found by {there}: detect in the same way to retry what failed."
            )
        return None
    if options.get("crops") is not None:
        raise ConfigError("Boxes are either found (detect) or read from a file (crops): leave out one of them.")
    least = options.get("min_confidence", MIN_CONFIDENCE)
    if not 0.0 < least <= 1.0:
        raise ConfigError(f"The minimum confidence must be above 0 and at most 1 to detect, not {least}.")
    file = resolve_detector(None if word is True else word)
    file = replace(file, path=file.path.absolute())  # for workers that run in other folders
    detecting = Detecting(file, least, options.get("empty", "keep"))
    if collection is not None:
        collection.check_detection(detecting.record)
    return detecting


def _sources(
    collection: Storage | None, images: Sequence[str | Path], options: EmbedOptions, detecting: Detecting | None
) -> tuple[list[Source], int]:
    """The images to embed, or those that failed before if none are named; and how many failed boxes cannot be named."""
    crops, labels = options.get("crops"), options.get("folder_labels", True)
    frames = FrameChoice(options.get("fps", 1.0), options.get("max_frames"))
    if crops is not None:
        if len(images) != 1 or not Path(images[0]).is_dir():
            raise ConfigError("With crops, name the one folder that the files in the results are relative to.")
        least = options.get("min_confidence", MIN_CONFIDENCE)
        others = options.get("empty", "keep") == "keep"
        sources = read_boxes(crops, os.fspath(images[0]), least, labels=labels, others=others)
        if not sources:
            raise ConfigError(f"{crops} has no animal with a confidence of {least} or more: lower the minimum.")
        return sources, 0
    if images:
        sources = find_sources(images, labels=labels, frames=frames)
        if not sources:
            raise ConfigError(
                f"Found no images in {_named(images)}: no file that ends in .jpg, .png, .mp4, ... "
                "Tables and shards inside a folder are read only if a pattern matches them: 'FOLDER/*.tar'"
            )
        return sources, 0
    if collection is None or not options.get("retry_failed", False):
        raise ConfigError("Name the files or folders to embed.")
    failed = [row["uri"] for row in collection.failures() if row["reason"] != NO_ANIMAL]
    if detecting is not None:
        failed = list(dict.fromkeys(map(image_of, failed)))
    sources, boxes = sources_again(failed, labels=labels, frames=frames)
    return sources, len(boxes)


def _named(images: Sequence[str | Path]) -> str:
    return ", ".join(map(str, images))


def _update(collection: Storage, todo: Plan) -> int:
    """Bring the columns of existing rows up to date when there is nothing to embed."""
    new = todo.detecting is not None and collection.detection is None
    if not todo.described and not todo.shards and not todo.overcome and not new:
        return 0
    with collection.running():  # which begins by removing failures that have become rows
        return begin_run(collection, todo)
