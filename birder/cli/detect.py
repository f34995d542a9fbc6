"""`birder detect`: animals, persons and vehicles on images, as a file of boxes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from birder.cli import options
from birder.cli.errors import FAILED, INTERRUPTED
from birder.cli.outcomes import tell_failures
from birder.cli.output import note
from birder.cli.progress import image_progress
from birder.cli.stopping import stopping
from birder.words import counted


def detect(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE", help="Image files, folders (searched recursively), patterns, URLs, tables and shards."
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Write to this file: .json.")] = None,
    collection: options.MaybeIn = None,
    where: options.Where = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="DETECTOR",
            help="Detector: an ONNX file of MegaDetector or another YOLO, or what birder train-detector wrote "
            "(default: the one installed with Birder).",
        ),
    ] = None,
    min_conf: Annotated[
        float, typer.Option("--min-conf", min=0.001, max=1.0, metavar="P", help="Minimum confidence of a box.")
    ] = 0.05,
    format: Annotated[
        Literal["megadetector", "coco"],
        typer.Option("--format", metavar="FORMAT", help="Format of the output: megadetector (1.4) or coco."),
    ] = "megadetector",
    force: options.Force = False,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, metavar="N", help="Threads that read and decode (default: one per processor)."
        ),
    ] = None,
) -> None:
    """Find animals, persons and vehicles on images, and write their boxes for other tools, failures included.

    Run it again after Ctrl-C or a crash: it goes on where it stopped. The boxes can be embedded with birder embed
    --crops, and opened in Timelapse or AddaxAI.

    With --in, the images are those of a collection: its rows of whole images get the columns category and confidence
    (of boxes with 0.2 or more), and --to also writes the boxes. To embed each animal, use birder embed --detect.

    For example:

    birder detect photos/ --to boxes.json

    birder detect --in photos.birder

    birder detect --in photos.birder --where "deployment = 'A4'"
    """
    if bool(images) == (collection is not None):
        options.wrong_use("Name either images or, with --in, a collection.")
    options.check_where(where, collection)
    if to is None and collection is None:
        options.wrong_use("Name the file to write: --to boxes.json")
    options.check_to(to, force)

    import birder

    with stopping() as (stop, listen), image_progress() as show:
        listen()
        if collection is None:
            run = partial(birder.detect, images or ())
        else:
            run = partial(birder.open_collection(collection).detect, where=where)
        found = run(
            model=model,
            min_conf=min_conf,
            to=to,
            format=format,
            force=force,
            threads=threads,
            progress=show,
            stop=stop,
        )
    if found.before:
        note(f"{found.before:,} were done before.")
    categories = ", ".join(
        f"{len(found.with_category(category, 0.2)):,} with {article} {category}"
        for category, article in (("animal", "an"), ("person", "a"), ("vehicle", "a"))
    )
    note(f"{counted(len(found.images), 'image')}: {categories} (confidence 0.2 or more), {len(found.failed):,} failed.")
    if found.stopped:
        note("Stopped. To continue, run the same command again.")
        raise typer.Exit(INTERRUPTED)
    tell_failures(
        [(each.name, each.failure or "") for each in found.failed],
        f"see the failures in {to or 'the file that --to names'}",
    )
    rate = (len(found.images) - found.before) / found.seconds if found.seconds else 0.0
    if collection is not None:
        note(
            f"{collection}: {counted(found.updated, 'row has', 'rows have')} another category or confidence than "
            "before."
        )
    if to is not None:
        place = f" File names are relative to {found.folder}." if collection is not None and found.folder else ""
        note(f"Wrote {to}.{place}")
    note(f"Detector {found.detector}; {found.seconds:.1f} s, {rate:.1f} images/s.")
    if found.failed:
        raise typer.Exit(FAILED)
