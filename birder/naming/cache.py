"""Birder's cache of what is expensive to compute again: written whole or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from birder.files import replacing
from birder.weights.hub import cache_folder


def cached_path(kind: str, name: str) -> Path:
    """Where something is, or would be, in the cache."""
    return cache_folder() / kind / name


def keep(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file of the cache through one of its own, so that no reader and no other writer sees a half of it.

    A cache that cannot be written costs only time: there is a warning.
    """
    try:
        with replacing(path) as draft, draft.open("wb") as file:
            write(file)
    except OSError as error:
        warnings.warn(
            f"Cannot write to the cache ({error}): it will be computed again next time. Set BIRDER_CACHE to a folder "
            "that you may write to.",
            stacklevel=2,
        )
