"""What looks at the whole collection: duplicates, label help, statistics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from birder.analysis.duplicates import THRESHOLD
from birder.server.catalogue import Snapshot
from birder.server.compute import MOST_GROUPS
from birder.server.responses import Duplicates
from birder.server.site import PROBLEMS, CurrentSite, listed

router = APIRouter(tags=["whole collection"], responses=PROBLEMS)


@router.get("/duplicates", response_model=Duplicates)
def duplicates(
    site: CurrentSite,
    threshold: Annotated[float, Query(ge=0.8, le=1.0, description="The minimum cosine of similar images")] = THRESHOLD,
    limit: Annotated[int, Query(ge=1, le=MOST_GROUPS, description="The most groups to return")] = 200,
) -> dict[str, Any]:
    """Groups of images with the same content, then of images that look nearly the same.

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
