"""How much a request may bring, and how slowly: counted while it is read, and bounded for all requests together.

Uploads have a queue of their own: a few are read and processed at once, and the others wait before they are read. Other
requests are never held up by them.
"""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UPLOAD = 64 << 20
"""Bytes of a request with images."""
MAX_JSON = 8 << 20
"""Bytes of any other request: room for 100,000 ids."""
UPLOADS = ("/api/v1/embed", "/api/v1/predict", "/api/v1/search/image")

_LANE = 16  # uploads that are read or worked on at once
_IN_LANE = 60.0  # seconds that another waits for its turn
_JSON_UNDER_WAY = 256 << 20  # bytes of all other requests that have come and are not answered yet
_SILENCE = 10.0  # seconds that a client may send nothing
_SLOWEST = 16 << 10  # bytes a second, on average and after the time above
_PATIENCE = 8.0  # seconds
_TOO_LARGE = "The request is too large: images may have {} MB in total, anything else {} MB."
_TOO_SLOW = "The request came too slowly: the connection is closed. Send it again, or a smaller image."


class BodyLimit:
    """Refuses requests that are too large, too slow, or too many together, before they are read as far as they tell."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lane = asyncio.Semaphore(_LANE)
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"] in UPLOADS
        limit = MAX_UPLOAD if is_upload else MAX_JSON
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        chunked = "transfer-encoding" in headers
        expected = int(length) if length.isascii() and length.isdigit() else limit if chunked else 0
        if expected > limit:
            if "expect" not in headers:  # a client that waits for a go-ahead sends nothing
                await _discard(receive)
            await JSONResponse({"detail": too_large()}, 413, {"Connection": "close"})(scope, receive, send)
        elif not is_upload or not expected:
            await self._read(scope, receive, send, limit, in_lane=False)
        else:
            try:
                async with asyncio.timeout(_IN_LANE):
                    await self._lane.acquire()
            except TimeoutError:
                busy = {"detail": "Too many uploads at once: try again in a few seconds."}
                await JSONResponse(busy, 503, {"Retry-After": "5", "Connection": "close"})(scope, receive, send)
                return
            try:
                await self._read(scope, receive, send, limit, in_lane=True)
            finally:
                self._lane.release()

    async def _read(self, scope: Scope, receive: Receive, send: Send, limit: int, *, in_lane: bool) -> None:
        begin = time.monotonic()
        read, whole = 0, False

        async def counted() -> Message:
            nonlocal read, whole
            if whole:  # what is waited for now is that the client goes away
                return await receive()
            left = begin + _SILENCE + read / _SLOWEST - time.monotonic()
            try:
                async with asyncio.timeout(min(_SILENCE, max(left, 0.0))):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, _TOO_SLOW, {"Connection": "close"}) from None
            body = len(message.get("body", b""))
            read += body
            self._bytes += 0 if in_lane else body
            whole = not message.get("more_body", False)
            if read > limit:
                await _discard(receive)
                raise HTTPException(413, too_large(), {"Connection": "close"})
            if self._bytes > _JSON_UNDER_WAY and not in_lane:
                busy = "Too many requests at once: try again in a few seconds."
                raise HTTPException(503, busy, {"Retry-After": "5", "Connection": "close"})
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._bytes -= 0 if in_lane else read


async def _discard(receive: Receive) -> None:
    """Read on for a while and discard it: a client that is cut off while sending does not see the reason."""
    end = time.monotonic() + _PATIENCE
    try:
        while (left := end - time.monotonic()) > 0:
            message = await asyncio.wait_for(receive(), left)
            if message["type"] != "http.request" or not message.get("more_body", False):
                return
    except TimeoutError:
        return


def too_large() -> str:
    """The message for a request that is too large."""
    return _TOO_LARGE.format(MAX_UPLOAD >> 20, MAX_JSON >> 20)
