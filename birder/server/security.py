"""Who may ask: the token, the host's name, the page that a request comes from; and what browsers are told.

Without a token the server listens on this machine alone, where three things remain. A page elsewhere may send requests
to it through the user's browser: those are recognised by `Origin` and `Sec-Fetch-Site` and refused. It may also let its
own name point to 127.0.0.1 (DNS rebinding): then `Host` is not ours. And whatever text or image gets into the page must
not run: the content security policy allows no script but the server's files.

With a token, `/?token=` gives the browser a session: a cookie that is signed, ends after 30 days, and does not hold the
token. The key comes from the token by scrypt, so that sessions survive a restart, and a leaked cookie does not let
anyone guess tokens quickly.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import itertools
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from birder.errors import ConfigError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
COOKIE = "birder"

_SESSION = 30 * 86400  # seconds
_FEWEST_CHARACTERS = 16
_FEWEST_DIFFERENT = 8
_GUESSES = 5  # wrong tokens of one address in a minute
_ADDRESSES = 10_000  # whose guesses are remembered

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self'; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
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


def network_of(host: str) -> str:
    """What guesses are counted by: an address, or with IPv6 its /64."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def check_token(token: str) -> None:
    """Refuse (`ConfigError`) a token that can be guessed."""
    steps = [ord(after) - ord(before) for before, after in itertools.pairwise(token)]
    if len(token) < _FEWEST_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        why = f"A token needs at least {_FEWEST_CHARACTERS} ASCII characters and no space"
    elif len(set(token)) < _FEWEST_DIFFERENT:
        why = f"A token needs at least {_FEWEST_DIFFERENT} different characters"
    elif token in (token + token)[1:-1]:
        why = "This token repeats itself"
    elif sum(abs(step) <= 1 for step in steps) > len(steps) * 3 / 4:
        why = "This token counts up or down"
    else:
        return
    raise ConfigError(f"{why}: it could be guessed. Use a random one, such as {secrets.token_urlsafe(16)}")


class Guesses:
    """Wrong tokens, by the address they came from.

    Parameters
    ----------
    now
        Gives the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def wait(self, host: str) -> int:
        """For how many seconds tokens from an address are not checked; 0 if the next one is."""
        times = self._wrong.get(network_of(host), [])
        recent = [each for each in times if each > self._now() - 60]
        return 0 if len(recent) < _GUESSES else max(1, round(recent[-_GUESSES] + 60 - self._now()))

    def note(self, host: str) -> None:
        """Note a wrong token."""
        network = network_of(host)
        self._wrong[network] = [*self._wrong.get(network, [])[1 - _GUESSES :], self._now()]
        self._wrong.move_to_end(network)
        if len(self._wrong) > _ADDRESSES:
            self._wrong.popitem(last=False)


class Guard:
    """Checks requests before anything else does, and adds the headers to all answers.

    Parameters
    ----------
    app
        What answers.
    token
        What a request must present, as `Authorization: Bearer`; or else the cookie that `/?token=` sets.
    hosts
        Names that `Host` may have, without port; any if empty, for which there must be a token.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Collection[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)
        self._guesses = Guesses()
        self._key = (
            b"" if token is None else hashlib.scrypt(token.encode(), salt=b"birder session", n=1 << 14, r=8, p=1)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # The server has no web sockets; its start and end are let through.
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
        elif self._token is None or self._has_session(headers):
            await self._app(scope, receive, send_guarded)
        else:
            await self._check_token(scope, receive, send_guarded, headers)

    async def _check_token(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Check the token that a request presents, unless too many wrong ones came from its address."""
        host = scope["client"][0] if scope.get("client") else ""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        query = _query(scope)
        given = bearer.strip() if scheme.lower() == "bearer" else query.pop("token", [""])[0]
        if given and (seconds := self._guesses.wait(host)):
            detail = f"Too many wrong tokens came from this address. Try again in {seconds} seconds."
            await _answer(send, 429, detail, {"Retry-After": str(seconds)})
        elif self._is_token(given):
            if scheme.lower() == "bearer":
                await self._app(scope, receive, send)
            else:
                await self._begin_session(send, urlencode(query, doseq=True), secure=scope["scheme"] == "https")
        else:
            if given:
                self._guesses.note(host)
            await _answer(
                send,
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
            return "This server does not answer to that host name. Open the address that birder serve printed."
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

    def _has_session(self, headers: Headers) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        until, _, signature = ("" if cookie is None else cookie.value).partition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._signature(until).encode()):
            return False
        return int(until) > time.time()  # we have signed it, so it is a number

    def _signature(self, until: str) -> str:
        return hmac.new(self._key, until.encode("utf-8", "replace"), "sha256").hexdigest()

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), str(self._token).encode())

    async def _begin_session(self, send: Send, rest: str, *, secure: bool) -> None:
        """Begin a session, and redirect to the address without the token, so that it stays out of the history."""
        until = str(int(time.time()) + _SESSION)
        cookie = SimpleCookie({COOKIE: f"{until}.{self._signature(until)}"})
        attributes = {"httponly": True, "samesite": "Strict", "path": "/", "max-age": _SESSION, "secure": secure}
        for name, value in attributes.items():
            cookie[COOKIE][name] = value
        headers = {"Location": f"/?{rest}" if rest else "/", "Set-Cookie": cookie[COOKIE].OutputString()}
        await _answer(send, 303, "Welcome.", headers | {"Cache-Control": "no-store"})


def _query(scope: Scope) -> dict[str, list[str]]:
    """What follows the page's address, where a token may be; empty if the page does not write such addresses."""
    if scope["path"] != "/" or scope["method"] != "GET":
        return {}
    try:
        return parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20)
    except ValueError:
        return {}


async def _answer(send: Send, status: int, detail: str, more: dict[str, str] | None = None) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(more or {})}
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
