"""Finding the images that a user names, in the lists of other tools, too."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from birder.formats.table import formats_that_read
from birder.sources import Source, find
from birder.sources.video import FrameChoice


def find_sources(
    paths: Iterable[str | Path],
    *,
    labels: bool = True,
    frames: FrameChoice = FrameChoice(),  # noqa: B008 - it is frozen
) -> list[Source]:
    """Find the images that paths name: folders, files, patterns, URLs, tables, shards, videos, Camtrap DP packages.

    As `birder.sources.find.find_sources` does, with the lists of all formats that images are read from.
    """
    lists = [format_.load().IMAGES for format_ in formats_that_read("images")]
    return find.find_sources(paths, lists, labels=labels, frames=frames)
