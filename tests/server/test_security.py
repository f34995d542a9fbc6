from __future__ import annotations

import http.client
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from birder.errors import ConfigError
from birder.server import page_files
from birder.server.app import create_app
from birder.server.security import COOKIE, Guesses, check_token
from tests.factory import collection_of_images
from tests.server.live import serving

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("security")
    collection_of_images(folder, 8)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with serving(folder / "c.birder") as client:
        yield client


@pytest.fixture(scope="module")
def locked(folder: Path) -> Iterator[httpx.Client]:
    with serving(folder / "c.birder", token=TOKEN) as client:
        yield client


def raw(client: httpx.Client, target: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    """Ask for exactly this target, which httpx would tidy."""
    connection = http.client.HTTPConnection("127.0.0.1", client.base_url.port or 0, timeout=20)
    connection.putrequest(method, target, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@pytest.mark.parametrize(
    "address", ["/", "/docs", "/page/index.html", "/api/v1/collection", "/api/v1/photos/x", "/nothing"]
)
def test_every_response_has_the_security_headers(client: httpx.Client, address: str) -> None:
    headers = client.get(client.base_url.join(address)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


def test_the_pages_load_nothing_from_elsewhere_and_run_no_script_within(client: httpx.Client) -> None:
    for address in ("/", "/docs"):
        html = client.get(client.base_url.join(address)).text
        assert "//" not in html.replace("http://www.w3.org/", "").replace("<!--", "")
        assert "<script>" not in html and "onclick" not in html and "<style" not in html and " style=" not in html


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "",
        "a@127.0.0.1",
        "[",
        "192.168.1.2",
    ],
)
def test_another_hosts_name_is_refused(client: httpx.Client, host: str) -> None:
    status, body = raw(client, "/api/v1/photos", Host=host)
    assert status == (403 if host not in ("a@127.0.0.1",) else status) and status in (400, 403, 200)
    if host != "a@127.0.0.1":
        assert b"name" in body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_names_of_this_machine_are_accepted_as_host(client: httpx.Client, host: str) -> None:
    assert raw(client, "/api/v1/collection", Host=f"{host}:{client.base_url.port}")[0] == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "http://["]
)
def test_requests_that_write_are_refused_from_another_page(client: httpx.Client, origin: str) -> None:
    for address in ("labels", "labels/undo", "map", "search", "embed"):
        assert client.post(address, headers={"Origin": origin}, json={}).status_code == 403
    assert client.get("labels/history").json()["acts"] == []


