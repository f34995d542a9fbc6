"""How work shows how far it has come: a bar in a terminal or a notebook, nothing elsewhere."""

from __future__ import annotations

import contextlib
import html
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from birder.pipeline.detect import DetectProgress
from birder.pipeline.run import EmbedReport, Progress

Show = Callable[[str, float], None]
"""Called with the stage of the work and the fraction of it that is done."""
StageProgress = Show | Literal["auto"] | None
"""A callable; "auto" for a bar in a terminal or notebook; None for nothing."""
EmbedProgress = Callable[[Progress], None] | Literal["auto"] | None
"""The same for `embed`."""
DetectShow = Callable[[DetectProgress], None] | Literal["auto"] | None
"""The same for `detect`."""

_SECONDS_BETWEEN = 0.2  # a notebook's output is a message over a network


@contextlib.contextmanager
def stages_shown(progress: StageProgress) -> Iterator[Show | None]:
    """What to call with stages of work, for as long as the block takes; None if nothing is shown."""
    if progress != "auto":
        yield progress
        return
    with _bar() as show:
        yield show


@contextlib.contextmanager
def embedding_shown(progress: EmbedProgress) -> Iterator[Callable[[Progress], None] | None]:
    """The same for a run of `embed`."""
    if progress != "auto":
        yield progress
        return
    with _bar() as show:
        yield None if show is None else lambda state: show(_in_words(state), state.finished / max(state.total, 1))


@contextlib.contextmanager
def detecting_shown(
    progress: DetectShow,
) -> Iterator[Callable[[DetectProgress], None] | None]:
    """The same for a run of `detect`."""
    if progress != "auto":
        yield progress
        return
    with _bar() as show:
        yield (
            None if show is None else lambda state: show(_found_in_words(state), state.finished / max(state.total, 1))
        )


def _found_in_words(state: DetectProgress) -> str:
    failed = f", {state.failed:,} failed" if state.failed else ""
    return (
        f"{state.finished:,} of {state.total:,} images, {state.with_animal:,} with an animal, "
        f"{state.rate:.1f} images/s{failed}"
    )


def iterate_progress(
    run: Callable[[Callable[[Progress], None], threading.Event], EmbedReport],
) -> Generator[Progress, None, EmbedReport]:
    """Yield the progress of a run in a thread of its own; when the generator is closed, the run is told to stop.

    Parameters
    ----------
    run
        Called with what to tell the progress to, and the event that tells it to stop.
    """
    stop = threading.Event()
    steps: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
    with ThreadPoolExecutor(1, thread_name_prefix="birder-embed") as pool:
        running = pool.submit(run, steps.put, stop)
        running.add_done_callback(lambda _: steps.put(None))
        try:
            while (step := steps.get()) is not None:
                yield step
        finally:
            stop.set()
            report = running.result()
    return report


def _in_words(state: Progress) -> str:
    if state.stage == "loading":
        return "loading the model"
    failed = f", {state.failed:,} failed" if state.failed else ""
    return f"{state.finished:,} of {state.total:,} images, {state.rate:.1f} images/s{failed}"


@contextlib.contextmanager
def _bar() -> Iterator[Show | None]:
    if _in_notebook():
        yield _notebook_bar()
        return
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, done: bar.update(task, description=stage, completed=done)


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code, whose page shows HTML; a terminal's IPython does not."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _notebook_bar() -> Show:
    """A bar that needs no widgets: one output of the cell, written anew."""
    from IPython.display import HTML, display  # type: ignore[import-not-found]  # there is none outside a notebook

    handle: Any = None
    last = 0.0

    def show(stage: str, done: float) -> None:
        nonlocal handle, last
        now = time.perf_counter()
        if handle is not None and done < 1.0 and now - last < _SECONDS_BETWEEN:
            return
        last = now
        bar = HTML(f'<progress max="1" value="{done:.4f}"></progress> {html.escape(stage)}')
        if handle is None:
            handle = display(bar, display_id=True)
        else:
            handle.update(bar)

    return show
