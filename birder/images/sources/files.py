"""Photographs in the file system: files, folders with all below them, patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from birder.errors import BirderError
from birder.images.open import IMAGE_EXTENSIONS
from birder.images.sources.source import Source, readable


def find_images(paths: Iterable[str | Path], *, labels: bool = True) -> list[Source]:
    """Find the photographs that paths name: files as they are, folders with all below, patterns (`trap/**/*.jpg`).

    In folders, files count whose extension is one of `IMAGE_EXTENSIONS`; hidden ones (their name begins with a dot) do
    not. Links to folders are followed, though not in circles. A file that several paths name comes once.

    Parameters
    ----------
    paths
        Files, folders, patterns.
    labels
        Take the name of the folder right above a file as its label.

    Raises
    ------
    BirderError
        A path that does not exist, or a pattern that fits no file.
    """
    found: dict[str, Source] = {}
    for path in paths:
        for source in _find(os.fspath(path)):
            found.setdefault(source.path, source)
    if labels:
        for source in found.values():
            source.label = readable(os.path.basename(os.path.dirname(source.path))) or None  # noqa: PTH119, PTH120
    return list(found.values())


def _find(path: str) -> Iterator[Source]:
    absolute = os.path.abspath(path)  # noqa: PTH100 - a uri must not depend on where links lead today
    if os.path.lexists(absolute):
        if Path(absolute).is_dir():
            yield from _walk(absolute, frozenset())
        else:
            yield Source(absolute)
        return
    if not glob.has_magic(path):
        raise BirderError(f"There is no file or folder {readable(path)}. Check its name; nothing was done.")
    matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - pathlib's cannot start at any path
    if not matches:
        raise BirderError(f"No file fits {readable(path)}. Check the pattern; nothing was done.")
    for match in matches:
        if not Path(match).is_dir():
            yield Source(os.path.abspath(match))  # noqa: PTH100


def _walk(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[Source]:
    """Photographs below a folder, in the order of their names; `above` holds (device, inode) of the folders above."""
    try:
        status = os.stat(folder)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in above:
            return
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield Source(folder, problem=f"the folder cannot be read ({error.strerror or error})")
        return
    for entry in inside:
        if entry.name.startswith("."):
            continue
        try:
            is_folder = entry.is_dir()
        except OSError:
            is_folder = False
        if is_folder:
            yield from _walk(entry.path, above | {(status.st_dev, status.st_ino)})
        elif os.path.splitext(entry.name)[1].lower() in IMAGE_EXTENSIONS:  # noqa: PTH122 - a million times
            yield Source(entry.path)
