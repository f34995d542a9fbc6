"""`birder relocate`: tell a collection where its images have moved."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from birder.cli import options
from birder.cli.output import note
from birder.cli.progress import stage_progress
from birder.words import counted


def relocate(
    collection: options.Collection,
    from_: Annotated[str, typer.Option("--from", metavar="OLD", help="The folder that the images were in.")],
    to: Annotated[str, typer.Option("--to", metavar="NEW", help="The folder that they are in now.")],
    check: Annotated[
        Literal["sample", "all"],
        typer.Option("--check", metavar="WHICH", help="Compare size and sha256 of a sample of the images, or of all."),
    ] = "sample",
) -> None:
    """Change the folder of images that have moved, or whose disk has another letter; labels stay with them.

    birder undo with --act takes it back.

    For example:

    birder relocate photos.birder --from photos --to archive/photos
    """
    import birder

    done = birder.open_collection(collection).relocate(from_, to, check=check, progress=stage_progress())
    note(
        f"{collection}: {counted(done.rows, 'row')} relocated from {from_} to {to}; "
        f"{counted(done.checked, 'image')} compared."
    )
    note(f"To undo: birder undo {collection} --act {done.act}")
