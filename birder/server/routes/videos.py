"""The videos that frames are of, for players."""

from __future__ import annotations

import os
from email.utils import formatdate
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from birder.errors import ImageError
from birder.server.byte_ranges import FilePart
from birder.server.responses import Problem
from birder.server.site import PROBLEMS, CurrentSite, Site, row_of
from birder.sources.row_images import place_of
from birder.sources.row_videos import open_video, video_of

router = APIRouter(tags=["images"], responses=PROBLEMS)

_CONTENT = {"content": {"video/*": {"schema": {"type": "string", "format": "binary"}}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {**_CONTENT, "description": "The file as it is"},
    206: {**_CONTENT, "description": "The part of it that Range names"},
    304: {"description": "What If-None-Match names is still right"},
    416: {"model": Problem, "description": "The file has none of the bytes that Range names"},
}


@router.get("/photos/{id}/video", response_class=Response, responses=_ANSWERS)
def video(site: CurrentSite, request: Request, id: str) -> Response:
    """The video that an image is a frame of: the file as it is, or the part of it that Range names."""
    return _video(site, request, id)


@router.head("/photos/{id}/video", response_class=Response, responses=_ANSWERS)
def video_headers(site: CurrentSite, request: Request, id: str) -> Response:
    """What the video is that an image is a frame of: type, size, time of its last change."""
    return _video(site, request, id)


def _video(site: Site, request: Request, id_: str) -> Response:
    place = place_of(row_of(site.catalogue.current(), id_)["uri"])
    found = video_of(place)
    if place is None or found is None:
        raise HTTPException(404, "This image is not a frame of a video on this machine: ask for the image.")
    try:
        file = open_video(place)
    except ImageError as error:
        raise HTTPException(404, f"The video cannot be sent: {error}.") from None
    status = os.fstat(file.fileno())
    headers = {
        "ETag": f'"{status.st_size:x}-{status.st_mtime_ns:x}"',
        "Last-Modified": formatdate(status.st_mtime, usegmt=True),
        "Cache-Control": "private, no-cache",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        file.close()
        return Response(status_code=304, headers=headers)
    return FilePart(request, file, status.st_size, found.media_type, headers)
