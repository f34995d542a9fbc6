"""The server's connections: how many may be open, and how long a client may take to send a request.

This stands before everything else, the token's check included. Idle connections are closed after some seconds, or as
soon as others need the room. A request that has come in whole may be answered for as long as it takes: a stream of
events is never cut here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
import os
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from birder.errors import ConfigError
from birder.server.security import network_of

FIRST_PORT = 8000
_TRIES = 50
_PATIENCE = 10.0
"""Seconds within which a client must have sent the head of a request."""
_LONGEST_HEAD = 256 << 10
"""Bytes of a request's address and headers; a filter of 10,000 characters may be 120,000 bytes in an address."""
_LAST_BYTES = 0.5
"""Seconds for which answers under way go on once the server is told to end; a paused video would never end."""
_DRAIN = 2.0
"""Seconds for which what a refused client still sends is read and discarded, so that it receives the answer."""
_MOST = 1000
_MOST_OF_ONE = 256  # a page of a browser has six
_CLOSING_AT_ONCE = 32

Address = tuple[Any, ...]


class Listener(socket.socket):
    """A listening socket that bounds the connections it accepts, all together and from one address.

    Where there are too many, the oldest one is closed that has no request being answered: of the same address, or of
    any. Where all have one, the new connection is closed.

    Parameters
    ----------
    family
        socket.AF_INET or socket.AF_INET6.
    most, most_of_one
        How many connections may be open, and how many from one address (with IPv6, from one /64).
    """

    def __init__(self, family: int, most: int, most_of_one: int) -> None:
        # asyncio sets TCP_NODELAY only on sockets that say they are TCP; without it every answer waits 40 ms.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._most, self._most_of_one = most, most_of_one
        self._open: dict[Address, socket.socket] = {}
        self._networks: dict[Address, str] = {}
        self._protocols: dict[Address, PatientProtocol] = {}
        self._closing: set[Address] = set()

    def accept(self) -> tuple[socket.socket, Address]:
        """Accept a connection; BlockingIOError or ConnectionAbortedError, after which asyncio tries again, if none."""
        for address in [address for address, each in self._open.items() if each.fileno() == -1]:
            del self._open[address], self._networks[address]
            self._closing.discard(address)
            self._protocols.pop(address, None)
        if len(self._closing) >= _CLOSING_AT_ONCE:
            raise BlockingIOError  # they are closed, and their descriptors free, once the event loop goes round
        try:
            connection, address = super().accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and self._close_one(list(self._open)):
                raise BlockingIOError from error
            raise
        network = network_of(str(address[0]))
        same = [each for each, of in self._networks.items() if of == network]
        if not (len(same) - len(self._closing.intersection(same)) < self._most_of_one or self._close_one(same)) or not (
            len(self._open) - len(self._closing) < self._most or self._close_one(list(self._open))
        ):
            connection.close()
            raise ConnectionAbortedError
        self._open[address], self._networks[address] = connection, network
        return connection, address

    def _close_one(self, addresses: list[Address]) -> bool:
        for address in addresses:
            protocol = self._protocols.get(address)
            if address not in self._closing and (protocol is None or not protocol.answering):
                with contextlib.suppress(OSError):
                    self._open[address].shutdown(socket.SHUT_RDWR)
                self._closing.add(address)
                return True
        return False

    def cut(self) -> None:
        """Close the connections on which an answer has begun and not ended."""
        for protocol in self._protocols.values():
            if protocol.conn.our_state is h11.SEND_BODY:
                protocol.transport.abort()

    def speaks(self, address: Address, protocol: PatientProtocol) -> None:
        """Note the protocol that serves a client; until then, with TLS, the handshake is under way."""
        self._protocols[address] = protocol


class PatientProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, with a limit on how long a client may take to send the head of a request."""

    def __init__(self, *args: Any, listener: Listener, **options: Any) -> None:
        super().__init__(*args, **options)
        self._listener = listener
        self._timer: asyncio.TimerHandle | None = None
        self._refused = False

    @property
    def answering(self) -> bool:
        """Whether a request is being answered; its body may still be coming."""
        return self.conn.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._listener.speaks(transport.get_extra_info("peername"), self)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._refused:
            return
        if self.answering:
            self._stop_waiting()
        else:
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not an HTTP request or has too long a head, in the form of every other error.

        Closing at once would reset the connection while the client is still sending, and the answer would be lost.
        """
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # the answer to the request before has begun
            return
        longest = f"{_LONGEST_HEAD >> 10} KiB"
        detail = f"Invalid HTTP request, or its address and headers have more than {longest}: shorten the filter."
        body = json.dumps({"detail": detail}).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self._refused = True
        self._stop_waiting()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_DRAIN, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(_PATIENCE, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.answering:
            self.transport.abort()


def listen(host: str, port: int | None) -> Listener:
    """A socket that listens at a port, or at the first free one from 8000 on.

    Raises
    ------
    ConfigError
        The address is not one of this machine, or the port is taken.
    """
    try:
        family = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    except OSError as error:
        raise ConfigError(f"Unknown address {host}: {error.strerror}. Use an address of this machine.") from None
    most = _room()
    for each in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + _TRIES):
        listening = Listener(family, most, min(_MOST_OF_ONE, most // 2))
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
                f"Cannot listen on {host}:{each}: {error.strerror}. Name another with --port, or leave it out."
            ) from None
        return listening
    raise ConfigError(f"The ports {FIRST_PORT} to {FIRST_PORT + _TRIES - 1} are all in use: name one with --port.")


def _room() -> int:
    """How many connections may be open while descriptors remain for files."""
    if sys.platform == "win32":
        return _MOST
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 4 * _MOST:
        wanted = 4 * _MOST if hard == resource.RLIM_INFINITY else min(hard, 4 * _MOST)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return _MOST if soft == resource.RLIM_INFINITY else min(_MOST, soft // 2)


def check_certificate(cert: Path | None, key: Path | None) -> None:
    """Refuse (`ConfigError`) a certificate and key that cannot be used."""
    if cert is None or key is None:
        raise ConfigError("--tls-cert and --tls-key belong together: name both, or neither.")

    def no_passphrase() -> str:
        raise ConfigError(f"{key} has a passphrase. Remove it: openssl pkey -in {key} -out plain.pem")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, no_passphrase)
    except OSError as error:
        mismatch = "they are not a certificate and its key in PEM format"
        why = mismatch if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"{cert} and {key} cannot be used for TLS: {why}.") from error


class _Server(uvicorn.Server):
    """A server that ends connections which it would otherwise wait for."""

    def __init__(self, config: uvicorn.Config, listener: Listener, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._listener = listener
        self._end_streams = end_streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._end_streams()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(_LAST_BYTES, self._listener.cut)
        await super().shutdown(sockets)


def server_for(
    app: Any,
    listener: Listener,
    end_streams: Callable[[], None],
    cert: Path | None = None,
    key: Path | None = None,
) -> uvicorn.Server:
    """The server of an application; start it with `.run(sockets=[listener])`.

    Parameters
    ----------
    end_streams
        Called once it is told to end.
    cert, key
        For TLS.
    """
    return _Server(
        uvicorn.Config(
            app,
            http=functools.partial(PatientProtocol, listener=listener),  # type: ignore[arg-type]
            loop="asyncio",  # uvloop, where it is installed, would accept past the listener
            log_level="error",  # a line for everything that strangers send would fill the disk
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=_LONGEST_HEAD,
            ssl_certfile=cert,
            ssl_keyfile=key,
        ),
        listener,
        end_streams,
    )
