"""`birder tidy`: keep the folder of a collection small and fast."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import note, size
from birder.words import counted


def tidy(
    collection: options.Collection,
    now: Annotated[
        bool,
        typer.Option(
            "--now",
            help="Remove all former versions, including those of the last hour, which another process may still "
            "be reading.",
        ),
    ] = False,
) -> None:
    """Merge small files, update the indexes, and remove former versions and thumbnails that nothing needs.

    Labels that are only in the journal are written into their rows. No row, failure or map is lost.

    For example:

    birder tidy photos.birder
    """
    import birder

    opened = birder.open_collection(collection)
    done = opened.tidy(keep=timedelta(0)) if now else opened.tidy()
    saved = done.bytes_before - done.bytes_after
    change = f"{size(saved)} saved" if saved >= 0 else f"{size(-saved)} more: the former versions are kept for now"
    note(
        f"{collection}: {size(done.bytes_before)} before, {size(done.bytes_after)} now ({change}); "
        f"{counted(done.versions_removed, 'former version')} and {counted(done.thumbnails_removed, 'thumbnail')} "
        "removed."
    )
    if not now:
        note("Versions of the last hour are kept for other processes; --now removes them too.")
