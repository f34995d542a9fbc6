"""Streams of events in the collection, one for each open page."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

from fastapi import HTTPException

from birder.collection.journal import Line
from birder.server.catalogue import Catalogue

STREAMS = 64
"""The most streams that may be open at once."""
_LOOK_EVERY = 0.5  # seconds between checks for what other processes have done
_KEEP_ALIVE = 15.0
_BACKLOG = 1000  # events that a stream may lag behind

_Stream = tuple[asyncio.AbstractEventLoop, "asyncio.Queue[bytes | None]"]


class Events:
    """Watches for events while there are streams, and sends them to all."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._streams: list[_Stream] = []
        self._lock = threading.RLock()  # the signal that ends the server may come while it is held
        self._wake = threading.Event()
        self._watching = False
        self._stopped = False

    def stream(self) -> AsyncIterator[bytes]:
        """Open a stream.

        Raises
        ------
        HTTPException
            503: too many are open, or the server is being stopped.
        """
        loop = asyncio.get_running_loop()
        stream: _Stream = (loop, asyncio.Queue(_BACKLOG))
        with self._lock:
            if len(self._streams) >= STREAMS or self._stopped:
                raise HTTPException(503, f"More than {STREAMS} pages are open: close some.", {"Retry-After": "30"})
            self._streams.append(stream)
            if not self._watching:
                self._watching = True
                start = self._state()
                threading.Thread(target=self._watch, args=start, name="birder-events", daemon=True).start()
        return self._follow(stream)

    async def _follow(self, stream: _Stream) -> AsyncIterator[bytes]:
        try:
            yield b": welcome\n\n"
            while True:
                try:
                    event = await asyncio.wait_for(stream[1].get(), _KEEP_ALIVE)
                except TimeoutError:
                    event = b": still here\n\n"
                if event is None:
                    return
                yield event
        finally:
            self._drop(stream)

    def look(self) -> None:
        """Check for events at once."""
        self._wake.set()

    def stop(self) -> None:
        """End all streams."""
        with self._lock:
            self._stopped = True
            streams = list(self._streams)
        for stream in streams:
            self._send(stream, None)
        self._wake.set()

    def _drop(self, stream: _Stream) -> None:
        with self._lock:
            if stream in self._streams:
                self._streams.remove(stream)

    def _state(self) -> tuple[int, int, int]:
        snapshot = self._catalogue.current()
        return snapshot.labels_until, snapshot.rows_version, len(snapshot)

    def _watch(self, until: int, version: int, rows: int) -> None:
        while True:
            self._wake.wait(_LOOK_EVERY)
            self._wake.clear()
            with self._lock:
                streams = list(self._streams)
                if not streams or self._stopped:
                    self._watching = False
                    return
            news: list[bytes] = []
            snapshot = self._catalogue.current()
            lines, until = self._catalogue.journal.lines(until)
            news += [_event("label", data) for data in map(_label_data, lines) if data is not None]
            if snapshot.rows_version != version:
                # folding labels writes rows without news in them
                if len(snapshot) != rows or not self._catalogue.journal.only_labels(version, snapshot.rows_version):
                    news.append(_event("rows", {"version": snapshot.version, "rows": len(snapshot)}))
                version, rows = snapshot.rows_version, len(snapshot)
            for stream in streams:
                for event in news:
                    self._send(stream, event)

    def _send(self, stream: _Stream, event: bytes | None) -> None:
        loop, waiting = stream

        def put() -> None:
            if waiting.full():  # a client that does not read is dropped; the page opens another stream and asks again
                while not waiting.empty():
                    waiting.get_nowait()
                waiting.put_nowait(None)
            else:
                waiting.put_nowait(event)

        try:
            loop.call_soon_threadsafe(put)
        except RuntimeError:
            self._drop(stream)  # its loop has ended


def _label_data(line: Line) -> dict[str, Any] | None:
    undone = "undo" in line
    parts = line.get("changes", [])
    count = sum(len(ids) for part in parts for _, ids in part["to" if undone else "was"])
    if not parts or not (count or undone):
        return None
    return {
        "act": line["undo" if undone else "act"],
        "at": line["at"],
        "by": line.get("by"),
        "column": parts[0]["column"],
        "count": count,
        "undone": undone,
    }


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
