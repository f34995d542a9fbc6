"""Label suggestions: unlabelled images with the labels that fit them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Query

from birder.learning.suggest import suggest
from birder.server.responses import Suggestions
from birder.server.review import Named, labels_of, rejects
from birder.server.site import PROBLEMS, CurrentSite, Site, Where, listed

router = APIRouter(tags=["whole collection"], responses=PROBLEMS)

Column = Annotated[str, Query(min_length=1, max_length=300, description="The column of labels")]


@router.get("/suggest", response_model=Suggestions)
async def suggestions(
    site: CurrentSite,
    column: Column = "label",
    label: Annotated[str | None, Query(max_length=300, description="Only images that this label fits")] = None,
    order: Annotated[Literal["certain", "useful"], Query(description="Which come first")] = "certain",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    where: Where = None,
) -> dict[str, Any]:
    """Unlabelled images with the labels that fit them, by a classifier that is fitted to those with labels.

    A filter says which images are suggested; the classifier learns from all labels.
    """
    return await site.analysis.run(_suggest, site, column, label or None, order, limit, where)


def _suggest(
    site: Site, column: str, label: str | None, order: Literal["certain", "useful"], limit: int, where: str | None
) -> dict[str, Any]:
    snapshot = site.catalogue.current()
    labels = labels_of(snapshot, column)
    among = None
    if where:
        selected = snapshot.select(snapshot.filter(where))
        among = set(snapshot.ids.ids.take(pa.array(selected)).to_pylist())
    found = suggest(
        snapshot.collection,
        column,
        label=label,
        order=order,
        limit=limit,
        labels=labels,
        among=among,
        batches=site.embeddings.batches(snapshot),
    )
    positions = snapshot.positions([row.id for row in found.rows])
    suggested = Named(
        positions, pa.array([row.label for row in found.rows], pa.string()), np.array([row.score for row in found.rows])
    )
    there = positions >= 0  # what was rejected stays away: somebody said that it does not show this
    there[there] = ~rejects(snapshot, suggested.take(there))
    rows = [row for row, is_there in zip(found.rows, there, strict=True) if is_there]
    photos = listed(snapshot, positions[there])
    return {
        "classes": [{"name": name, "count": count} for name, count in found.classes],
        "photos": [{**photo, "label": row.label, "score": row.score} for photo, row in zip(photos, rows, strict=True)],
        "note": found.note,
    }
