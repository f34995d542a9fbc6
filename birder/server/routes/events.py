"""Server-sent events: open pages learn what happens to the collection as it happens."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from birder.server.site import PROBLEMS, CurrentSite

router = APIRouter(tags=["events"], responses=PROBLEMS)


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events, as they happen"}},
)
async def events(site: CurrentSite) -> StreamingResponse:
    """Tell what happens, as server-sent events, for as long as the connection holds.

    `label` for each act of labelling or undoing, whoever's it is: act, at, by, column, count, undone. `rows` when the
    rows themselves have changed, as while images are embedded: version, rows.
    """
    return StreamingResponse(site.events.stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
