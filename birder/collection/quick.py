"""Nearest rows through LanceDB's asynchronous interface, in a thread of its own.

A query crosses between threads once; LanceDB's synchronous interface crosses six times, which is a part of a search by
the index that can be measured (benchmarks/search.py).
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
from lancedb.table import AsyncTable

Make = Callable[[AsyncTable], Any]
"""From the table to LanceDB's query, of which `to_arrow` is awaited."""


class QuickTable:
    """The images of a collection, kept open for queries; it may be used by several threads.

    Parameters
    ----------
    path
        The collection's folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table: AsyncTable | None = None
        self._version: int | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="birder-search", daemon=True).start()
        weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)

    def run(self, version: int, make: Make) -> pa.Table:
        """What a query finds in a version of the table; LanceDB's errors come as they are."""
        return asyncio.run_coroutine_threadsafe(self._run(version, make), self._loop).result()

    async def _run(self, version: int, make: Make) -> pa.Table:
        if self._table is None:
            database = await lancedb.connect_async(self._path)
            self._table = await database.open_table("images")
        if version != self._version:
            await self._table.checkout(version)
            self._version = version
        return await make(self._table).to_arrow()
