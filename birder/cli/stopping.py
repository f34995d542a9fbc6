"""Ctrl-C during a long run: the first one ends it in order, the second at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from birder.cli.errors import INTERRUPTED


@contextmanager
def stopping() -> Iterator[tuple[threading.Event, Callable[[], None]]]:
    """An event that Ctrl-C sets once the function beside it was called; a second Ctrl-C ends the process at once.

    Neither loses anything that is committed.
    """
    stop = threading.Event()

    def interrupt(_signal: int, _frame: object) -> None:
        if stop.is_set():
            os.write(2, b"\nStopped at once. To continue, run the same command again.\n")
            os._exit(INTERRUPTED)
        stop.set()
        os.write(2, b"\nFinishing the batch; press Ctrl-C again to stop at once.\n")

    def listen() -> None:
        signal.signal(signal.SIGINT, interrupt)

    before = signal.getsignal(signal.SIGINT)
    try:
        yield stop, listen
    finally:
        signal.signal(signal.SIGINT, before)
