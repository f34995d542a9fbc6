"""`birder tidy`: keep a collection's folder small and quick."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from birder.cli.output import note

_SAVED = {True: "saved", False: "more, as what was joined lies beside the former version for now"}


def tidy(
    collection: Annotated[Path, typer.Argument(metavar="DIR", help="The collection.")],
    now: Annotated[
        bool,
        typer.Option(
            "--now",
            help="Remove all former versions, also those of the last hour, which a page or script may still read.",
        ),
    ] = False,
) -> None:
    """Join small pieces, bring indexes up to date, and remove former versions and thumbnails that nothing needs.

    Labels that are in the journal alone so far are written into the rows. No row, failure or map is lost.

    Example: birder tidy photos.birder
    """
    from birder.collection import maintenance as tidying
    from birder.collection.storage import Storage

    done = tidying.tidy(Storage.open(collection), keep=timedelta(0) if now else tidying.KEEP)
    saved = done.bytes_before - done.bytes_after
    note(
        f"{collection}: {_size(done.bytes_before)} before, {_size(done.bytes_after)} now "
        f"({_size(abs(saved))} {_SAVED[saved >= 0]}); "
        f"{done.versions_removed:,} former versions and {done.thumbnails_removed:,} thumbnails removed."
    )
    if not now:
        note("Versions of the last hour stay for those who read them; --now removes them too.")


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"
