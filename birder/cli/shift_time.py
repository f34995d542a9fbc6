"""`birder shift-time`: set right the times of images that a camera with a wrong clock took."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import note
from birder.words import counted


def shift_time(
    collection: options.Collection,
    where: options.Where = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="DURATION", help="What to add to the times: +1h, -2d3h, 90s, +00:30:00."),
    ] = None,
    true: Annotated[
        str | None,
        typer.Option("--true", metavar="TIME", help="Instead of --by: when one of the images was really taken."),
    ] = None,
    shown: Annotated[
        str | None,
        typer.Option("--shown", metavar="TIME", help="With --true: the time that the camera gave that image."),
    ] = None,
) -> None:
    """Shift the times of all rows that match a filter; their sequences follow.

    birder undo with --act takes it back. Images that are embedded later are not shifted.

    For example:

    birder shift-time photos.birder --where "deployment = 'A4'" --by +1h

    birder shift-time photos.birder --where "deployment = 'A4'" --true 2024-05-01T12:00 --shown 2023-01-01T00:04
    """
    if where is None:
        options.wrong_use("Say which rows to shift: --where FILTER, or --where true for all.")
    if (true is None) != (shown is None) or (by is None) == (true is None):
        options.wrong_use("Say how far the clock was wrong: --by DURATION, or --true TIME and --shown TIME together.")

    import birder

    done = birder.open_collection(collection).shift_time(by, where=where, true=true, shown=shown)
    untimed = f"; {done.untimed:,} that match have no time" if done.untimed else ""
    moved = f"; {done.sequences:,} are in other sequences" if done.sequences else ""
    note(f"{collection}: the times of {counted(done.rows, 'row')} shifted by {done.by}{untimed}{moved}.")
    note(f"To undo: birder undo {collection} --act {done.act}")
