"""`birder sequences`: images of one visit, put together by deployment and time."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import note, write_rows
from birder.words import counted


def sequences(
    collection: options.Collection,
    gap: Annotated[
        float | None,
        typer.Option(
            "--gap",
            min=0.0,
            metavar="SECONDS",
            help="Images of a sequence follow each other within this time (default: that of the last time, else 60).",
        ),
    ] = None,
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
) -> None:
    """Make the sequences of all images again, by deployment and time, and list them: a row for each.

    A sequence's id is that of its first row, in the column sequence. Its count is the largest number of animals' boxes
    on one image, unless a person gave one in the column count. Images without a time stay alone.

    For example:

    birder sequences photos.birder

    birder sequences photos.birder --gap 120 --to sequences.csv
    """
    form = options.format_of(format, to)
    options.check_to(to, force)

    import birder

    found = birder.open_collection(collection).sequences(gap)
    write_rows(found.to_list(), form, to, columns=found.table.column_names)
    untimed = counted(found.untimed, "row has", "rows have")
    alone = f"; {untimed} no time: each image stays alone" if found.untimed else ""
    note(f"{collection}: {counted(len(found), 'sequence')}, with gaps of at most {found.gap:g} seconds{alone}.")
    if found.changed:
        note(f"{counted(found.changed, 'row is in another sequence', 'rows are in other sequences')} than before.")
