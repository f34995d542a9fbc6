"""faiss's work in threads of Python's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def apart(work: Callable[[], T], *, threads: int | None = None) -> T:
    """Let faiss do some work in a thread of its own, and wait for it.

    Its threads (OpenMP) belong to the thread that asked for them and do not outlive it. If that were the main thread, a
    process forked from it would wait for threads that it does not have. Ctrl-C waits for the work too: keep it short.

    Parameters
    ----------
    work
        What calls faiss.
    threads
        How many threads it may use; with one, the same rows give the same graph. Default: what OpenMP chooses.
    """

    def run() -> T:
        if threads is not None:
            import faiss

            faiss.omp_set_num_threads(threads)  # of this thread only
        return work()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()
