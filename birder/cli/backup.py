"""`birder backup`: a consistent copy of a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import note, size
from birder.cli.progress import stage_progress
from birder.words import counted


def backup(
    collection: options.Collection,
    dest: Annotated[
        Path, typer.Argument(metavar="DEST", help="The folder of the backup, created if it does not exist.")
    ],
) -> None:
    """Copy a collection, also while other processes write to it; repeated, copy only what is new.

    The backup is itself a collection: to restore it, copy the folder back.

    For example:

    birder backup photos.birder backup.birder
    """
    import birder

    done = birder.open_collection(collection).backup(dest, progress=stage_progress())
    note(f"{dest}: {counted(done.rows, 'row')} of {collection}; {size(done.copied_bytes)} were new.")
