"""Deployments from folders: a card is often copied as CARD/STATION/100RECNX/IMG_0001.JPG."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from birder.errors import ConfigError
from birder.sources.source import Source, is_url, readable, uri_to_path


def name_deployments(sources: Iterable[Source], given: Sequence[str | os.PathLike[str]], level: int) -> int:
    """Give each source the name of a folder above it as its `deployment`.

    A folder that is a deployment is not a label: an image directly in it loses its folder's name as label.

    Parameters
    ----------
    sources
        Images and shards; those in no such folder get nothing.
    given
        The folders and patterns that the user named; of a pattern, the folder before its first wildcard counts.
    level
        Which folder below those: 1 is the first.

    Returns
    -------
    How many sources got a deployment.

    Raises
    ------
    ConfigError
        The level is less than 1, or no source has a folder there.
    """
    if level < 1:
        raise ConfigError(f"Folders are counted from 1, the first below the one that is embedded: not {level}.")
    roots = sorted({_root(os.fspath(each)) for each in given}, key=len, reverse=True)
    named = 0
    for source in sources:
        root = next((each for each in roots if source.path.startswith(f"{each.rstrip('/')}/")), None)
        if root is None:
            continue
        folders = PurePosixPath(source.path.replace(os.sep, "/")[len(root.rstrip("/")) + 1 :]).parts[:-1]
        if len(folders) < level:
            continue
        source.describe({"deployment": readable(folders[level - 1])})
        if len(folders) == level:
            source.label = None
        named += 1
    if not named:
        raise ConfigError(
            f"No image has {level} folders between it and {', '.join(map(readable, roots))}: name the folder that the "
            "deployments' folders are in, or another level."
        )
    return named


def _root(given: str) -> str:
    """The folder that levels are counted from, as sources' paths begin."""
    if is_url(given):
        return given.partition("*")[0].rpartition("/")[0] if "*" in given else given.rstrip("/")
    path = uri_to_path(given) if given.startswith("file://") else given
    if not os.path.lexists(path) and glob.has_magic(path):
        parts = path.replace(os.sep, "/").split("/")
        first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
        path = "/".join(parts[:first]) or ("/" if path.startswith("/") else ".")
    return os.path.abspath(path).replace(os.sep, "/")  # noqa: PTH100 - as all sources' paths are made
