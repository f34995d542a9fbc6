"""The page's own files, and the page that shows the interface: nothing else of this machine's disk."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

router = APIRouter(include_in_schema=False)

PAGE = Path(str(resources.files("birder"))) / "web"
DESCRIPTION = Path(str(resources.files("birder.server"))) / "description"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


@router.get("/")
def page(request: Request) -> Response:
    """The page."""
    return file_of(PAGE, "index.html", request)


@router.get("/favicon.ico")
def icon(request: Request) -> Response:
    """The page's icon, where browsers look for it."""
    return file_of(PAGE, "icon.svg", request)


@router.get("/page/{name:path}")
def page_file(name: str, request: Request) -> Response:
    """One of the page's files."""
    return file_of(PAGE, name, request)


@router.get("/docs")
def description(request: Request) -> Response:
    """The page that shows the interface."""
    return file_of(DESCRIPTION, "index.html", request)


@router.get("/docs/{name:path}")
def description_file(name: str, request: Request) -> Response:
    """One of its files."""
    return file_of(DESCRIPTION, name, request)


def file_of(folder: Path, name: str, request: Request) -> Response:
    """A file below a folder: no link, no hidden one, of a kind that pages are made of; else 404."""
    path = _below(folder, name)
    if path is None:
        raise HTTPException(404, "There is no such file.")
    data = path.read_bytes()
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    # Asked for again each time, so that an update of Birder shows at once; the answer then is short.
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=_TYPES[path.suffix])


def _below(folder: Path, name: str) -> Path | None:
    """The file of a relative name; walked down entry by entry, so that no name leads out."""
    path = folder
    for part in name.split("/"):
        try:
            # What is compared are the names that the folder has, not what the system makes of the one asked for.
            found = next((entry for entry in path.iterdir() if entry.name == part), None)
        except OSError:
            return None
        if found is None or part.startswith(".") or found.is_symlink():
            return None
        path = found
    return path if path.is_file() and path.suffix in _TYPES else None
