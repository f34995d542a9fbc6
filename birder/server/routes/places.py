"""The places where images were taken, and the images of some of them."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from birder.server.places import station_column
from birder.server.responses import Ids, PlacesOfImages
from birder.server.site import IDS_AS_BYTES, PROBLEMS, AsBytes, CurrentSite, Where, listed_ids

router = APIRouter(tags=["places"], responses=PROBLEMS)

_MOST = 65_536  # there are not more places
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]


class AskedPlaces(BaseModel):
    """Places whose images are wanted."""

    places: list[tuple[Latitude, Longitude]] | None = Field(
        None,
        max_length=_MOST,
        description="Latitude and longitude of each, as GET /places gives them; null: all.",
    )
    where: str | None = Field(None, max_length=10_000, description="Only images that match this filter.")


@router.get("/places", response_model=PlacesOfImages)
def places(site: CurrentSite, where: Where = None) -> Response:
    """List the places where images were taken, and how many that match a filter were taken at each.

    Images without coordinates, or with impossible ones, are at no place.
    """
    snapshot = site.catalogue.current()
    known = site.places.of(snapshot)
    found = snapshot.select(snapshot.filter(where))
    counts = np.bincount(known.codes[found] + 1, minlength=len(known.latitude) + 1).tolist()
    each = zip(
        known.latitude.tolist(),
        known.longitude.tolist(),
        counts[1:],
        known.names,
        known.further.tolist(),
        known.exact.tolist(),
        known.box.tolist(),
        strict=True,
    )
    fields = ("latitude", "longitude", "count", "names", "further", "exact", "box")
    answer: dict[str, Any] = {
        "station": station_column(snapshot),
        "rounded": 10.0**-known.decimals,
        "total": len(found),
        "nowhere": counts[0],
        "places": [dict(zip(fields, place, strict=True)) for place in each],
    }
    return Response(to_json(answer), media_type="application/json")


@router.post("/places/ids", response_model=Ids, responses=IDS_AS_BYTES)
def ids(site: CurrentSite, as_bytes: AsBytes, asked: AskedPlaces) -> Response:
    """List the ids of the images at some places that match a filter."""
    snapshot = site.catalogue.current()
    known = site.places.of(snapshot)
    found = snapshot.select(snapshot.filter(asked.where))
    wanted = np.zeros(len(known.latitude) + 1, np.bool_)  # the last is that of images without a place
    if asked.places is None:
        wanted[:-1] = True
    else:
        numbers = known.numbers
        missing = [place for place in asked.places if place not in numbers]
        if missing:
            raise HTTPException(
                404,
                f"No image is at {missing[0][0]}, {missing[0][1]} any more: ask GET /api/v1/places again.",
            )
        wanted[[numbers[place] for place in asked.places]] = True
    return listed_ids(snapshot.ids, found[wanted[known.codes[found]]], snapshot.version, as_bytes=as_bytes)
