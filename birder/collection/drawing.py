"""The map, charts of taxa and of neighbours, and the activity report, computed and drawn to a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from birder.analysis.activity import Activity, find_activity
from birder.analysis.agreement import Agreement, neighbour_agreement
from birder.analysis.projection import MapPoints, compute_map, matching_points, read_map
from birder.analysis.stats import TAXA, Stats, value_counts
from birder.collection.filter import Filter
from birder.collection.progress import StageProgress, stages_shown
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import ConfigError
from birder.plots.colouring import PALETTE, colour_values
from birder.taxonomy import RANKS
from birder.version import __version__

_LEGEND_NAMES = 12  # names in the legend of a map as PNG; the HTML page has more, and filters by them


def map_of(
    storage: Storage,
    to: str | Path | None,
    *,
    colour: str | None,
    where: str | Filter | None,
    recompute: bool,
    seed: int,
    progress: StageProgress,
) -> MapPoints:
    """The stored map, computed if there is none, and drawn if a file is named; see `Collection.map`."""
    if colour is not None:
        if to is None:
            raise ConfigError("Colours need a file to draw to.")
        colour_values(storage, colour, [])  # reports an unknown column before minutes of work
    chosen = without_wrong_boxes(where, storage.columns)
    points = None if recompute else read_map(storage)
    if points is None:
        with stages_shown(progress) as show:
            points = compute_map(storage, seed=seed, progress=show)
    if chosen is not None:
        points = matching_points(storage, points, chosen)
    if to is None:
        return points
    is_page = Path(to).suffix.lower() in (".html", ".htm")
    most = len(PALETTE) if is_page else _LEGEND_NAMES
    values = None if colour is None else colour_values(storage, colour, points.ids, most=most)
    if is_page:
        from birder.plots.map_page import write_map_page

        write_map_page(storage, points, to, values, colour)
    else:
        from birder.plots.map_image import draw_map

        draw_map(points, to, values, colour)
    return points


def agreement_of(
    storage: Storage, columns: Sequence[str], to: str | Path | None, where: str | Filter | None
) -> list[Agreement]:
    """How often nearest neighbours agree, drawn if a file is named; see `Collection.agreement`."""
    found = neighbour_agreement(storage, columns, where=where)
    if not any(each.agreement is not None for each in found):
        what = "taxon" if tuple(columns) == tuple(RANKS) else " or ".join(columns)
        raise ConfigError(
            f"No two rows of {storage.path}{'' if where is None else ' that match the filter'} with different content "
            f"have a {what}: name the column that has labels."
        )
    if to is not None:
        from birder.plots.map_image import draw_agreement

        draw_agreement(found, to)
    return found


def draw_taxa(storage: Storage, found: Stats, to: str | Path, where: str | Filter | None) -> None:
    """Plot the most frequent labels and taxa; see `Collection.stats`."""
    from birder.plots.map_image import draw_counts

    counts = {
        each.column: value_counts(storage, each.column, where=where)
        for each in found.columns
        if each.column in TAXA and each.filled
    }
    if not counts:
        raise ConfigError("No row has a label or a taxon: plot another column with value_counts.")
    draw_counts(counts, to)


def activity_of(
    storage: Storage,
    to: str | Path | None,
    *,
    species: Sequence[str],
    column: str | None,
    where: str | Filter | None,
    seed: int,
) -> Activity:
    """Effort, captures and activity, as a page or an image if a file is named; see `Collection.activity`."""
    rows = storage.snapshot()
    filter = without_wrong_boxes(where, rows.columns)
    found = find_activity(rows, storage.journal, species=species, column=column, where=filter, seed=seed)
    if to is None:
        return found
    if Path(to).suffix.lower() in (".html", ".htm"):
        from birder.plots.activity_page import write_activity_page

        asked = {
            "collection": storage.path.name,
            "names": column or "label, else prediction",
            "species": ", ".join(species) or "all",
            "where": "" if filter is None else filter.text,
            "seed": str(seed),
            "birder": __version__,
        }
        write_activity_page(found, to, {key: value for key, value in asked.items() if value})
    else:
        from birder.plots.activity_image import draw_activity

        draw_activity(found, to)
    return found
