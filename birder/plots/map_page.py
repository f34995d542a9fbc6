"""The map of a collection as one HTML file: nothing else is needed to look at it, no server and no network."""

from __future__ import annotations

import base64
import html
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birder.analysis.projection import MapPoints
from birder.collection.storage import Storage
from birder.extras import need
from birder.files import replacing
from birder.plots.colouring import NONE, PALETTE, Categories, Scale, hex_to_rgba, point_values
from birder.plots.inline_modules import inline_modules
from birder.sources import readable, readable_path

_STEPS = 256
_FAINT = 110  # the opacity of points without a value


def write_map_page(
    collection: Storage, points: MapPoints, file: str | Path, colours: Categories | Scale | None, column: str | None
) -> None:
    """Write a map as a page that pans, zooms, filters by its legend, names images, and selects with a lasso.

    Parameters
    ----------
    collection
        The collection, for the names of its images.
    points
        Its map.
    file
        Where to.
    colours
        What to colour the points by, as `colour_values` gives; one colour without it.
    column
        The name of that column.

    Raises
    ------
    BirderError
        The file cannot be written.
    """
    uris = point_values(collection, "uri", points.ids).to_pylist()
    data: dict[str, Any] = {"names": [readable_path(uri or "") for uri in uris]}
    if isinstance(colours, Categories):
        rgba = hex_to_rgba([*colours.colours, NONE])[colours.codes]
        rgba[colours.codes < 0, 3] = _FAINT
        entries = zip(colours.names, colours.counts, colours.colours, strict=True)
        data["codes"] = colours.codes.tolist()
        data["legend"] = [{"name": name, "count": count, "colour": colour} for name, count, colour in entries]
        data["legend"].append({"name": f"no {column}", "count": int((colours.codes < 0).sum()), "colour": NONE})
    elif isinstance(colours, Scale):
        rgba, data["scale"] = _scale(colours)
        data["values"] = [colours.shown(each) if np.isfinite(each) else None for each in colours.values.tolist()]
    else:
        rgba = np.repeat(hex_to_rgba([PALETTE[0]]), len(points.ids), axis=0)
    missing = f"; {points.missing:,} added or changed since are not on it" if points.missing else ""
    laid_out = points.made.get("laid_out")
    sampled = f"; {laid_out:,} of them laid out, and the others placed by these" if laid_out else ""
    parts = {
        "title": html.escape(f"Map of {readable(collection.path.resolve().name)}"),
        "about": html.escape(f"{len(points.ids):,} images, {collection.model.name}{sampled}{missing}"),
        "column": html.escape(column or "All images"),
        "xy": base64.b64encode(points.xy.astype("<f4").tobytes()).decode(),
        "rgba": base64.b64encode(np.ascontiguousarray(rgba).tobytes()).decode(),
        # Within <script> nothing is unescaped, and </script> or <!-- would end it or change its meaning.
        "data": json.dumps(data, ensure_ascii=True).replace("<", "\\u003c"),
        "script": inline_modules("plots/map_page.js"),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _text("plots/map.html"))
    with replacing(file) as draft:
        draft.write_text(page, encoding="utf-8")


def _scale(colours: Scale) -> tuple[npt.NDArray[np.uint8], dict[str, Any] | None]:
    """Colours of a scale's points, and the scale itself for the legend; None if no point has a value."""
    need("map", "Colouring a map by a numeric column")
    import matplotlib

    steps = (matplotlib.colormaps["viridis"](np.linspace(0, 1, _STEPS))[:, :3] * 255).round().astype(int)
    palette = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in steps]
    there = np.isfinite(colours.values)
    codes = np.full(len(colours.values), _STEPS)
    if not there.any():
        return hex_to_rgba([*palette, NONE])[codes], None
    least, most = float(colours.values[there].min()), float(colours.values[there].max())
    codes[there] = ((colours.values[there] - least) / ((most - least) or 1.0) * (_STEPS - 1)).round()
    scale = {"colours": palette, "least": colours.shown(least), "most": colours.shown(most)}
    return hex_to_rgba([*palette, NONE])[codes], scale


def _text(name: str) -> str:
    return (resources.files("birder") / name).read_text(encoding="utf-8")
