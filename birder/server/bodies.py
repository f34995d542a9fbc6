"""How much a request may bring: counted while it is read, and bounded for all requests together."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UPLOAD = 64 << 20
"""Bytes of a request with pictures."""
MAX_JSON = 8 << 20
"""Bytes of any other request: room for 100,000 ids."""
UPLOADS = ("/api/v1/embed", "/api/v1/predict", "/api/v1/search/image")

_UNDER_WAY = 1 << 30  # bytes that may be on their way or waiting at once
_PATIENCE = 8.0  # seconds
_TOO_LARGE = "The request is too large: pictures may have {} MB together, anything else {} MB."


class BodyLimit:
    """Refuses requests that are too large, or too many together, before they are read as far as they tell it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = MAX_UPLOAD if scope["path"] in UPLOADS else MAX_JSON
        headers = Headers(scope=scope)
        told = headers.get("content-length", "")
        chunked = "transfer-encoding" in headers
        expected = int(told) if told.isascii() and told.isdigit() else limit if chunked else 0
        if expected > limit:
            if "expect" not in headers:  # who waits for a go-ahead sends nothing
                await _discard(receive)
            await JSONResponse({"detail": too_large()}, 413, {"Connection": "close"})(scope, receive, send)
            return
        if expected and self._bytes + expected > _UNDER_WAY:
            busy = {"detail": "Too much is being uploaded: try again in a few seconds."}
            await JSONResponse(busy, 503, {"Retry-After": "5", "Connection": "close"})(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                await _discard(receive)
                raise HTTPException(413, too_large(), {"Connection": "close"})
            return message

        self._bytes += expected
        try:
            await self._app(scope, counted, send)
        finally:
            self._bytes -= expected


async def _discard(receive: Receive) -> None:
    """Read on for a while and keep nothing: who is cut off while sending does not get to see why."""
    end = time.monotonic() + _PATIENCE
    try:
        while (left := end - time.monotonic()) > 0:
            message = await asyncio.wait_for(receive(), left)
            if message["type"] != "http.request" or not message.get("more_body", False):
                return
    except TimeoutError:
        return


def too_large() -> str:
    """What is told to whoever sends too much."""
    return _TOO_LARGE.format(MAX_UPLOAD >> 20, MAX_JSON >> 20)
