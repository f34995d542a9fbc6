"""What commands show of long work on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

from birder.cli.output import console_err, note

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


class ImageProgress(Protocol):
    """How far a run over images has come; the rate is in images a second."""

    @property
    def total(self) -> int: ...
    @property
    def finished(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def seconds(self) -> float: ...


def image_progress() -> AbstractContextManager[Callable[[ImageProgress], None]]:
    """What shows a run over images: a bar on a terminal, a line every ten seconds elsewhere."""
    return _bar() if sys.stderr.isatty() else _lines()


@contextmanager
def _bar() -> Iterator[Callable[[ImageProgress], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} images/s, left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with Bar(*columns, console=console_err()) as bar:
        task = bar.add_task("", total=None, visible=False, rate=0.0, failed="")

        def show(progress: ImageProgress) -> None:
            failed = f"{progress.failed:,} failed" if progress.failed else ""
            bar.update(
                task,
                total=progress.total,
                completed=progress.finished,
                visible=True,
                rate=progress.rate,
                failed=failed,
            )

        yield show


@contextmanager
def _lines() -> Iterator[Callable[[ImageProgress], None]]:
    last = 0.0

    def show(progress: ImageProgress) -> None:
        nonlocal last
        if progress.seconds - last < SECONDS_BETWEEN_LINES:
            return
        last = progress.seconds
        left = (progress.total - progress.finished) / progress.rate if progress.rate else 0.0
        note(
            f"{progress.finished:,} of {progress.total:,}, {progress.rate:.1f} images/s, {left:,.0f} s left, "
            f"{progress.failed:,} failed"
        )

    yield show
