"""Connections that ask nothing, or ask slowly: what they cost the others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from birder.server.limits import bodies, connections
from birder.server.limits.bodies import BodyLimit
from birder.server.limits.connections import Listener, listen, server_for
from tests.factory import collection_of_images, jpeg
from tests.server.live import running, serving


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("connections")
    collection_of_images(folder, 8)
    return folder / "c.birder"


@contextlib.contextmanager
def slow_clients(port: int, count: int, say: bytes = b"GET / HTTP/1.1\r\nHost: loc") -> Iterator[list[socket.socket]]:
    """Clients that begin a request and do not end it."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            with contextlib.suppress(OSError):  # it may be closed already, in favour of a later one
                client.sendall(say)
            clients.append(client)
        yield clients


def ended(client: socket.socket) -> bool:
    """Whether the server has closed a connection."""
    client.settimeout(0.01)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.mark.parametrize(
    "request_",
    [b"GET /api/v1/images?where=" + b"x" * 3_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"no HTTP\r\n\r\n"],
    ids=["address of 3 MB", "not HTTP"],
)
def test_unreadable_request_is_refused_in_the_form_of_other_errors(collection: Path, request_: bytes) -> None:
    with serving(collection) as client:
        address = (client.base_url.host, client.base_url.port or 80)
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(request_)  # all of it is taken: a reset would lose the answer
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ") and b"content-type: application/json" in head.lower()
        assert "more than 256 KiB" in json.loads(body)["detail"]
        assert client.get("collection").status_code == 200


def test_small_answers_are_sent_at_once() -> None:
    listener = listen("127.0.0.1", None)
    accepted: list[int] = []

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        if scope["type"] == "http":
            (connection,) = listener._open.values()
            accepted.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]
            await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]

    with running(server_for(app, listener, lambda: None), listener):
        assert httpx.get(f"http://127.0.0.1:{listener.getsockname()[1]}/").status_code == 204
    assert len(accepted) == 1 and accepted[0] != 0


@pytest.mark.slow
def test_a_request_without_its_head_is_closed_and_one_being_answered_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "_PATIENCE", 0.3)
    monkeypatch.setattr(bodies, "_SILENCE", 0.2)
    listener = listen("127.0.0.1", None)

    async def events() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b":\n\n"
            await asyncio.sleep(0.15)
        yield b"data: end\n\n"

    # Meanwhile it waits for the client to disconnect, which is not a body that fails to arrive.
    app = BodyLimit(Starlette(routes=[Route("/", lambda _: StreamingResponse(events()))]))
    with running(server_for(app, listener, lambda: None), listener):
        port = listener.getsockname()[1]
        with slow_clients(port, 3) as clients, slow_clients(port, 1, b"") as silent:
            begin = time.monotonic()
            assert "data: end" in httpx.get(f"http://127.0.0.1:{port}/").text
            assert time.monotonic() - begin > 0.9
            assert all(ended(each) for each in [*clients, *silent])


@pytest.mark.slow
def test_connections_of_an_address_are_limited_and_idle_ones_are_closed_first() -> None:
    listener = Listener(socket.AF_INET, most=40, most_of_one=20)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    port = listener.getsockname()[1]
    begun: list[object] = []

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        if scope["type"] == "http":
            begun.append(scope["path"])
            await asyncio.sleep(2.0 if scope["path"] == "/slow" else 0)
            await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]
            await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]

    with running(server_for(app, listener, lambda: None), listener), contextlib.ExitStack() as stack:
        request = b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        busy = stack.enter_context(slow_clients(port, 5, request))
        while len(begun) < 5:
            time.sleep(0.01)
        idle = stack.enter_context(slow_clients(port, 60))
        for _ in range(5):
            assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 204
        assert sum(not ended(each) for each in idle) <= 15
        for each in busy:
            each.settimeout(10)
            assert each.recv(100).startswith(b"HTTP/1.1 204")


@pytest.mark.slow
def test_1100_slow_connections_with_1024_descriptors_leave_it_reachable_and_its_log_short(collection: Path) -> None:
    room = resource.getrlimit(resource.RLIMIT_NOFILE)
    if room[1] < 2000:
        pytest.skip("this test needs 1,500 descriptors of its own")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(room[0], 2000), room[1]))

    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))

    command = [sys.executable, "-m", "birder", "serve", str(collection)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=few_descriptors) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http\S+", process.stderr.readline())
            assert found
            address = httpx.URL(found[0])
            assert httpx.get(address.join("/api/v1/collection"), timeout=30).status_code == 200
            with slow_clients(address.port or 0, 1100):
                worst = 0.0
                for _ in range(20):
                    begin = time.monotonic()
                    assert httpx.get(address.join("/api/v1/photos"), timeout=10).status_code == 200
                    worst = max(worst, time.monotonic() - begin)
                assert worst < 5
        finally:
            process.terminate()
            _, said = process.communicate(timeout=20)
    assert len(said) < 2_000, said[:3000]


def half_sent(port: int, count: int, address: str) -> contextlib.AbstractContextManager[list[socket.socket]]:
    head = f"POST /api/v1/{address} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    return slow_clients(port, count, head.encode() + b"Content-Length: 60000000\r\n\r\n--x\r\n")


@pytest.mark.slow
def test_half_sent_uploads_hold_up_no_label_and_make_the_next_upload_wait(
    collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_SILENCE", 2.5)
    with serving(collection) as client, contextlib.ExitStack() as stack:
        id_ = client.get("ids").json()["ids"][0]
        client.post("search", json={"ids": [id_], "k": 1})  # the first one imports what searching needs
        clients = stack.enter_context(half_sent(client.base_url.port or 0, 16, "embed"))
        begin = time.monotonic()
        answer = client.post("search", json={"ids": [id_], "k": 1})
        assert answer.status_code == 200 and time.monotonic() - begin < 2
        answer = client.post("embed", files={"file": ("a.jpg", jpeg())})
        assert answer.status_code == 400 and "birder fetch" in answer.json()["detail"]  # it had its turn
        for each in clients:
            each.settimeout(10)
            assert each.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.slow
def test_a_body_that_arrives_too_slowly_is_refused(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_SILENCE", 0.8)
    with serving(collection) as client, socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as slow:
        slow.sendall(b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        slow.sendall(b"Content-Length: 1000\r\n\r\n")
        slow.settimeout(0.1)
        begin = time.monotonic()
        answer = b""
        while not answer and time.monotonic() - begin < 10:
            slow.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                answer = slow.recv(100)
        assert answer.startswith(b"HTTP/1.1 408") and time.monotonic() - begin < 5
