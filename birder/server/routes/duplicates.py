"""Duplicates: groups of images that show the same, some at a time; the ids of all; an end to the search."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, HTTPException, Query, Response

from birder.analysis.duplicates import THRESHOLD
from birder.server.catalogue import Snapshot
from birder.server.duplicates_job import Group, Wanted
from birder.server.places import station_column
from birder.server.responses import Duplicates, Ids, plain
from birder.server.site import PROBLEMS, CurrentSite, Where, listed

router = APIRouter(tags=["whole collection"], responses=PROBLEMS)

_SHOWN = 24  # images of a group

Threshold = Annotated[float, Query(ge=0.8, le=1.0, description="The minimum cosine of similar images")]
GroupOrder = Literal["size", "time", "station"]


@router.get("/duplicates", response_model=Duplicates)
def duplicates(
    site: CurrentSite,
    threshold: Threshold = THRESHOLD,
    where: Where = None,
    order: Annotated[GroupOrder, Query(description="Large groups first; by the time or station of images")] = "size",
    offset: Annotated[int, Query(ge=0, le=10**9, description="How many groups are left out before them")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="The most groups to return")] = 200,
) -> dict[str, Any]:
    """Groups of images with the same content, then of images that look nearly the same.

    Comparing all with all takes a while: the first request begins it, and is answered with the state "computing"; ask
    again until it is "ready". `similarity` is the cosine to the first of the group, of which at most 24 are listed.
    """
    snapshot = site.catalogue.current()
    parsed = snapshot.filter(where)
    found = site.duplicates.state(snapshot, Wanted(threshold, where or ""), snapshot.select(parsed))
    groups: list[Group] = found["groups"]
    station = station_column(snapshot)
    numbers = _ordered(snapshot, groups, order, station)[offset : offset + limit]
    return {
        **found,
        "groups": [_group(snapshot, number, groups[number], station) for number in numbers],
        "total": len(groups),
        "images": len({id_ for _, photos in groups for id_, _ in photos}),
        "station": station,
    }


@router.get("/duplicates/ids", response_model=Ids)
def duplicate_ids(
    site: CurrentSite,
    threshold: Threshold = THRESHOLD,
    where: Where = None,
    group: Annotated[int | None, Query(ge=0, le=10**9, description="Of this group alone, by its number")] = None,
    others: Annotated[bool, Query(description="All but the largest of each group")] = False,
) -> dict[str, Any]:
    """The ids of the images in one group or in all, of those that were found last."""
    groups = site.duplicates.found(Wanted(threshold, where or ""))
    if groups is None or (group is not None and group >= len(groups)):
        raise HTTPException(404, "There is no such group: ask GET /api/v1/duplicates first.")
    snapshot = site.catalogue.current()
    ids = dict[str, None]()
    for _, photos in groups if group is None else [groups[group]]:
        members = [id_ for id_, _ in photos if snapshot.position(id_) is not None]
        kept = _largest(snapshot, members) if others and members else None
        ids |= dict.fromkeys(id_ for id_ in members if id_ != kept)
    return {"total": len(ids), "version": snapshot.version, "ids": list(ids)}


@router.post("/duplicates/cancel", status_code=204)
def cancel_duplicates(site: CurrentSite, threshold: Threshold = THRESHOLD, where: Where = None) -> Response:
    """End a search that is under way; the next request for these duplicates begins it again."""
    site.duplicates.cancel(Wanted(threshold, where or ""))
    return Response(status_code=204)


def _ordered(snapshot: Snapshot, groups: list[Group], order: GroupOrder, station: str | None) -> list[int]:
    """The numbers of the groups, in an order; those without a time or station last."""
    numbers = list(range(len(groups)))
    if order == "size" or not groups:
        return numbers
    positions = snapshot.positions([photos[0][0] for _, photos in groups])
    there = pa.array(np.maximum(positions, 0), mask=positions < 0)
    times = snapshot.column("taken_at").take(there).cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()
    stations = [""] * len(groups)
    if order == "station" and station is not None:
        stations = pc.fill_null(snapshot.column(station).take(there), "\uffff").to_pylist()
    return sorted(numbers, key=lambda n: (stations[n], times[n] is None, times[n] or 0, n))


def _group(snapshot: Snapshot, number: int, group: Group, station: str | None) -> dict[str, Any]:
    kind, photos = group
    similarity = dict(photos)
    positions = snapshot.positions(list(similarity))
    positions = positions[positions >= 0]
    members = snapshot.ids.ids.take(pa.array(positions)).to_pylist()
    times = pc.min_max(snapshot.column("taken_at", positions))
    stations = [] if station is None else snapshot.column(station, positions).drop_null().unique().to_pylist()
    return {
        "number": number,
        "kind": kind,
        "count": len(members),
        "largest": _largest(snapshot, members) if members else None,
        "first": plain(times["min"].as_py()),
        "last": plain(times["max"].as_py()),
        "stations": sorted(stations)[:3],
        "photos": [{**photo, "similarity": similarity[photo["id"]]} for photo in listed(snapshot, positions[:_SHOWN])],
    }


def _largest(snapshot: Snapshot, members: list[str]) -> str:
    """The first of the images with the most pixels."""
    positions = snapshot.positions(members)
    sides = [pc.fill_null(snapshot.column(name, positions), 0).cast(pa.int64()) for name in ("width", "height")]
    return members[int(np.argmax(pc.multiply(*sides).to_numpy()))]
