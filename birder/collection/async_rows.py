"""The rows through LanceDB's asynchronous interface, for the nearest ones.

A query crosses between threads once; LanceDB's synchronous interface crosses six times, which is a part of a search by
the index that can be measured (benchmarks/search.py). The loop is LanceDB's own, which it starts again after a fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from lancedb.table import AsyncTable

MakeQuery = Callable[["AsyncTable"], Any]
"""From the table to LanceDB's query, of which `to_arrow` is awaited."""


class AsyncRows:
    """The images of a collection, kept open for queries; several threads may use it.

    Parameters
    ----------
    folder
        The folder with the table of images.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._table: AsyncTable | None = None
        self._opened: tuple[int, int] | None = None  # by which process, at which version

    def run(self, version: int, make: MakeQuery) -> pa.Table:
        """Run a query on a version of the table; LanceDB's errors are passed on as they are."""
        from lancedb.background_loop import LOOP  # see `birder.collection.disk.connect`

        found: pa.Table = LOOP.run(self._run(version, make))  # type: ignore[no-untyped-call]
        return found

    async def _run(self, version: int, make: MakeQuery) -> pa.Table:
        process = os.getpid()
        if self._table is None or self._opened is None or self._opened[0] != process:
            import lancedb

            database = await lancedb.connect_async(self._folder)
            self._table = await database.open_table("images")
        if self._opened != (process, version):
            await self._table.checkout(version)
            self._opened = process, version
        return await make(self._table).to_arrow()
