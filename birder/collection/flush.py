"""Commits that survive a power cut: what a commit wrote is forced onto the disk before it is reported as done.

LanceDB writes data files and manifests, and the system decides when they reach the disk: seconds later, and in any
order. Its files never change once they are written, so the files of a commit are the new ones.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from birder.files import flush as flush_file
from birder.files import flush_folder


@contextlib.contextmanager
def flushing(path: Path) -> Iterator[None]:
    """Force every file that appears in a collection's tables within this block onto the disk, when the block ends.

    Raises
    ------
    OSError
        The disk refuses: what was written may not be there after a power cut.
    """
    before = set(_files(path))
    yield
    flush(file for file in _files(path) if file not in before)


def flush(files: Iterable[str]) -> None:
    """Force files, and the folders that list them, onto the disk; a file that no longer exists is left out."""
    folders: set[Path] = set()
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            flush_file(file)
            # A table's folder and its parts may be new as well: the folders above list them.
            for folder in Path(file).parents:
                folders.add(folder)
                if folder.suffix == ".lance":
                    folders.add(folder.parent)
                    break
    for folder in sorted(folders, reverse=True):
        flush_folder(folder)


def _files(path: Path) -> Iterator[str]:
    """The files of all tables of a collection."""
    folders = [entry.path for entry in os.scandir(path) if entry.name.endswith(".lance") and entry.is_dir()]
    while folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    yield entry.path
