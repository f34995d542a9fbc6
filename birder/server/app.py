"""The application: `create_app` assembles it, for `birder serve` and for any ASGI server."""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.routing import compile_path

from birder.errors import BirderError, UnknownNameError
from birder.server.limits.bodies import BodyLimit
from birder.server.page_files import add_page
from birder.server.routes import ROUTERS
from birder.server.security import LOOPBACK_NAMES, Guard, check_token
from birder.server.site import Site
from birder.version import __version__

_PAGE_FIRST = 2.0  # seconds in which nothing else takes the processor from the first page
_LEVEL = 4  # of zlib: a list of 200 images takes half a millisecond
_INCOMPRESSIBLE = (*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/octet-stream")


def create_app(
    collection_dir: str | Path,
    *,
    token: str | None = None,
    hosts: Collection[str] = LOOPBACK_NAMES,
    model: str | Path | None = None,
) -> FastAPI:
    """Make the application that serves a collection: the page at /, the interface under /api/v1, its page at /docs.

    Parameters
    ----------
    collection_dir
        The collection's folder.
    token
        What requests must present; None accepts all requests.
    hosts
        Names by which the server may be called (the `Host` header); any if empty.
    model
        The file of a classifier that names images, in place of the labelled ones.

    Returns
    -------
    An ASGI application.

    Raises
    ------
    CollectionError
        The folder is not a collection.
    ConfigError
        The token can be guessed.
    WeightsError, WrongModelError
        The model is not the file of a classifier, or not of one for the collection's embeddings.
    ValueError
        `hosts` is empty and there is no token: then any page in a browser of this machine could ask.
    """
    if not hosts and not token:
        raise ValueError("A server that answers to any host name needs a token.")
    if token is not None:
        check_token(token)
    site = Site(Path(collection_dir), model)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=_warm_up, args=(site,), daemon=True).start()
        yield
        site.stop()

    app = FastAPI(
        title="Birder",
        version=__version__,
        description="A collection of embedded images: lists, search, labels, a map. See docs/http.md.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.site = site
    for router in ROUTERS:
        app.include_router(router, prefix="/api/v1")
    add_page(app)
    app.add_exception_handler(BirderError, _birder_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _defect)
    app.add_middleware(GZipMiddleware, compresslevel=_LEVEL, exclude_content_types=_INCOMPRESSIBLE)
    app.add_middleware(BodyLimit)
    app.add_middleware(Guard, token=token, hosts=hosts)
    return app


def _warm_up(site: Site) -> None:
    """Read the map; once the page shows, prepare finding images by ids, and import what the first search needs."""
    with contextlib.suppress(BirderError):  # who asks for the map is told why
        site.map.current()
    time.sleep(_PAGE_FIRST)
    site.catalogue.current().position("")
    importlib.import_module("birder.collection.search")


def _problem(status: int, detail: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers=headers)


async def _birder_error(_: Request, error: Exception) -> JSONResponse:
    return _problem(404 if isinstance(error, UnknownNameError) else 400, str(error))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # One route knows its own method alone; another may have the same address.
        described = request.app.openapi()["paths"]
        methods = {m for path, each in described.items() if compile_path(path)[0].match(request.url.path) for m in each}
        headers["Allow"] = ", ".join(sorted(method.upper() for method in methods)) or headers.get("Allow", "GET")
    elif detail == "Not Found":
        detail = f"There is nothing at {request.url.path[:200]}. /docs lists the addresses that exist."
    return _problem(error.status_code, detail, headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    parts = [f"{'.'.join(str(each) for each in one['loc'][1:]) or 'the body'}: {one['msg']}" for one in error.errors()]
    return _problem(422, f"Invalid request: {'; '.join(parts[:5])}. /docs describes it.")


async def _defect(_: Request, error: Exception) -> JSONResponse:
    return _problem(
        500, f"Internal error ({type(error).__name__}): please report it. The terminal of birder serve shows more."
    )
