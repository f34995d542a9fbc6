"""The map of a collection in two dimensions: its state, its points, a column to colour them by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, HTTPException, Response
from pydantic_core import to_json

from birder.collection.predictions import BY, PREFIX, SEQUENCE
from birder.collection.schema import TECHNICAL_COLUMNS
from birder.server.catalogue import Snapshot
from birder.server.encoded import codes_of
from birder.server.map_clusters import clusters_of, folders_of
from birder.server.map_job import Map
from birder.server.responses import Ids, MapClusters, MapColumn, MapState
from birder.server.site import BYTES, CONFLICT, IDS_AS_BYTES, PROBLEMS, AsBytes, CurrentSite, Site, listed_ids
from birder.taxonomy import COMMON_NAME, RANKS

router = APIRouter(tags=["map"], responses=PROBLEMS)

_FIRST = ("label", COMMON_NAME, *reversed(RANKS))
"""Of columns that tell the same, the first names a cluster: what people call things, then the lowest rank."""
_NAMELESS = {*TECHNICAL_COLUMNS, "sequence", "rejected", BY}
"""Columns of text that say nothing of what images show."""

_CATEGORIES = 40
_POINTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "description": "x, y, x, y, ... as little-endian float32",
    }
}
_COLUMN_AS_BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
        "description": (
            "With Accept: application/octet-stream: N as little-endian uint32, N bytes of JSON (type, categories, min, "
            "max), then one value a point. Of a category its number as uint8, 255 for none; of a number its place "
            "from min (0) to max (1) as little-endian float32, NaN for none"
        ),
    }
}


@router.get("/map", response_model=MapState)
def state(site: CurrentSite) -> dict[str, Any]:
    """Whether there is a map; while it is computed, how far that is."""
    return site.map.state(site.catalogue.current())


@router.post("/map", response_model=MapState, status_code=202, responses=CONFLICT)
def compute(site: CurrentSite) -> dict[str, Any]:
    """Begin to compute the map, unless that is under way. It takes seconds to minutes; ask for its state."""
    snapshot = site.catalogue.current()
    now = site.map.state(snapshot)
    if now["state"] != "computing" and not now["can_compute"]:
        raise HTTPException(409, now["why"])
    site.map.start()
    return site.map.state(snapshot)


@router.get("/map/points", response_class=Response, responses=_POINTS)
def points(site: CurrentSite) -> Response:
    """The places of all points, in the order of /map/ids."""
    found = _ready(site)
    headers = {"X-Birder-Version": str(site.catalogue.current().version)}
    return Response(found.xy.tobytes(), media_type="application/octet-stream", headers=headers)


@router.get("/map/ids", response_model=Ids, responses=IDS_AS_BYTES)
def ids(site: CurrentSite, as_bytes: AsBytes) -> Response:
    """The ids of the images that the points stand for."""
    found = _ready(site)
    return listed_ids(found.of, found.positions, site.catalogue.current().version, as_bytes=as_bytes)


@router.get("/map/column/{name}", response_model=MapColumn, responses=_COLUMN_AS_BYTES)
def column(site: CurrentSite, as_bytes: AsBytes, name: str) -> Response:
    """A column's values, one a point: categories, the most frequent 40 by name; or numbers."""
    found = _ready(site)
    snapshot = site.catalogue.current()
    values = snapshot.encoded(name).take(_rows(found, snapshot))
    if snapshot.types[name] in ("number", "time"):
        return _numbers(values, as_bytes=as_bytes)
    return _categories(values, as_bytes=as_bytes)


@router.get("/map/clusters", response_model=MapClusters)
def clusters(site: CurrentSite) -> dict[str, Any]:
    """The clusters of the map; their names are values of text columns, and folders, much more frequent there."""
    found = _ready(site)
    snapshot = site.catalogue.current()
    there = _rows(found, snapshot)
    columns = {name: snapshot.encoded(name).take(there) for name in _naming_columns(snapshot)}
    columns["uri"] = folders_of(snapshot.column("uri")).take(there)
    named = clusters_of(found.xy, columns)
    return {"clusters": [{"point": point, "name": name, "count": size} for point, name, size in named]}


def _naming_columns(snapshot: Snapshot) -> list[str]:
    """The columns whose values name clusters, in the order in which they are preferred."""
    texts = [name for name, kind in snapshot.types.items() if kind == "text"]

    def preference(name: str) -> tuple[bool, int, str]:
        plain = name.removeprefix(PREFIX)
        return name != plain, _FIRST.index(plain) if plain in _FIRST else len(_FIRST), name

    return sorted((name for name in texts if name not in _NAMELESS and not name.startswith(SEQUENCE)), key=preference)


def _rows(found: Map, snapshot: Snapshot) -> pa.Array:
    """The row of each point; null for one that is gone."""
    if found.of is snapshot.ids:
        positions = found.positions
    else:  # rows have come or gone meanwhile
        positions = snapshot.ids.positions(found.of.ids.take(pa.array(found.positions)))
    return pa.array(positions, mask=positions < 0)


def _ready(site: Site) -> Map:
    found = site.map.current()
    if found is None:
        raise HTTPException(404, "There is no map yet: compute it with POST /api/v1/map.")
    return found


def _numbers(values: pa.Array, *, as_bytes: bool) -> Response:
    if pa.types.is_temporal(values.type):  # seconds since 1970, as a colour scale needs numbers
        values = pc.divide(values.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64(), safe=False), 1e6)
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    there = np.isfinite(numbers)
    low, high = (float(numbers[there].min()), float(numbers[there].max())) if there.any() else (None, None)
    head = {"type": "number", "min": low, "max": high}
    if as_bytes:
        shares = np.full(len(numbers), np.nan, "<f4")
        if low is not None and high is not None:
            # Halved first: the whole span of two doubles may be more than a double can be.
            shares[there] = (numbers[there] / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
        return _with_head(head, shares)
    plain = [number if ok else None for number, ok in zip(numbers.tolist(), there.tolist(), strict=True)]
    return Response(to_json(head | {"values": plain}), media_type="application/json")


def _categories(values: pa.Array, *, as_bytes: bool) -> Response:
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.string())
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    codes = codes_of(encoded)
    names = encoded.dictionary.to_pylist()
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda code: (-counts[code], names[code]))
    shown = order[:_CATEGORIES]
    new = np.full(len(names) + 1, len(shown), np.int16)  # the last place is that of -1
    new[shown] = np.arange(len(shown))
    new[-1] = -1
    others = ["other"] if len(order) > len(shown) else []
    head = {"type": "category", "categories": [names[code] for code in shown] + others}
    if as_bytes:
        return _with_head(head, new[codes].astype(np.uint8))  # -1 becomes 255
    return Response(to_json(head | {"codes": new[codes].tolist()}), media_type="application/json")


def _with_head(head: dict[str, Any], points: npt.NDArray[Any]) -> Response:
    text = to_json(head)
    text += b" " * (-len(text) % 4)  # so that numbers begin at a multiple of their size
    return Response(len(text).to_bytes(4, "little") + text + points.tobytes(), media_type=BYTES)
