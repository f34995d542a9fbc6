"""What commands say of images that failed: the reasons, the most frequent first, with some of the names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import typer

from birder.cli.errors import FAILED
from birder.cli.output import note, one_line
from birder.words import counted

_REASONS = 10
"""Reasons that are listed."""


def tell_failures(failed: Iterable[tuple[str, str]], command: str) -> None:
    """Print the reasons of failures, given as names and reasons, and the command that lists them all."""
    from birder.sources import readable

    reasons = defaultdict(list)
    for path, reason in failed:
        reasons[one_line(reason)].append(one_line(readable(path)))
    largest = sorted(reasons.items(), key=lambda pair: -len(pair[1]))
    for reason, names in largest[:_REASONS]:
        note(f"  {len(names):,} x {reason}: {some(names)}")
    if len(largest) > _REASONS:
        note(f"  and {len(largest) - _REASONS} more reasons")
    if largest:
        note(f"All failures: {command}")


class LeftOut:
    """Images that cannot be read and take no part: each is told at once, and at the end the exit code says so."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, path: str, error: Exception) -> None:
        from birder.sources import readable

        self._count += 1
        note(f"birder: {one_line(readable(path))}: {one_line(str(error))}; left out")

    def end(self) -> None:
        """End the command with FAILED if an image was left out."""
        if self._count:
            note(f"{counted(self._count, 'image')} could not be read.")
            raise typer.Exit(FAILED)


def some(names: list[str]) -> str:
    """The first three names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
