"""A model hub on the loopback interface: as much of the Hub's HTTP interface as `huggingface_hub` needs to download.

It answers HEAD and GET on `/{repo}/resolve/{revision}/{file}` (data sets under `/datasets/`) with the headers that the
client reads: ETag, X-Repo-Commit, X-Linked-Size; it serves ranges, so an interrupted download resumes; and it refuses
as the Hub does: unknown repository, revision, file, and a missing token.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_ROUTE = re.compile(r"/(?P<repo>(?:datasets/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class HubFile:
    """A file that the hub serves."""

    path: Path
    sha256: str
    size: int


class Request(NamedTuple):
    """A request that the hub received."""

    method: str
    path: str
    range: str | None


class Hub:
    """A running hub.

    Attributes
    ----------
    url
        Its address, for HF_ENDPOINT.
    requests
        Every request so far, in order.
    token
        When set, requests without this bearer token are refused as for a gated repository.
    cut_after
        When set, the next download breaks off after so many bytes; then it is None again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[Request] = []
        self.token: str | None = None
        self.cut_after: int | None = None
        self.files: dict[str, dict[str, HubFile]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, repo: str, filename: str, content: bytes | Path, *, repo_type: str = "model") -> HubFile:
        """Serve `content` (bytes, or a file that stays where it is) as `filename` of `repo`."""
        key = f"datasets/{repo}" if repo_type == "dataset" else repo
        if isinstance(content, bytes):
            path = self.folder / "served" / key / filename
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        else:
            path = content
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        served = HubFile(path, sha256, path.stat().st_size)
        self.files.setdefault(key, {})[filename] = served
        return served

    def commit(self, key: str) -> str:
        """The repository's revision: a digest of what it holds."""
        listing = "".join(f"{name}:{file.sha256}\n" for name, file in sorted(self.files[key].items()))
        return hashlib.sha1(f"{key}\n{listing}".encode()).hexdigest()

    @property
    def env(self) -> dict[str, str]:
        """This process's environment for a child that shall use the hub, with an empty cache of its own."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "BIRDER_"))}
        return kept | {
            "BIRDER_CACHE": str(self.folder / "birder-cache"),
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self.folder / "hf-home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def forget_downloads(self) -> None:
        """Empty the cache that `env` names."""
        shutil.rmtree(self.folder / "hf-home", ignore_errors=True)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: `Hub.requests` is the log."""

    def _answer(self, *, send_body: bool) -> None:
        hub = self.hub
        path = unquote(urlsplit(self.path).path)
        range_header = self.headers.get("Range")
        hub.requests.append(Request(self.command, path, range_header))

        route = _ROUTE.fullmatch(path)
        if route is None:
            return self._refuse(404, None, "Not found")
        repo = hub.files.get(route["repo"])
        if repo is None:
            # The Hub answers 401 here: it does not tell a missing repository from a private one.
            return self._refuse(401, "RepoNotFound", "Repository not found")
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._refuse(401, "GatedRepo", "Access to this repository is restricted. Log in.")
        commit = hub.commit(route["repo"])
        if route["revision"] not in ("main", commit):
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        file = repo.get(route["file"])
        if file is None:
            return self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})

        start = 0
        if range_header is not None:
            start = int(range_header.removeprefix("bytes=").split("-")[0])
            if start >= file.size:
                return self._refuse(416, None, "Range not satisfiable", {"Content-Range": f"bytes */{file.size}"})
        self.send_response(206 if range_header is not None else 200)
        if range_header is not None:
            self.send_header("Content-Range", f"bytes {start}-{file.size - 1}/{file.size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(file.size - start))
        self.send_header("ETag", f'"{file.sha256}"')
        self.send_header("X-Linked-Etag", f'"{file.sha256}"')
        self.send_header("X-Linked-Size", str(file.size))
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if send_body:
            self._send(file.path, start)
        return None

    def _send(self, path: Path, start: int) -> None:
        left, self.hub.cut_after = self.hub.cut_after, None
        with path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(_CHUNK if left is None else min(_CHUNK, left)):
                self.wfile.write(chunk)
                if left is not None:
                    left -= len(chunk)
        if left == 0:
            self.close_connection = True

    def _refuse(self, status: int, code: str | None, message: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()
