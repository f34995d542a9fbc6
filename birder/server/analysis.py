"""What looks at the whole collection: duplicates, label help, statistics."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from birder.analysis.duplicates import THRESHOLD
from birder.analysis.stats import count_values
from birder.analysis.suggest import suggest
from birder.server.answers import Duplicates, Statistics, Suggestions, plain
from birder.server.catalogue import Snapshot
from birder.server.compute import MOST_GROUPS
from birder.server.site import PROBLEMS, Here, Site, listed

router = APIRouter(tags=["whole collection"], responses=PROBLEMS)


@router.get("/duplicates", response_model=Duplicates)
def duplicates(
    site: Here,
    threshold: Annotated[float, Query(ge=0.8, le=1.0, description="The least cosine of similar ones")] = THRESHOLD,
    limit: Annotated[int, Query(ge=1, le=MOST_GROUPS, description="How many groups")] = 200,
) -> dict[str, Any]:
    """Groups of photographs with the same content, then of photographs that look nearly the same.

    Comparing all with all takes a while: the first request begins it, and is answered with the state "computing"; ask
    again until it is "ready". `similarity` is the cosine to the first of the group.
    """
    snapshot = site.catalogue.current()
    found = site.duplicates.state(snapshot, threshold)
    return {**found, "groups": [_group(snapshot, kind, photos) for kind, photos in found["groups"][:limit]]}


def _group(snapshot: Snapshot, kind: str, photos: list[tuple[str, float]]) -> dict[str, Any]:
    similarity = dict(photos)
    positions = snapshot.positions(list(similarity))
    there = listed(snapshot, positions[positions >= 0])
    return {"kind": kind, "photos": [{**photo, "similarity": similarity[photo["id"]]} for photo in there]}


@router.get("/stats", response_model=Statistics)
def stats(
    site: Here,
    column: Annotated[str, Query(min_length=1, max_length=300)] = "label",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> dict[str, Any]:
    """The values of a column, how many photographs have each, and their share of all; those without one last."""
    snapshot = site.catalogue.current()
    counts = count_values(snapshot.column(column))[:limit]
    return {"rows": [{"value": plain(each.value), "count": each.count, "share": each.share} for each in counts]}


@router.get("/suggest", response_model=Suggestions)
async def suggestions(
    site: Here,
    column: Annotated[str, Query(min_length=1, max_length=300, description="The column of labels")] = "label",
    label: Annotated[str | None, Query(max_length=300, description="Only photographs that this label fits")] = None,
    order: Annotated[Literal["certain", "useful"], Query(description="Which come first")] = "certain",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Unlabelled photographs with the labels that fit them, by a classifier that is fitted to those with labels."""
    return await site.analysis.run(_suggest, site, column, label or None, order, limit)


def _suggest(
    site: Site, column: str, label: str | None, order: Literal["certain", "useful"], limit: int
) -> dict[str, Any]:
    snapshot = site.catalogue.current()
    labels = dict(zip(snapshot.table["id"].to_pylist(), snapshot.column(column).to_pylist(), strict=True))
    found = suggest(snapshot.collection, column, label=label, order=order, limit=limit, labels=labels)
    positions = snapshot.positions([row.id for row in found.rows])
    rows = [row for row, position in zip(found.rows, positions, strict=True) if position >= 0]
    photos = listed(snapshot, positions[positions >= 0])
    return {
        "classes": [{"name": name, "count": count} for name, count in found.classes],
        "photos": [{**photo, "label": row.label, "score": row.score} for photo, row in zip(photos, rows, strict=True)],
        "note": found.note,
    }
