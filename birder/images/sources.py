"""Finding photographs: paths, folders and patterns in, one `Source` for each file out, each with its uri."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from birder.errors import BirderError
from birder.images.open import IMAGE_EXTENSIONS


@dataclass(slots=True)
class Source:
    """A file that may be a photograph.

    Attributes
    ----------
    path
        Absolute; bytes that are not UTF-8 are surrogate-escaped, as Python's `os` gives them.
    label
        What is on it, if known.
    columns
        The user's own columns for its row.
    problem
        Why it cannot be read, where finding it has already shown that (a folder without permission).
    """

    path: str
    label: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None

    @property
    def uri(self) -> str:
        """The key of its row; see `path_to_uri`."""
        return path_to_uri(self.path)


def path_to_uri(path: str | Path) -> str:
    """Write an absolute path as a file URI, byte for byte: names that are no valid text survive, percent-encoded."""
    return "file://" + quote_from_bytes(os.fsencode(os.path.abspath(path)))  # noqa: PTH100 - resolve() follows links


def uri_to_path(uri: str) -> str:
    """Give the path that `path_to_uri` made the uri of."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise BirderError(f"{uri} is not a file on this machine; its uri should begin with file://.")
    return os.fsdecode(unquote_to_bytes(parts.path))


def readable(text: str) -> str:
    """Text that can be printed and stored: bytes that are not UTF-8 become the replacement character."""
    return os.fsencode(text).decode("utf-8", "replace")


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


def read_source(path: str) -> bytes:
    """The bytes of a regular file.

    Raises
    ------
    OSError
        As the system says; a pipe or device, whose reading might never end, is one too.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
        raise OSError("not a regular file")
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()
