"""The boxes of an image: all rows that are of the same one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from birder.server.boxes import boxes_on, rows_of_image
from birder.server.responses import BoxesOfImage
from birder.server.site import PROBLEMS, CurrentSite, row_of
from birder.sources import image_of

router = APIRouter(tags=["images"], responses=PROBLEMS)


@router.get("/photos/{id}/boxes", response_model=BoxesOfImage, response_model_exclude_unset=True)
def boxes(site: CurrentSite, id: str) -> dict[str, Any]:
    """The boxes on an image, from left to right, whether the row is one of them or the whole image."""
    snapshot = site.catalogue.current()
    found = rows_of_image(snapshot, image_of(row_of(snapshot, id)["uri"]))
    whole = None if found.whole is None else snapshot.ids.ids[found.whole].as_py()
    return {"whole": whole, "boxes": boxes_on(snapshot, found.boxes)}
