"""`birder map`: a collection in the plane, with images that look alike near to each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import note
from birder.cli.progress import stage_progress
from birder.words import counted


def map_(
    collection: options.Collection,
    to: Annotated[
        Path | None,
        options.to_option(".html for a page that zooms, filters and selects, or .png, .svg, .pdf for an image"),
    ] = None,
    colour: Annotated[
        str | None,
        typer.Option("--colour", metavar="COLUMN", help="Colour by this column: label, class, taken_at, ..."),
    ] = None,
    where: options.Where = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Recompute the map, including images added since.")
    ] = False,
    force: options.Force = False,
) -> None:
    """Draw a map of a collection: a UMAP of its embeddings, computed once and stored with it.

    Without --to, report which map there is. With --where, only the rows that match are drawn, at their places on the
    map of all.

    For example:

    birder map photos.birder --to map.html --colour label

    birder map photos.birder --to a4.html --where "deployment = 'A4'"
    """
    if where is not None and to is None:
        options.wrong_use("--where chooses the rows that are drawn: name a file, --to map.html")
    if colour is not None and to is None:
        options.wrong_use("--colour needs a file to draw: --to map.html")
    options.check_to(to, force)

    import birder
    from birder.extras import need

    need("map", "birder map")
    opened = birder.open_collection(collection)
    points = opened.stored_map() if to is None and not recompute else None
    if points is None and (recompute or to is not None):
        points = opened.map(
            to, colour=colour, where=where, recompute=recompute, progress=stage_progress(every_stage=True)
        )
    if points is None:
        note(f"{collection} has no map yet. Compute one: birder map {collection} --to map.html")
        return
    made = points.made
    reduced = f", {made['directions']} principal directions" if made["directions"] else ""
    laid_out = f", {made['laid_out']:,} images laid out and the others placed by them" if "laid_out" in made else ""
    note(
        f"{collection}: a map of {counted(len(points.ids), 'image')} (UMAP {made['umap']}, cosine, "
        f"{made['neighbours']} neighbours{reduced}{laid_out}, seed {made['seed']})."
    )
    if points.missing:
        note(
            f"{counted(points.missing, 'image')} added or changed since {'is' if points.missing == 1 else 'are'} not "
            f"on it: birder map {collection} --recompute"
        )
    if to is not None:
        note(f"Wrote {to}.")
