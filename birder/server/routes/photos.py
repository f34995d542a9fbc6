"""Images of the collection: lists, one and its row, thumbnails, the image itself."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from birder.errors import ImageError
from birder.server.responses import Ids, PhotoDetails, Photos, plain
from birder.server.review import with_predictions
from birder.server.site import (
    IDS_AS_BYTES,
    MOST_SHOWN,
    PROBLEMS,
    AsBytes,
    CurrentSite,
    Order,
    Site,
    Where,
    listed_ids,
    row_of,
    with_values,
)
from birder.sources import image_of, readable_path
from birder.sources.row_images import Place, exists, place_of, shrunk, stamp_of_place, to_jpeg
from birder.sources.row_videos import video_of

router = APIRouter(tags=["images"], responses=PROBLEMS)

_LARGEST = 2048
_LARGEST_JPEG = 65_535  # pixels that the format has room for
_IMMUTABLE = "private, max-age=31536000, immutable"
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}, "description": "A JPEG"},
    304: {"description": "What If-None-Match names is still right"},
}


class Size(IntEnum):
    """Longest sides of thumbnails, in pixels."""

    small = 96
    medium = 256
    large = 512


class _Row(NamedTuple):
    uri: str
    sha256: str
    place: Place | None


def _row(site: CurrentSite, id: str) -> _Row:
    """The image of an id, looked up in a thread because the catalogue may have to be read again."""
    row = row_of(site.catalogue.current(), id)
    return _Row(row["uri"], row["sha256"], place_of(row["uri"]))


RowOfImage = Annotated[_Row, Depends(_row)]


@router.get("/photos", response_model=Photos, response_model_exclude_unset=True)
def photos(
    site: CurrentSite,
    where: Where = None,
    order: Order = "",
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    columns: Annotated[
        list[str] | None, Query(max_length=MOST_SHOWN, description="Columns whose values come with the images")
    ] = None,
) -> dict[str, Any]:
    """List the images that match a filter, some at a time."""
    snapshot = site.catalogue.current()
    found = snapshot.select(snapshot.filter(where), order)
    return {
        "total": len(found),
        "offset": offset,
        "version": snapshot.version,
        "photos": with_values(snapshot, with_predictions(snapshot, found[offset : offset + limit]), columns or []),
    }


@router.get("/ids", response_model=Ids, responses=IDS_AS_BYTES)
def ids(site: CurrentSite, as_bytes: AsBytes, where: Where = None, order: Order = "") -> Response:
    """List the ids of all images that match a filter."""
    snapshot = site.catalogue.current()
    found = snapshot.select(snapshot.filter(where), order)
    return listed_ids(snapshot.ids, found, snapshot.version, as_bytes=as_bytes)


@router.get("/photos/{id}", response_model=PhotoDetails)
def photo(site: CurrentSite, id: str) -> dict[str, Any]:
    """One image, and its row but for the embedding."""
    row = row_of(site.catalogue.current(), id)
    place = place_of(row["uri"])
    video = video_of(place)
    return {
        "id": id,
        "uri": row["uri"],
        "name": readable_path(row["uri"]),
        "row": {name: plain(value) for name, value in row.items()},
        "image": exists(place),
        "video": None if video is None else video._asdict(),
    }


@router.get("/photos/{id}/thumbnail", response_class=Response, responses=_JPEG)
async def thumbnail(
    site: CurrentSite,
    request: Request,
    row: RowOfImage,
    size: Annotated[Size, Query(description="The longest side in pixels")] = Size.medium,
    v: Annotated[
        str | None,
        Query(
            max_length=100, description="Any text that changes with the content: the response is then cached forever"
        ),
    ] = None,
) -> Response:
    """A small image, as JPEG; made at first need and kept."""
    if row.place is None:
        raise _no_image(row.uri)
    try:
        found = await site.thumbnails.get(row.sha256, row.place, int(size))
    except ImageError as error:
        raise HTTPException(404, f"The image cannot be shown: {error}.") from None
    return _jpeg(request, found.data, found.key, kept_for_good=v is not None)


@router.get("/photos/{id}/image", response_class=Response, responses=_JPEG)
async def image(
    site: CurrentSite,
    request: Request,
    id: str,
    row: RowOfImage,
    full: Annotated[bool, Query(description="All pixels of the file")] = False,
    whole: Annotated[bool, Query(description="Of a box, the image that it is on")] = False,
) -> Response:
    """The image, encoded again as a JPEG of at most 2048 pixels a side or in full; of a box, what the box shows."""
    place = place_of(image_of(row.uri)) if whole else row.place
    if place is None:
        raise _no_image(row.uri)
    stamp = stamp_of_place(place)
    tag = f"{id} {stamp} {'full' if full else ''} {'whole' if whole else ''}"
    if stamp is not None and _tag(tag) == request.headers.get("if-none-match"):
        return _jpeg(request, b"", tag, kept_for_good=False)
    try:
        data = await site.images.run(_image, site, place, _LARGEST_JPEG if full else _LARGEST)
    except ImageError as error:
        raise HTTPException(404, f"The image cannot be shown: {error}.") from None
    return _jpeg(request, data, tag, kept_for_good=False)


def _image(site: Site, place: Place, side: int) -> bytes:
    return to_jpeg(shrunk(site.row_images.read(place), place.fragment, side), quality=90)


def _jpeg(request: Request, data: bytes, tag: str, *, kept_for_good: bool) -> Response:
    headers = {"ETag": _tag(tag), "Cache-Control": _IMMUTABLE if kept_for_good else "private, no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


def _tag(text: str) -> str:
    return '"' + "".join(c if c.isascii() and c.isalnum() else "-" for c in text) + '"'


def _no_image(uri: str) -> HTTPException:
    return HTTPException(
        404,
        f"The image cannot be shown: {readable_path(uri)[:200]} is not on this machine, and the server does not "
        f"download images.",
    )
