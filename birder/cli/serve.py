"""`birder serve`: a collection in the browser, and its HTTP interface."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birder.cli import options
from birder.cli.output import note
from birder.words import counted

if TYPE_CHECKING:
    import uvicorn

    from birder.server.limits.connections import Listener


def serve(
    collection: options.Collection,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; beyond this machine (0.0.0.0), --token is required.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, metavar="PORT", help="Port (default: 8000, or the next free one)."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", metavar="TOKEN", envvar="BIRDER_TOKEN", help="Secret that grants access; at least 16 characters."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", metavar="FILE", help="Encrypt: certificate and chain (PEM).", dir_okay=False),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", metavar="FILE", help="The key of --tls-cert (PEM, without a passphrase)."),
    ] = None,
    model: Annotated[str | None, options.model_option("labelled images name others")] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a collection: the page to look at it, search and label it, and the HTTP interface at /docs.

    Press Ctrl-C to stop. With --model, the file of a classifier, its classes name images on the page.

    For example:

    birder serve photos.birder --open

    birder serve photos.birder --model owls.safetensors
    """
    from birder.errors import ConfigError
    from birder.server.security import LOOPBACK_NAMES, check_token, is_loopback

    if not is_loopback(host) and token is None:
        raise ConfigError(
            f"At {host} others can reach the collection: require a token with --token, or leave out --host to serve "
            "only this machine."
        )
    if token is not None:
        check_token(token)

    from birder.extras import need

    need("serve", "birder serve")
    from birder.server.app import create_app
    from birder.server.limits.connections import check_certificate, listen, server_for

    if tls_cert is not None or tls_key is not None:
        check_certificate(tls_cert, tls_key)
    anywhere = host in ("0.0.0.0", "::", "")
    app = create_app(collection, token=token, hosts=() if anywhere else {*LOOPBACK_NAMES, host}, model=model)
    with contextlib.closing(listen(host, port)) as listener:
        name = f"[{host}]" if ":" in host else host
        shown = socket.gethostname() if anywhere else name
        scheme = "http" if tls_cert is None else "https"
        address = f"{scheme}://{shown}:{listener.getsockname()[1]}/{f'?token={token}' if token else ''}"
        rows = app.state.site.catalogue.current()
        note(f"{collection}: {counted(len(rows), 'image')}. Open {address}")
        if not is_loopback(host) and tls_cert is None:
            note(
                "Warning: the connection is not encrypted. Others on the network can read the token and the images: "
                "use --tls-cert and --tls-key, or an SSH tunnel."
            )
        note("Press Ctrl-C to stop.")
        server = server_for(app, listener, app.state.site.events.stop, tls_cert, tls_key)
        _run(server, listener, address if open_page else None)


def _run(server: uvicorn.Server, listener: Listener, open_address: str | None) -> None:
    import threading
    import webbrowser

    if open_address is not None:
        # The socket listens already: the browser waits for the answer.
        threading.Thread(target=webbrowser.open, args=(open_address,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once it has ended
        server.run(sockets=[listener])
    note("Stopped.")
    # Work in threads cannot be ended, and Python would wait for it. What writes is safe to be cut short.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
