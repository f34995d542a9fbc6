"""A real server in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from birder.server.app import create_app
from birder.server.limits.connections import listen, server_for


@contextlib.contextmanager
def serving(path: Path, **options: Any) -> Iterator[httpx.Client]:
    """A client of a server on a free port of this machine, with the limits on connections of `birder serve`."""
    app = create_app(path, **options)
    listening = listen("127.0.0.1", 0)
    server = server_for(app, listening, app.state.site.events.stop)
    port = listening.getsockname()[1]
    with (
        running(server, listening),
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1/", timeout=60, verify=False) as client,
    ):
        try:
            yield client
        finally:
            app.state.site.events.stop()  # as birder serve does at Ctrl-C


@contextlib.contextmanager
def address_of(path: Path, **options: Any) -> Iterator[str]:
    """The address of the page of such a server."""
    with serving(path, **options) as client:
        yield str(client.base_url).removesuffix("/api/v1/")


@contextlib.contextmanager
def running(server: uvicorn.Server, listening: socket.socket) -> Iterator[None]:
    """A server in a thread, for as long as it is needed."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive(), "the server did not end"


def awaited(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end in a thread: a browser's loop may be the main thread's."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()
