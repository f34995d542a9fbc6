"""Finding the images that a user names, in the lists of other tools, too."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from birder.formats.table import formats_that_read
from birder.sources import Source, find


def find_sources(paths: Iterable[str | Path], *, labels: bool = True) -> list[Source]:
    """Find the images that paths name: folders, files, patterns, URLs, tables, shards, and packages of Camtrap DP.

    As `birder.sources.find.find_sources` does, with the lists of all formats that images are read from.
    """
    lists = [format_.load().IMAGES for format_ in formats_that_read("images")]
    return find.find_sources(paths, lists, labels=labels)
