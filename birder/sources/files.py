"""Images in the file system: files, folders (searched recursively), patterns."""

from __future__ import annotations

import functools
import glob
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from birder.errors import ConfigError
from birder.images.open import IMAGE_EXTENSIONS
from birder.sources.source import Source, readable


def find_images(
    paths: Iterable[str | Path], *, labels: bool = True, extensions: Collection[str] = IMAGE_EXTENSIONS
) -> list[Source]:
    """Find the images that paths name: files as they are, folders with everything below, patterns (`trap/**/*.jpg`).

    In folders, files with one of `extensions` count; hidden ones (their name begins with a dot) do not.
    Links to folders are followed, after everything else, and each folder is scanned once. A file that several paths
    name comes once.

    Parameters
    ----------
    paths
        Files, folders, patterns.
    labels
        Use the name of a file's folder as its label.
    extensions
        In lower case, with their dot.

    Raises
    ------
    ConfigError
        A path that does not exist, or a pattern that matches no file.
    """
    found: dict[str, Source] = {}
    for path in paths:
        for source in _find(os.fspath(path), extensions):
            found.setdefault(source.path, source)
    if labels:
        for source in found.values():
            source.label = label_of(source.path)
    return list(found.values())


def label_of(path: str) -> str | None:
    """The name of a file's folder, which is its label; None at the root."""
    return _name_of(os.path.dirname(path))  # noqa: PTH120


@functools.lru_cache(maxsize=1024)
def _name_of(folder: str) -> str | None:
    return readable(os.path.basename(folder)) or None  # noqa: PTH119


def _find(path: str, extensions: Collection[str]) -> Iterator[Source]:
    absolute = os.path.abspath(path)  # noqa: PTH100 - a uri must not depend on where links lead today
    if os.path.lexists(absolute):
        if Path(absolute).is_dir():
            yield from _walk(absolute, extensions)
        else:
            yield Source(absolute)
        return
    if not glob.has_magic(path):
        raise ConfigError(f"There is no file or folder {readable(path)}. Check its name; nothing was done.")
    matches = fitting(path)
    if not matches:
        raise ConfigError(f"No files match {readable(path)}. Check the pattern; nothing was done.")
    for match in matches:
        if not Path(match).is_dir():
            yield Source(os.path.abspath(match))  # noqa: PTH100


def fitting(pattern: str) -> list[str]:
    """The paths that match a pattern, sorted.

    Raises
    ------
    ConfigError
        The folders below are too deep for a pattern.
    """
    try:
        return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - pathlib's cannot start at any path
    except RecursionError:
        raise ConfigError(
            f"The folders below {readable(pattern)} are nested too deeply for a pattern. Name the folder itself."
        ) from None


def _walk(folder: str, extensions: Collection[str]) -> Iterator[Source]:
    """Images below a folder in the order of their names, then those that are reached by links only.

    Each folder is scanned once, however many links lead to it: of folders with two links each to the next, a few images
    would otherwise be millions.
    """
    seen: set[tuple[int, int]] = set()
    links = deque([folder])
    while links:
        below = [_inside(links.popleft(), seen, extensions)]  # no recursion: folders may be nested arbitrarily deep
        while below:
            entry = next(below[-1], None)
            if entry is None:
                below.pop()
            elif isinstance(entry, Source):
                yield entry
            elif entry.is_symlink():
                links.append(entry.path)
            else:
                below.append(_inside(entry.path, seen, extensions))


def _inside(
    folder: str, seen: set[tuple[int, int]], extensions: Collection[str]
) -> Iterator[Source | os.DirEntry[str]]:
    """The images and folders in a folder, unless it is in `seen` by device and inode."""
    try:
        status = os.stat(folder)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            inside = sorted((entry for entry in entries if _counts(entry, extensions)), key=lambda entry: entry.name)
    except OSError as error:
        yield Source(folder, problem=f"the folder cannot be read ({error.strerror or error})")
        return
    for entry in inside:
        yield entry if _is_folder(entry) else Source(entry.path)


def _counts(entry: os.DirEntry[str], extensions: Collection[str]) -> bool:
    name = entry.name
    is_image = os.path.splitext(name)[1].lower() in extensions  # noqa: PTH122 - a million times
    return not name.startswith(".") and (is_image or _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
