"""The files that could not be read, and why."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from birder.server.responses import Failures, plain
from birder.server.site import PROBLEMS, CurrentSite
from birder.sources import readable_path

router = APIRouter(tags=["failures"], responses=PROBLEMS)


@router.get("/failures", response_model=Failures)
def failures(
    site: CurrentSite,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """List the files that the collection could not take, some at a time, by uri."""
    table = site.catalogue.failures()
    return {
        "total": table.num_rows,
        "failures": [
            {"name": readable_path(row["uri"]), "reason": row["reason"], "failed_at": plain(row["failed_at"])}
            for row in table.slice(offset, limit).to_pylist()
        ],
    }
