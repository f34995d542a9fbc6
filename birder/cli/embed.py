"""`birder embed`: photographs into a collection."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birder.cli import options
from birder.cli.output import console_err, note, one_line
from birder.inference.names import EngineName, Features, Precision
from birder.registry import DEFAULT_WEIGHTS

LEAN = {"LANCE_DEFAULT_BATCH_SIZE": "512", "LANCE_DEFAULT_IO_BUFFER_SIZE": str(32 << 20)}
"""What LanceDB is told before it is imported: it would read a gigabyte ahead while it makes an index."""
THIS_MACHINE = "here"
"""The address that `--ray` alone stands for: a Ray of its own on this machine."""

if TYPE_CHECKING:
    from birder.collection.model import EncoderSpec
    from birder.collection.storage import Storage
    from birder.pipeline.embed import Plan, Summary
    from birder.sources import Source


def embed(
    collection: options.In,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help='Image files, folders with all below them, patterns ("trap/**/*.jpg"), URLs; tables that list images '
            "(.csv, .parquet), shards (.tar, .parquet), Camtrap DP packages.",
        ),
    ] = None,
    model: Annotated[str | None, options.model_option(f"the collection's, else {DEFAULT_WEIGHTS}")] = None,
    batch_size: options.BatchSize = 32,
    device: options.Device = None,
    no_labels: Annotated[
        bool, typer.Option("--no-labels", help="Do not take the name of a file's folder as its label.")
    ] = False,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table", metavar="CSV", help="More columns for each row, also for existing ones, joined by file_name."
        ),
    ] = None,
    crops: Annotated[
        Path | None,
        typer.Option(
            "--crops", metavar="JSON", help="MegaDetector's results: embed each animal's box instead of the image."
        ),
    ] = None,
    min_conf: Annotated[
        float,
        typer.Option(
            "--min-conf", min=0.0, max=1.0, metavar="P", help="With --crops: least confidence of a detection."
        ),
    ] = 0.2,
    exact: Annotated[
        bool, typer.Option("--exact", help="Decode JPEGs at full size: slower, for embeddings to the last digit.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again the images that failed before; with or without IMAGE.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, metavar="N", help="Threads that read and decode (default: one for each processor)."
        ),
    ] = None,
    engine: Annotated[
        EngineName, typer.Option("--engine", help="What runs the network; auto: OpenVINO on a CPU.")
    ] = EngineName.auto,
    precision: Annotated[
        Precision, typer.Option("--precision", help="Its arithmetic; auto: bf16 where that is as good.")
    ] = Precision.auto,
    features: Annotated[
        Features | None,
        typer.Option("--features", help="patches: also keep a ViT's patch tokens, which makes the collection large."),
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="With PyTorch, use torch.compile: for GPUs.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="[ADDRESS]",
            help="Run on the Ray cluster at HOST:PORT (auto: the one this machine is in; alone: this machine).",
        ),
    ] = None,
) -> None:
    """Embed images into a collection, which is created if it does not exist.

    Run it again to embed what is missing, also after Ctrl-C or a crash.

    For example:

    birder embed photos/ --in photos.birder --table photos.csv

    birder embed --in photos.birder --retry-failed
    """
    begun = time.perf_counter()
    if ray is not None:
        from birder.extras import need

        if threads is not None:
            raise typer.BadParameter("--threads has no meaning with --ray, which shares out the processors itself")
        need("cluster", "birder embed --ray")
    for name, value in LEAN.items():
        os.environ.setdefault(name, value)
    from birder.collection.model import EncoderSpec, precision_for
    from birder.collection.schema import other_model
    from birder.collection.storage import Storage, exists
    from birder.errors import BirderError
    from birder.pipeline.embed import plan
    from birder.registry import registered_name
    from birder.weights.find import pinned_sha256

    collection = Storage.open(to) if exists(to) else None
    model = model and (registered_name(model) or model)
    if collection is not None and model is not None:
        sha256 = pinned_sha256(model)
        if sha256 not in (None, collection.model.sha256):  # said before files are listed and weights are fetched
            raise other_model(to, collection.model, model, str(sha256))
    if not paths and not (retry_failed and collection is not None):
        raise typer.BadParameter("name the files or folders to embed, as in: birder embed photos/ --to photos.birder")
    sources = _sources(paths or [], collection, crops, min_conf, not no_labels)
    if table is not None:
        _join(sources, table)
    todo = plan(collection, sources, retry_failed=retry_failed)
    if not todo.total and not retry_failed:
        raise BirderError(f"There are no photographs in {', '.join(paths or ())}.")
    what = "boxes" if crops else "photographs"
    note(f"{todo.total:,} {what}: {todo.done:,} already in {to}, {len(todo.pending):,} to do.")
    if todo.failed_before:
        note(f"{todo.failed_before:,} failed before; see: birder failures {to}; try them again with --retry-failed.")
    if not todo.pending and collection is not None and model in (None, collection.model.name, collection.model.source):
        _update(collection, todo)
        note(f"Nothing to do ({collection.count():,} rows, model {collection.model.name}).")
        return
    if collection is not None:
        model = model or collection.model.source
        precision = Precision(precision_for(collection.model)) if precision == Precision.auto else precision
    if features is None:
        patches = collection is not None and bool(collection.model.patches)
    else:
        patches = features == Features.patches
    spec = EncoderSpec(model or DEFAULT_WEIGHTS, device, engine, precision, compile, patches)
    _run(to, spec, todo, batch_size, not exact, threads, ray, begun)


def _run(
    to: Path,
    spec: EncoderSpec,
    todo: Plan,
    batch_size: int,
    draft: bool,
    threads: int | None,
    ray: str | None,
    begun: float,
) -> None:
    from birder.collection.storage import Storage
    from birder.pipeline.embed import embed_images

    note("Loading the model (the first time on a machine takes longer).")
    encoder = spec.load(draft)
    card = encoder.card
    collection = Storage.create_or_open(to, card)
    if card.patches:
        _tell_size(card.patches, len(todo.pending), to)
    note(f"Model {card.name}, engine {card.engine} {card.precision}; ready after {time.perf_counter() - begun:.1f} s.")
    with _stopping() as stop, _progress(len(todo.pending)) as show:
        if ray is not None:
            from birder.pipeline.distributed import embed_on_ray

            del encoder  # the workers load their own
            summary = embed_on_ray(
                collection,
                replace(spec, model=card.source),
                todo,
                address=None if ray == THIS_MACHINE else ray,
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
                threads=threads,
                on_progress=show,
                stop=stop,
            )
    _report(summary, todo, collection)
    if summary.stopped:
        note(f"Stopped with {len(todo.pending) - summary.finished:,} left. To go on, run the same command again.")
        raise typer.Exit(130)


def _tell_size(patches: list[int], photographs: int, to: Path) -> None:
    from birder.pipeline.embed import patches_bytes

    each = patches_bytes(patches)
    rows, columns, width = patches
    note(
        f"Patch tokens: {rows} x {columns} x {width} numbers of 2 bytes, {each / 1024:,.0f} KiB a photograph: "
        f"{photographs:,} make {each * photographs / 1e9:,.2f} GB; {shutil.disk_usage(to).free / 1e9:,.1f} GB are free."
    )


def _sources(
    paths: list[str], collection: Storage | None, crops: Path | None, min_conf: float, labels: bool
) -> list[Source]:
    """What is to be embedded; without paths, what failed before."""
    from birder.errors import BirderError
    from birder.sources import find_sources, read_crops, sources_again

    if crops is not None:
        if len(paths) != 1 or not Path(paths[0]).is_dir():
            raise typer.BadParameter("with --crops, name the one folder that the files in the results are relative to")
        sources = read_crops(crops, paths[0], min_conf, labels=labels)
        if not sources:
            raise BirderError(f"{crops} has no animal with a confidence of {min_conf} or more: lower --min-conf.")
    elif paths:
        sources = find_sources(paths, labels=labels)
        if not sources:
            raise BirderError(
                f"There are no photographs in {', '.join(paths)}: no file that ends in .jpg, .png, ... "
                "Tables and shards inside a folder are taken only by a pattern: birder embed 'FOLDER/*.tar'"
            )
    else:
        assert collection is not None
        sources, boxes = sources_again([row["uri"] for row in collection.failures()], labels=labels)
        if boxes:
            note(f"{len(boxes):,} boxes failed too; to try these, give PATH and --crops as before.")
    return sources


def _update(collection: Storage, todo: Plan) -> None:
    """Bring the columns of rows that are there up to date, where nothing is to be embedded."""
    if not todo.described and not todo.shards and not todo.overcome:
        return
    from birder.pipeline.embed import begin

    with collection.running():  # which begins by removing failures that have become rows
        updated = begin(collection, todo, todo.column_types())
    if updated:
        note(f"Updated the columns of {updated:,} rows that were there.")


def _join(sources: list[Source], path: Path) -> None:
    """Join the user's table and say what did not fit."""
    from birder.sources import readable
    from birder.sources.table import join_table, read_table

    joined = join_table(sources, read_table(path))
    note(f"{path}: columns for {joined.matched:,} of {len(sources):,} photographs.")
    for names, what in (
        (joined.ambiguous, "names fit several files, so none was given them; write more of the path"),
        (joined.without_file, "names fit no file"),
        (joined.without_row, "photographs are not in it"),
    ):
        if names:
            note(f"  {len(names):,} {what}: {_some([one_line(readable(name)) for name in names])}")


