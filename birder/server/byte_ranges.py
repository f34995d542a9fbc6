"""A file, or the part of it that a request's `Range` names (RFC 9110, section 14), as an answer.

A request for several ranges is answered with the whole file, as the RFC allows. One block at a time is in memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import BinaryIO

from fastapi import HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

_RANGE = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE | re.ASCII)
_DIGITS = 19  # of a number that is larger than any file
_BLOCK = 256 << 10


def byte_range(header: str, size: int) -> range | None:
    """The bytes that a `Range` header names.

    Parameters
    ----------
    header
        Its value.
    size
        The bytes that there are.

    Returns
    -------
    Their positions; empty if there are none such, None if the header is to be ignored: another unit, several ranges, a
    range that ends before it begins, or no range at all.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None:
        return None
    first, last = found.groups()
    if first and last and _number(last) < _number(first):
        return None
    if first:
        return range(min(_number(first), size), min(_number(last) + 1, size) if last else size)
    return range(max(size - _number(last), 0), size) if last else None


def _number(digits: str) -> int:
    return int(digits.lstrip("0")[:_DIGITS] or "0")


class FilePart(Response):
    """A file, or what the request's `Range` names of it; closes the file.

    Parameters
    ----------
    request
        Its `Range` and `If-Range` count if its method is GET.
    file
        Open for reading bytes.
    size
        Its size in bytes.
    media_type
        What it is.
    headers
        With `ETag` and `Last-Modified`, which `If-Range` is compared with.

    Raises
    ------
    HTTPException
        416: the file has none of the bytes that are asked for.
    """

    def __init__(
        self, request: Request, file: BinaryIO, size: int, media_type: str, headers: Mapping[str, str]
    ) -> None:
        asked = request.headers.get("range")
        unless_changed = request.headers.get("if-range")
        is_same = unless_changed is None or unless_changed in (headers["ETag"], headers["Last-Modified"])
        part = byte_range(asked, size) if asked is not None and is_same and request.method == "GET" else None
        if part is not None and not part:
            file.close()
            detail = f"The file has {size:,} bytes, and none of those that were asked for."
            raise HTTPException(416, detail, {"Content-Range": f"bytes */{size}"})
        sent = range(size) if part is None else part
        own = {"Accept-Ranges": "bytes", "Content-Length": str(len(sent))}
        if part is not None:
            own["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
        super().__init__(None, 200 if part is None else 206, {**headers, **own}, media_type)
        self._request = request
        self._file = file
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it block by block; a file that has become shorter ends the connection, lest it be taken for whole."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            left = 0 if scope["method"] == "HEAD" else len(self._sent)
            await run_in_threadpool(self._file.seek, self._sent.start)
            while left:
                if await self._request.is_disconnected():
                    return
                try:
                    block = await run_in_threadpool(self._file.read, min(left, _BLOCK))
                except OSError:  # such as of a card that was pulled out
                    return
                if not block:
                    return
                left -= len(block)
                await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._file.close()
