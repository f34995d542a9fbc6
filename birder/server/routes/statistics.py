"""The values of a column and their shares."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from birder.analysis.stats import count_values
from birder.server.responses import Statistics, plain
from birder.server.site import PROBLEMS, CurrentSite

router = APIRouter(tags=["whole collection"], responses=PROBLEMS)


@router.get("/stats", response_model=Statistics)
def stats(
    site: CurrentSite,
    column: Annotated[str, Query(min_length=1, max_length=300)] = "label",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> dict[str, Any]:
    """The values of a column, how many images have each, and their share of all; those without one last."""
    snapshot = site.catalogue.current()
    counts = count_values(snapshot.column(column, snapshot.select(snapshot.filter(None))))[:limit]
    return {"rows": [{"value": plain(each.value), "count": each.count, "share": each.share} for each in counts]}
