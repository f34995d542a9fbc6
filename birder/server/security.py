"""Who may ask: the token, the host's name, the page that a request comes from; and what browsers are told.

Without a token the server listens on this machine alone, where three things remain. A page elsewhere may send requests
to it through the user's browser: those are told by `Origin` and `Sec-Fetch-Site` and refused. It may also let its own
name point to 127.0.0.1 (DNS rebinding): then `Host` is not ours. And whatever text or picture gets into the page must
not run: the content security policy allows no script but the server's files.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
COOKIE = "birder"

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on a host."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Checks requests before anything else does, and adds the headers to all answers.

    Parameters
    ----------
    app
        What answers.
    token
        What a request must present, as `Authorization: Bearer`, or in the cookie that `/?token=` sets.
    hosts
        Names that `Host` may have, without port; any if empty, for which there must be a token.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Collection[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # There are no web sockets here; what the server's start and end need passes.
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._foreign(scope, headers)
        if refusal is not None:
            await _answer(send_guarded, 403, refusal)
        elif self._token is None or self._has_token(headers):
            await self._app(scope, receive, send_guarded)
        elif (rest := self._token_in_address(scope)) is not None:
            await self._greet(send_guarded, rest)
        else:
            await _answer(
                send_guarded,
                401,
                "The token is missing or wrong. Open the address that birder serve printed, or send the header "
                "Authorization: Bearer TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )

    def _foreign(self, scope: Scope, headers: Headers) -> str | None:
        """Why a request does not come from our own page or from a program."""
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if len(headers.getlist("host")) != 1 or (self._hosts and name not in self._hosts):
            return "This server does not go by that name. Open the address that birder serve printed."
        if scope["path"] in ("/", "/docs"):
            return None  # links from elsewhere may lead to the page, which holds nothing by itself
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return "Requests from other pages are refused. Open the address that birder serve printed."
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None:
            try:
                own = urlsplit(origin).netloc.lower() == host.lower()
            except ValueError:
                own = False
            if not own:
                return "Requests from other pages are refused. Open the address that birder serve printed."
        return None

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), str(self._token).encode())

    def _token_in_address(self, scope: Scope) -> str | None:
        """The rest of the query of `/?token=...`, if the token is right."""
        if scope["path"] != "/" or scope["method"] != "GET":
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20)
        if not self._is_token(query.pop("token", [""])[0]):
            return None
        return urlencode(query, doseq=True)

    async def _greet(self, send: Send, rest: str) -> None:
        """Set the cookie, and lead to the address without the token, so that it stays out of the history."""
        cookie = SimpleCookie({COOKIE: str(self._token)})
        for name, value in (("httponly", True), ("samesite", "Strict"), ("path", "/"), ("max-age", 30 * 86400)):
            cookie[COOKIE][name] = value
        headers = {"Location": f"/?{rest}" if rest else "/", "Set-Cookie": cookie[COOKIE].OutputString()}
        await _answer(send, 303, "Welcome.", headers | {"Cache-Control": "no-store"})


async def _answer(send: Send, status: int, detail: str, more: dict[str, str] | None = None) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(more or {})}
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
