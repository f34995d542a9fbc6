"""`birder embed`: images into a collection."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from birder.cli import options
from birder.cli.errors import FAILED, INTERRUPTED
from birder.cli.outcomes import some, tell_failures
from birder.cli.output import note, one_line
from birder.cli.progress import image_progress
from birder.cli.stopping import stopping
from birder.inference.names import EngineName, Features, Precision
from birder.registry import DEFAULT_WEIGHTS
from birder.words import counted

if TYPE_CHECKING:
    from birder.collection.api import Collection
    from birder.collection.schema import ModelCard
    from birder.pipeline.run import EmbedReport, Progress

LEAN = {"LANCE_DEFAULT_BATCH_SIZE": "512", "LANCE_DEFAULT_IO_BUFFER_SIZE": str(32 << 20)}
"""Set before LanceDB is imported, which would otherwise read a gigabyte ahead while it builds an index."""
INSTALLED = "installed"
"""What a bare `--detect` means: the detector that is installed with Birder."""
THIS_MACHINE = "local"
"""The address that a bare `--ray` means: a separate Ray on this machine."""


def embed(
    collection: options.In,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help='Image files, folders (searched recursively), patterns ("trap/**/*.jpg"), URLs; tables that list '
            "images (.csv, .parquet), shards (.tar, .parquet), videos (.mp4, .mov, .avi, .mkv, .m4v), Camtrap DP "
            "packages.",
        ),
    ] = None,
    model: Annotated[str | None, options.model_option(f"the collection's, else {DEFAULT_WEIGHTS}")] = None,
    batch_size: options.BatchSize = 32,
    device: options.Device = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Do not use the names of folders as labels.")] = False,
    deployment_from: Annotated[
        int | None,
        typer.Option(
            "--deployment-from",
            min=1,
            metavar="N",
            help="Use the name of a folder above each image as its deployment: 1 is the first one below IMAGE.",
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            metavar="CSV",
            help="A table with more columns, joined by file_name; existing rows get them too. Or what birder export "
            "wrote, edited: its rows are found by uri or id, with or without IMAGE.",
        ),
    ] = None,
    crops: Annotated[
        Path | None,
        typer.Option(
            "--crops", metavar="JSON", help="MegaDetector's results: embed each animal's box instead of the image."
        ),
    ] = None,
    detect: Annotated[
        str | None,
        typer.Option(
            "--detect",
            metavar="[DETECTOR]",
            help="Find animals and embed each one's box instead of the image, with this detector: an ONNX file of "
            "MegaDetector or another YOLO (no value: the one installed with Birder).",
        ),
    ] = None,
    empty: Annotated[
        Literal["keep", "note"] | None,
        typer.Option(
            "--empty",
            metavar="WHAT",
            help="With --detect or --crops, images without an animal: keep a row of the whole image (the default), "
            "whose category says what is on it, so that an animal that the detector missed can still be found; or "
            "note: embed nothing, and list them in birder failures (--detect).",
        ),
    ] = None,
    min_conf: Annotated[
        float,
        typer.Option(
            "--min-conf", min=0.0, max=1.0, metavar="P", help="With --crops or --detect: minimum confidence of a box."
        ),
    ] = 0.2,
    fps: Annotated[
        float,
        typer.Option("--fps", min=0.001, max=1000, metavar="N", help="Frames of a video to embed a second."),
    ] = 1.0,
    max_frames: Annotated[
        int | None,
        typer.Option("--max-frames", min=1, metavar="N", help="At most N frames of each video (default: all)."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Decode JPEGs at full size: slower, but exact.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry images that failed before; with or without IMAGE.")
    ] = False,
    as_new: Annotated[
        bool,
        typer.Option("--as-new", help="Embed images whose files have moved as new ones, without their labels."),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, metavar="N", help="Threads that read and decode (default: one per processor)."
        ),
    ] = None,
    engine: Annotated[
        EngineName,
        typer.Option(
            "--engine", metavar="ENGINE", help="What runs the network: auto (OpenVINO on a CPU), torch or openvino."
        ),
    ] = EngineName.auto,
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision", metavar="TYPE", help="Precision: auto (bf16 where it is as good), fp32, bf16 or int8."
        ),
    ] = Precision.auto,
    features: Annotated[
        Features | None,
        typer.Option(
            "--features",
            metavar="FEATURES",
            help="embedding, or patches: also keep a ViT's patch tokens, which makes the collection large.",
        ),
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile (PyTorch on a GPU).")] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="[ADDRESS]",
            help="Run on the Ray cluster at HOST:PORT (auto: the cluster of this machine; no value: this "
            "machine only).",
        ),
    ] = None,
) -> None:
    """Embed images into a collection, which is created if it does not exist.

    Run it again to embed what is missing, also after Ctrl-C or a crash.

    For example:

    birder embed photos/ --in photos.birder --table photos.csv

    birder embed card/ --in card.birder --detect

    birder embed card/ --in card.birder --fps 0.5 --max-frames 20

    birder embed --in photos.birder --retry-failed
    """
    if not images and not retry_failed and table is None:
        options.wrong_use("Name the image files or folders to embed.")
    if ray is not None and threads is not None:
        options.wrong_use("--threads cannot be combined with --ray, which assigns processors itself.")
    if empty is not None and detect is None and crops is None:
        options.wrong_use("--empty says what becomes of images without an animal: add --detect or --crops.")
    empty = empty or "keep"
    for name, value in LEAN.items():
        os.environ.setdefault(name, value)

    import birder

    with stopping() as (stop, listen), _progress(collection, listen) as show:
        opened, report = birder.embed(
            images or (),
            collection,
            model,
            engine=engine,
            precision=precision,
            device=device,
            compile=compile,
            patches=None if features is None else features is Features.patches,
            exact=exact,
            progress=show,
            stop=stop,
            table=table,
            crops=crops,
            detect=False if detect is None else detect == INSTALLED or detect,
            empty=empty,
            min_confidence=min_conf,
            folder_labels=not no_labels,
            deployment_from=deployment_from,
            fps=fps,
            max_frames=max_frames,
            retry_failed=retry_failed,
            as_new=as_new,
            batch_size=batch_size,
            threads=threads,
            ray=ray,
        )
    _tell_report(report, opened, table, empty)
    if no_labels and "label_source" in opened.columns:
        _tell_folder_labels(opened)
    if report.stopped:
        note(f"Stopped with {report.left:,} left. To continue, run the same command again.")
        raise typer.Exit(INTERRUPTED)
    if report.failed:
        raise typer.Exit(FAILED)


def _tell_folder_labels(collection: Collection) -> None:
    """Print how names of folders are taken away from rows that have them."""
    named = collection.count("label_source = 'folder' AND label IS NOT NULL")
    if named:
        note(
            f"--no-labels is for new rows: {counted(named, 'row keeps', 'rows keep')} the name of the folder as label. "
            f"To take a name away: birder label {collection.path} --where \"label = 'NAME'\" --clear label"
        )


def _tell_report(
    report: EmbedReport, collection: Collection, table: Path | None, empty: Literal["keep", "note"]
) -> None:
    for each in report.notes:
        note(f"birder: {each}")
    if table is not None:
        _tell_table(report, table)
    if report.skipped_boxes:
        note(
            f"{counted(report.skipped_boxes, 'box', 'boxes')} failed too; to retry these, give IMAGE and "
            "--crops as before."
        )
    if report.updated:
        note(f"Updated the columns of {counted(report.updated, 'existing row')}.")
    if report.sequenced:
        alone = (
            f" ({counted(report.untimed, 'row has no time: its', 'rows have no time: each')} image alone)"
            if report.untimed
            else ""
        )
        note(
            f"{counted(report.sequenced, 'row is in another sequence', 'rows are in other sequences')} than "
            f"before{alone}."
        )
    card = collection.model
    if report.seconds:
        again = f" ({report.reused:,} with the embedding of a file with the same content)" if report.reused else ""
        note(f"Embedded {report.embedded:,}{again}, already there {report.already:,}, failed {len(report.failed):,}.")
        if report.without_animal:
            what = "have a row of the whole image" if empty == "keep" else f"are in: birder failures {collection.path}"
            note(f"{counted(report.without_animal, 'image')} without an animal {what}.")
        if report.off_earth:
            note(f"{counted(report.off_earth, 'row has', 'rows have')} invalid coordinates, which are left empty.")
        tell_failures(report.failed, f"birder failures {collection.path}")
        rate = (report.total - report.already - report.failed_before - report.left) / report.seconds
        note(
            f"{collection.path}: {counted(len(collection), 'row')}, model {card.name} "
            f"({card.embedding_size}-dimensional embeddings), engine {card.engine} {card.precision}; "
            f"{report.seconds:.1f} s, {rate:.1f} images/s."
        )
    else:
        note(f"Nothing to do ({counted(len(collection), 'row')}, model {card.name}).")
    if report.failed_before:
        note(
            f"{report.failed_before:,} failed before; see: birder failures {collection.path}; to retry: --retry-failed"
        )


def _tell_table(report: EmbedReport, path: Path) -> None:
    """Print which rows of the user's table were not used."""
    from birder.sources import readable

    assert report.table is not None
    if report.table.rows is not None:
        note(
            f"{path}: {counted(report.table.rows, 'row')} of the collection"
            + (f", and {counted(report.table.matched, 'new image')}." if report.table.matched else ".")
        )
    else:
        note(f"{path}: columns for {report.table.matched:,} of {report.total:,} images.")
    for names, what in (
        (report.table.ambiguous, "names match several files and were not used: write more of the path"),
        (report.table.without_file, "names match no file"),
        (report.table.without_row, "images are not in it"),
    ):
        if names:
            note(f"  {len(names):,} {what}: {some([one_line(readable(name)) for name in names])}")


