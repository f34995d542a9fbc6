"""`birder activity`: effort, captures, activity over the day, accumulation of species, stations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import note, write_rows

_DRAWN = (".html", ".htm", ".png", ".svg", ".pdf")


def activity(
    collection: options.Collection,
    to: Annotated[
        Path | None,
        options.to_option(
            ".html for a page, .png, .svg or .pdf for an image, or .csv, .json, .parquet for the captures"
        ),
    ] = None,
    species: Annotated[
        list[str] | None,
        typer.Option("--species", metavar="NAME", help="Only this species; repeat it for several (default: all)."),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option("--column", metavar="COLUMN", help="Column with the names (default: label, else prediction)."),
    ] = None,
    where: options.Where = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the bootstrap.")] = 0,
    format: options.FormatOption = None,
    force: options.Force = False,
) -> None:
    """Report effort and captures by deployment, activity over the day, accumulation of species, and stations.

    A capture is one species in one sequence. Without a page or image to write, list the captures: a row for each
    deployment and species, with nights and the rate per 100 trap nights. --where chooses rows, for effort as well;
    choose species with --species.

    For example:

    birder activity photos.birder --to activity.html

    birder activity photos.birder --where "deployment = 'A4'" --to captures.csv
    """
    drawn = to if format is None and to is not None and to.suffix.lower() in _DRAWN else None
    form = options.format_of(format, to if drawn is None else None, drawn=_DRAWN)
    options.check_to(to, force)

    import birder

    found = birder.open_collection(collection).activity(
        drawn, species=species or (), column=column, where=where, seed=seed
    )
    if drawn is None:
        write_rows(list(found), form, to, columns=found.table.column_names)
    note(f"{collection}: {found.summary}.")
    for each in found.notes:
        note(each)
    if drawn is not None:
        note(f"Wrote {drawn}.")
