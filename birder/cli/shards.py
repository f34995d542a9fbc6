"""`birder shards`: a collection as tar files to train CLIP on, in the layout of TreeOfLife-10M."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.errors import FAILED
from birder.cli.outcomes import tell_failures
from birder.cli.output import image_name, note, one_line, say
from birder.cli.progress import stage_progress
from birder.words import counted


def shards(
    collection: options.Collection,
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Write train/, val/ and manifest.json into this folder.")
    ],
    column: Annotated[str, typer.Option("--column", metavar="COLUMN", help="The column with the labels.")] = "label",
    taxonomy: options.Taxonomy = None,
    where: options.Where = None,
    group_by: options.GroupBy = None,
    size: Annotated[
        int, typer.Option("--size", min=16, max=4096, metavar="PIXELS", help="Width and height of the images.")
    ] = 224,
    records: Annotated[
        int,
        typer.Option("--records", min=1, metavar="N", help="The most images of a shard, which is also full at 3 GB."),
    ] = 100_000,
    val_share: Annotated[
        float,
        typer.Option(
            "--val-share", min=0.0, max=0.5, metavar="SHARE", help="The share of images to hold out for validation."
        ),
    ] = 0.05,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the split.")] = 0,
    force: options.Force = False,
) -> None:
    """Write images that have a taxon as shards to train CLIP on, in the layout of TreeOfLife-10M.

    Tar files of KEY.jpg, squashed to a square, and ten texts about the taxon, from its ranks and common name, in
    train/ and val/. Images of one burst, site or specimen are never on both sides. A run that was stopped goes on
    where it was if the same command is run again.

    For example:

    birder shards photos.birder --to shards/

    birder shards photos.birder --to larger/ --size 336 --val-share 0.1
    """
    import birder

    try:
        done = birder.open_collection(collection).shards(
            to,
            column=column,
            taxonomy=taxonomy,
            where=where,
            group_by=options.names_in(group_by),
            size=size,
            records=records,
            val_share=val_share,
            seed=seed,
            force=force,
            progress=stage_progress(every_stage=True),
        )
    except KeyboardInterrupt:
        note("Stopped. The shards that are whole stay: to go on, run the same command again.")
        raise
    for sentence in done.manifest["how"]:
        say(one_line(sentence))
    say(one_line(str(done)))
    if done.failed:
        say(f"Left out: {counted(len(done.failed), 'image that cannot', 'images that cannot')} be read.")
        tell_failures(
            [(image_name(uri), reason) for uri, reason in done.failed],
            f'python -m json.tool {shlex.quote(str(to / "manifest.json"))}, under "failed"',
        )
        raise typer.Exit(FAILED)
