"""What commands show of long work on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Literal

from birder.cli.output import note

SECONDS_BETWEEN_LINES = 10.0


def stage_progress(*, every_stage: bool = False) -> Callable[[str, float], None] | Literal["auto"]:
    """The progress callback for methods that report a stage and the share of it that is done.

    Parameters
    ----------
    every_stage
        Also print a line, where there is no terminal, as each stage begins.
    """
    if sys.stderr.isatty():
        return "auto"  # a bar
    former, last = "", time.perf_counter()

    def show(stage: str, done: float) -> None:
        nonlocal former, last
        if every_stage and stage != former:
            note(f"{stage} ...")
        elif time.perf_counter() - last >= SECONDS_BETWEEN_LINES:
            note(f"{stage}: {done:.0%}")
        else:
            return
        former, last = stage, time.perf_counter()

    return show
