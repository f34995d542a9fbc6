"""`birder serve`: a collection in the browser, and its HTTP interface."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from birder.cli.output import note

_FIRST_PORT = 8000
_TRIES = 50


def serve(
    collection: Annotated[Path, typer.Argument(metavar="DIR", help="The collection.")],
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; beyond this machine (0.0.0.0) a --token is demanded.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Without it 8000, or the next one that is free."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="BIRDER_TOKEN", help="What whoever asks must know; at least 16 characters."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a collection: the page to look at it, search and label it, and the HTTP interface at /docs.

    Ctrl-C ends it.

    Example: birder serve photos.birder --open
    """
    from birder.errors import ConfigError
    from birder.server.security import LOOPBACK_NAMES, is_loopback

    if not is_loopback(host) and token is None:
        raise ConfigError(
            f"At {host} others can reach the collection: demand a token with --token, or leave out --host to serve "
            "this machine alone."
        )
    if token is not None and (len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token):
        raise ConfigError("A token needs at least 16 ASCII characters and no space: longer ones are harder to guess.")

    from birder.server.app import create_app

    anywhere = host in ("0.0.0.0", "::", "")
    app = create_app(collection, token=token, hosts=() if anywhere else {*LOOPBACK_NAMES, host})
    with contextlib.closing(_listen(host, port)) as listening:
        name = f"[{host}]" if ":" in host else host
        shown = socket.gethostname() if anywhere else name
        address = f"http://{shown}:{listening.getsockname()[1]}/"
        rows = app.state.site.catalogue.current()
        note(f"{collection}: {len(rows):,} photographs. Open {address}{f'?token={token}' if token else ''}")
        note("Ctrl-C ends it.")
        end_streams = app.state.site.events.stop
        _run(app, end_streams, listening, address + (f"?token={token}" if token else "") if open_page else None)


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens at the port, or at the first free one from 8000 on."""
    from birder.errors import ConfigError

    try:
        family = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    except OSError as error:
        raise ConfigError(f"There is no address {host}: {error.strerror}. Use an address of this machine.") from None
    for each in [port] if port is not None else range(_FIRST_PORT, _FIRST_PORT + _TRIES):
        listening = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, each))
            # Listening here already: two servers started at once would otherwise both take the port.
            listening.listen(2048)
        except OSError as error:
            listening.close()
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            raise ConfigError(
                f"Cannot listen at {host}:{each}: {error.strerror}. Name another with --port, or leave it out."
            ) from None
        return listening
    raise ConfigError(f"The ports {_FIRST_PORT} to {_FIRST_PORT + _TRIES - 1} are all taken: name one with --port.")


def _run(app: object, end_streams: Callable[[], None], listening: socket.socket, open_address: str | None) -> None:
    import threading
    import webbrowser

    import uvicorn

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 << 10,
    )

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            end_streams()  # which would otherwise be waited for
            super().handle_exit(sig, frame)

    server = Server(config)
    if open_address is not None:
        # The socket listens already: the browser waits for the answer.
        threading.Thread(target=webbrowser.open, args=(open_address,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once it has ended
        server.run(sockets=[listening])
    note("Stopped.")
    # Work in threads cannot be ended, and Python would wait for it. What writes is safe to be cut short.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