def test_our_own_page_may_write_and_other_sites_may_not_even_read(client: httpx.Client) -> None:
    own = f"http://127.0.0.1:{client.base_url.port}"
    assert client.post("search", headers={"Origin": own}, json={"where": "night", "k": 1}).status_code == 200
    for site in ("cross-site", "same-site"):
        assert client.get("photos", headers={"Sec-Fetch-Site": site}).status_code == 403
    assert client.get("photos", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_without_the_token_nothing_is_served(locked: httpx.Client) -> None:
    wrong = {"Authorization": "Bearer correct-horse-batterx"}
    for address in ("/", "/docs", "/page/index.html", "/api/v1/collection", "/api/v1/openapi.json", "/nothing"):
        url = locked.base_url.join(address)
        for answer in (
            locked.get(url),
            locked.get(url, headers=wrong),
            locked.get(url, headers={"Authorization": f"Basic {TOKEN}"}),
            locked.get(url, headers={"Cookie": "birder=nonsense"}),
            locked.get(url, headers={"Authorization": "Bearer é".encode()}),  # type: ignore[arg-type]
            locked.get(url, params={"token": "nonsense"}),
        ):
            assert answer.status_code in (401, 429)  # too many guesses
            assert "owl" not in answer.text and answer.headers["content-type"] == "application/json"
    assert locked.post("labels", json={"ids": ["a"], "value": "x"}).status_code == 401
    assert locked.get("collection", params={"token": TOKEN}).status_code == 401  # in the page's address alone


def test_the_token_is_accepted_in_the_header_or_the_pages_address(folder: Path) -> None:
    with serving(folder / "c.birder", token=TOKEN) as locked:
        _open_with_token(locked)


def _open_with_token(locked: httpx.Client) -> None:
    assert locked.get("collection", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert locked.get("collection", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
    url = locked.base_url.join("/")
    with httpx.Client() as browser:
        answer = browser.get(url, params={"token": TOKEN, "view": "map"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/?view=map")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
        assert browser.get(locked.base_url.join("collection")).status_code == 200
        assert browser.get(url).status_code == 200


def test_any_host_name_is_accepted_only_with_a_token(folder: Path) -> None:
    with pytest.raises(ValueError, match="token"):
        create_app(folder / "c.birder", hosts=())
    with serving(folder / "c.birder", token=TOKEN, hosts=()) as client:
        headers = {"Host": "field-station.local:8000", "Authorization": f"Bearer {TOKEN}"}
        assert client.get("collection", headers=headers).status_code == 200
        headers["Origin"] = "http://field-station.local:8000"
        assert client.post("search", headers=headers, json={"where": "night"}).status_code == 200
        headers["Origin"] = "http://evil.example"
        assert client.post("search", headers=headers, json={"where": "night"}).status_code == 403


SECRET = Path("/etc/passwd").read_bytes()[:20] if Path("/etc/passwd").exists() else b"root:"


@pytest.mark.parametrize(
    "target",
    [
        "/page/../app.py",
        "/page/..%2fapp.py",
        "/page/%2e%2e/app.py",
        "/page/%2e%2e%2fapp.py",
        "/page/..%5capp.py",
        "/page/..%252fapp.py",
        "/page//etc/passwd",
        "/page/%2fetc%2fpasswd",
        "/page//../../../../../../../etc/passwd",
        "/page/....//app.py",
        "/page/index.html/../../app.py",
        "/page/index.html%00.js",
        "/page/.",
        "/page/..",
        "/page/",
        "/page",
        "/docs/../app.py",
        "/docs/..%2fapp.py",
        "/api/v1/photos/..%2f..%2fcollection",
        "/api/v1/photos/%2e%2e/thumbnail",
        "/api/v1/photos/..%2f..%2f..%2fetc%2fpasswd/image",
        "/api/v1/photos/file%3A%2F%2F%2Fetc%2Fpasswd/image",
        "/api/v1/photos/%00/image",
        "/api/v1/columns/..%2f..%2fetc/values",
        "/api/v1/map/column/..%2fx",
        "//etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "http://evil.example/page/../app.py",
    ],
)
def test_no_address_leads_out_of_the_pages_files(client: httpx.Client, target: str) -> None:
    status, body = raw(client, target)
    assert status in (400, 403, 404), (status, body[:100])
    assert SECRET not in body and b"create_app" not in body


def test_links_and_hidden_files_in_the_pages_folder_are_not_served(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page"
    shutil.copytree(page_files.PAGE, page)
    secret = tmp_path / "secret.txt"
    secret.write_text("the password is owl")
    (page / "link.txt").symlink_to(secret)
    (page / "folder").symlink_to(tmp_path)
    (page / ".hidden.txt").write_text("the password is owl")
    (page / "notes.py").write_text("the password is owl")
    (page / "sub").mkdir()
    (page / "sub" / "fine.css").write_text("fine")
    monkeypatch.setattr(page_files, "PAGE", page)
    with serving(folder / "c.birder") as client:
        for name in ("link.txt", "folder/secret.txt", ".hidden.txt", "notes.py", "sub"):
            assert client.get(client.base_url.join(f"/page/{name}")).status_code == 404
        assert client.get(client.base_url.join("/page/sub/fine.css")).text == "fine"


def test_an_unchanged_page_file_is_not_sent_again(client: httpx.Client) -> None:
    url = client.base_url.join("/page/main.js")
    answer = client.get(url)
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["cache-control"] == "no-cache"
    assert client.get(url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_a_page_file_of_the_same_size_and_time_but_other_content_is_sent_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index.html").write_text("old")
    os.utime(tmp_path / "index.html", (0, 0))
    monkeypatch.setattr(page_files, "PAGE", tmp_path)
    with serving(folder / "c.birder") as client:
        url = client.base_url.join("/page/index.html")
        tag = client.get(url).headers["etag"]
        (tmp_path / "index.html").write_text("new")
        os.utime(tmp_path / "index.html", (0, 0))
        answer = client.get(url, headers={"If-None-Match": tag})
        assert (answer.status_code, answer.text) == (200, "new")


def test_requests_that_are_not_http_do_not_stop_the_server(client: httpx.Client) -> None:
    for nonsense in (
        b"\x00" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n",
        b"POST /api/v1/labels HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n{",
    ):
        with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as connection:
            connection.sendall(nonsense)
    assert client.get("collection").status_code == 200


@pytest.mark.parametrize(
    "query", ["&".join(f"a{n}=b" for n in range(30)), "a=b&" * 30, "%ff%00&token", "token=" + "x" * 9000]
)
def test_any_query_without_a_token_is_answered_with_401(locked: httpx.Client, query: str) -> None:
    status, body = raw(locked, f"/?{query}")
    assert status == (401 if "token=" not in query else status) and status in (401, 429) and b"token" in body


@pytest.mark.slow
def test_the_cookie_does_not_contain_the_token_is_signed_and_expires(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(folder / "c.birder", token=TOKEN) as client:
        begun = client.get(client.base_url.join("/"), params={"token": TOKEN})
        cookie = begun.cookies[COOKIE]
        assert TOKEN not in begun.headers["set-cookie"] and "Secure" not in begun.headers["set-cookie"]
        until, _, signature = cookie.partition(".")
        later = str(int(until) + 1)
        client.cookies.clear()
        for wrong in (TOKEN, f"{later}.{signature}", f"{until}.{signature[:-1]}", f"{until}.", ".", "x.y", "é.é"):
            assert client.get("collection", headers={"Cookie": f"{COOKIE}={wrong}".encode()}).status_code == 401  # type: ignore[arg-type]
        own = {"Cookie": f"{COOKIE}={cookie}"}
        assert client.get("collection", headers=own).status_code == 200
        monkeypatch.setattr("birder.server.security.time.time", lambda: float(int(until) + 1))
        assert client.get("collection", headers=own).status_code == 401
        monkeypatch.undo()
    with serving(folder / "c.birder", token=TOKEN) as again:  # a session outlives the server, with the same token
        assert again.get("collection", headers=own).status_code == 200
    with serving(folder / "c.birder", token=f"{TOKEN}-2") as other:
        assert other.get("collection", headers=own).status_code == 401


def test_guesses_are_slowed_and_sessions_are_not(folder: Path) -> None:
    with serving(folder / "c.birder", token=TOKEN) as client:
        right = {"Authorization": f"Bearer {TOKEN}"}
        session = client.get(client.base_url.join("/"), params={"token": TOKEN}).cookies[COOKIE]
        client.cookies.clear()
        for _ in range(20):
            assert client.get("collection").status_code == 401  # without any it is no guess
        for number in range(5):
            wrong = {"Authorization": f"Bearer {TOKEN}{number}"}
            assert client.get("collection", headers=wrong).status_code == 401
            assert client.get("collection", headers=right).status_code == (200 if number < 4 else 429)
        answer = client.get(client.base_url.join("/"), params={"token": TOKEN})
        assert answer.status_code == 429 and 0 < int(answer.headers["retry-after"]) <= 60
        assert client.get("collection", headers={"Cookie": f"{COOKIE}={session}"}).status_code == 200


def test_an_address_may_guess_again_after_a_minute_and_others_meanwhile() -> None:
    now = 0.0
    guesses = Guesses(lambda: now)
    for second in range(5):
        now = float(second)
        assert guesses.wait("2001:db8::1") == 0
        guesses.note("2001:db8::1")
    assert (guesses.wait("2001:db8::2"), guesses.wait("2001:db8:1::1"), guesses.wait("10.0.0.1")) == (56, 0, 0)
    now = 60.5
    assert guesses.wait("2001:db8::1") == 0


@pytest.mark.parametrize(
    "token",
    [
        "a" * 16,
        "short",
        "with a space in it",
        "abababababababab",
        "passwordpassword",
        "abcdefghijklmnop",
        "1234567890123456",
    ],
)
def test_weak_tokens_are_refused_with_a_strong_one_named(folder: Path, token: str) -> None:
    with pytest.raises(ConfigError, match="a random one") as error:
        create_app(folder / "c.birder", token=token)
    check_token(str(error.value).rpartition(" ")[2])


def test_random_tokens_are_accepted() -> None:
    for _ in range(500):
        check_token(secrets.token_urlsafe(16))
        check_token(secrets.token_hex(16))
