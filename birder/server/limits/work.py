"""Work that takes its time, done by a few threads, with a bounded queue before them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from fastapi import HTTPException

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A few threads for one kind of work.

    Attributes
    ----------
    waiting
        How many tasks may be under way or wait; one more is refused with 503 and the advice to come back.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.waiting = waiting
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"birder-{name}")
        self._lock = threading.Lock()
        self._under_way = 0

    async def run(self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it in one of the threads, and wait for it.

        Raises
        ------
        HTTPException
            503: too much is waiting already.
        """
        future = self.submit(task, *args, **kwargs)
        # A client that goes away does not stop what others may wait for.
        return await asyncio.shield(asyncio.wrap_future(future))

    def submit(self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it in one of the threads; raises as `run` does."""
        with self._lock:
            if self._under_way >= self.waiting:
                raise HTTPException(
                    503, "The server is busy with other requests: try again in a few seconds.", {"Retry-After": "3"}
                )
            self._under_way += 1
        try:
            future = self._pool.submit(task, *args, **kwargs)
        except RuntimeError:
            self._done()
            raise HTTPException(503, "The server is being stopped.", {"Retry-After": "10"}) from None
        future.add_done_callback(self._done)
        return future

    def _done(self, _: object = None) -> None:
        with self._lock:
            self._under_way -= 1

    def stop(self) -> None:
        """Accept no more work, and drop what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)