def _report(summary: Summary, todo: Plan, collection: Storage) -> None:
    from birder.sources import readable

    rate = summary.finished / summary.seconds if summary.seconds else 0.0
    again = f" ({summary.reused:,} by the embedding of a file with the same content)" if summary.reused else ""
    note(f"Embedded {summary.embedded:,}{again}, already there {todo.done:,}, failed {len(summary.failed):,}.")
    if summary.updated:
        note(f"Updated the columns of {summary.updated:,} rows that were there.")
    if summary.off_earth:
        note(f"{summary.off_earth:,} rows came with a place that is not on the earth: it is left empty.")
    reasons = defaultdict(list)
    for path, reason in summary.failed:
        reasons[one_line(reason)].append(one_line(readable(path)))
    largest = sorted(reasons.items(), key=lambda pair: -len(pair[1]))
    for reason, names in largest[:10]:
        note(f"  {len(names):,} x {reason}: {_some(names)}")
    if len(largest) > 10:
        note(f"  and {len(largest) - 10} more reasons")
    if summary.failed:
        note(f"All failures: birder failures {collection.path}")
    card = collection.model
    note(
        f"{collection.path}: {collection.count():,} rows, model {card.name} ({card.embedding_size} numbers a row), "
        f"engine {card.engine} {card.precision}; {summary.seconds:.1f} s, {rate:.1f} images/s."
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets; a second Ctrl-C ends the process at once, which loses nothing that is committed."""
    stop = threading.Event()

    def interrupt(_signal: int, _frame: object) -> None:
        if stop.is_set():
            os.write(2, b"\nStopped at once. To go on, run the same command again.\n")
            os._exit(130)
        stop.set()
        os.write(2, b"\nFinishing the batch; press Ctrl-C again to stop at once.\n")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Summary], None]]:
    """What shows the progress: a bar on a terminal, a line every ten seconds elsewhere."""
    if not sys.stderr.isatty():
        yield _lines(total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} images/s, left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with Progress(*columns, console=console_err()) as bar:
        task = bar.add_task("embed", total=total, rate=0.0, failed="")
        begun = time.perf_counter()

        def show(summary: Summary) -> None:
            failed = f"{len(summary.failed):,} failed" if summary.failed else ""
            rate = summary.finished / (time.perf_counter() - begun)
            bar.update(task, completed=summary.finished, rate=rate, failed=failed)

        yield show


def _lines(total: int) -> Callable[[Summary], None]:
    begun = last = time.perf_counter()

    def show(summary: Summary) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last < 10.0 or not summary.finished:
            return
        last = now
        rate = summary.finished / (now - begun)
        left = f"{(total - summary.finished) / rate:,.0f} s left"
        failed = f"{len(summary.failed):,} failed"
        note(f"{summary.finished:,} of {total:,}, {rate:.1f} images/s, {left}, {failed}")

    return show
