"""The page's own files and those of the interface's page, and nothing else of this machine's disk."""

from __future__ import annotations

import hashlib
import os
from importlib import resources
from pathlib import Path, PurePath

from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.staticfiles import NotModifiedResponse, PathLike, StaticFiles
from starlette.types import Scope

PAGE = Path(str(resources.files("birder"))) / "web"
INTERFACE = Path(str(resources.files("birder.server"))) / "interface"
# Named here, as the system's own table may say anything of .js (on Windows, the registry does).
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class PageFiles(StaticFiles):
    """The files below a folder that a page is made of; hidden files and links out of the folder are not served."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        parts = PurePath(path).parts
        if any(part.startswith(".") for part in parts) or PurePath(path).suffix not in _TYPES:
            return "", None
        return super().lookup_path(path)

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        # By content: an installer may give all files of all versions the same time. Asked for again each time, so that
        # an update of Birder shows at once; the answer then is short.
        tag = f'"{hashlib.sha256(Path(full_path).read_bytes()).hexdigest()[:32]}"'
        response = FileResponse(
            full_path,
            status_code,
            {"ETag": tag, "Cache-Control": "no-cache"},
            media_type=_TYPES[PurePath(full_path).suffix],
            stat_result=stat_result,
        )
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response


def add_page(app: FastAPI) -> None:
    """Serve the page at /, its files below /page, and the page that shows the HTTP interface at /docs."""
    page, interface = PageFiles(directory=PAGE), PageFiles(directory=INTERFACE)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return await page.get_response("index.html", request.scope)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon(request: Request) -> Response:
        return await page.get_response("icon.svg", request.scope)

    @app.get("/docs", include_in_schema=False)
    async def description(request: Request) -> Response:
        return await interface.get_response("index.html", request.scope)

    app.mount("/page", page)
    app.mount("/docs", interface)
