"""`birder map`: a collection in the plane, with images that look alike near to each other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birder.cli import options
from birder.cli.output import console_err, note

if TYPE_CHECKING:
    from birder.analysis.projection import MapPoints
    from birder.collection.storage import Storage

_IN_LEGEND = 12  # names in the legend of an image; the page has more, and filters by them


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
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute the map anew, with the images added since.")
    ] = False,
    force: options.Force = False,
) -> None:
    """Draw a map of a collection: a UMAP of its embeddings, computed once and stored with it.

    Without --to, report which map there is.

    For example:

    birder map photos.birder --to map.html --colour label
    """
    if colour is not None and to is None:
        options.wrong_use("--colour needs a file to draw: --to map.html")
    options.check_to(to, force)

    from birder.analysis.projection import read_map
    from birder.collection.storage import Storage
    from birder.plots.colouring import PALETTE, colour_values

    opened = Storage.open(collection)
    if colour is not None:
        colour_values(opened, colour, [])  # an unknown column is reported before minutes of work
    points = None if recompute else read_map(opened)
    if points is None and (recompute or to is not None):
        points = _compute(opened)
    if points is None:
        note(f"{collection} has no map yet. Make one: birder map {collection} --to map.html")
        return
    _tell(collection, points)
    if to is None:
        return
    page = to.suffix.lower() in (".html", ".htm")
    most = len(PALETTE) if page else _IN_LEGEND
    values = None if colour is None else colour_values(opened, colour, points.ids, most=most)
    if page:
        from birder.plots.map_page import write_map_page

        write_map_page(opened, points, to, values, colour)
    else:
        from birder.plots.map_image import draw_map

        draw_map(points, to, values, colour)
    note(f"Wrote {to}.")


def _tell(collection: Path, points: MapPoints) -> None:
    made = points.made
    reduced = f", {made['directions']} principal directions" if made["directions"] else ""
    note(
        f"{collection}: a map of {len(points.ids):,} images (UMAP {made['umap']}, cosine, "
        f"{made['neighbours']} neighbours{reduced}, seed {made['seed']})."
    )
    if points.missing:
        note(f"{points.missing:,} images added or changed since are not on it: birder map {collection} --recompute")


def _compute(opened: Storage) -> MapPoints:
    from birder.analysis.projection import compute_map

    with _progress() as tell:
        return compute_map(opened, progress=tell)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on a terminal; elsewhere a line a stage."""
    console = console_err()
    if not console.is_terminal:
        last = ""

        def say(stage: str, done: float) -> None:
            nonlocal last
            if stage != last:
                note(f"{stage} ...")
                last = stage

        yield say
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, done: bar.update(task, description=stage, completed=done)