def _tell_size(patches: list[int], images: int, to: Path) -> None:
    """Print how much space patch tokens will take."""
    from birder.pipeline.embed import patches_bytes

    each = patches_bytes(patches)
    rows, columns, width = patches
    note(
        f"Patch tokens: {rows} x {columns} x {width} values of 2 bytes, {each / 1024:,.0f} KiB an image: "
        f"{images:,} take {each * images / 1e9:,.2f} GB; {shutil.disk_usage(to).free / 1e9:,.1f} GB are free."
    )


@contextmanager
def _progress(collection: Path, on_ready: Callable[[], None]) -> Iterator[Callable[[Progress], None]]:
    """What shows the progress: a bar on a terminal, a line every ten seconds elsewhere; first, what is to be done."""
    begun = time.perf_counter()
    ready = False

    with image_progress() as show:

        def tell(progress: Progress) -> None:
            nonlocal ready
            if progress.card is None:
                note(f"{progress.already:,} already in {collection}, {progress.total:,} to do.")
                note("Loading the model (the first time on a machine takes longer).")
            elif not ready:
                ready = True
                _tell_ready(progress, progress.card, collection, time.perf_counter() - begun)
                on_ready()
            else:
                show(progress)

        yield tell


def _tell_ready(progress: Progress, card: ModelCard, collection: Path, seconds: float) -> None:
    if card.patches:
        _tell_size(card.patches, progress.total, collection)
    note(f"Model {card.name}, engine {card.engine} {card.precision}; ready after {seconds:.1f} s.")
