"""A collection on the disk: writers take turns, tables are created whole, and errors say what to do."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from birder.errors import CollectionBusyError, CollectionError

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb import DBConnection
    from lancedb.table import Table

PATIENCE = 30.0
"""Seconds that a writer waits for the commit of another process."""
_PAUSE = 0.05
_NEVER = timedelta(days=36500)
_MEMORY = "LANCE_MEM_POOL_SIZE"
_MOST_MEMORY = 4 * 2**30
"""Bytes that LanceDB may hold for a join, which fails beyond, or a sort, which goes on on the disk, unless the user
says otherwise. Its own limit of 150 MB is too little to write columns of a million rows."""


def connect(path: Path) -> DBConnection:
    """The database in a collection's folder."""
    os.environ.setdefault(_MEMORY, str(_MOST_MEMORY))
    import lancedb  # a second and more, which workers of a cluster that only read images save

    return lancedb.connect(path)


def open_images(path: Path) -> Table:
    """The table of a collection's rows, opened again: as of now, independent of other readers."""
    return connect(images_folder(path)).open_table("images")


_stand_ins: dict[Path, Path] = {}


def images_folder(path: Path) -> Path:
    """The folder that this process reads a collection's rows from: its own, or that of its stand-in."""
    return _stand_ins.get(path, path)


def stand_in(path: Path, folder: Path | None) -> bool:
    """Let another folder's table of rows stand in for a collection's, or its own again; whether that changed that."""
    former = _stand_ins.pop(path, None)
    if folder is not None:
        _stand_ins[path] = folder
    return former != folder


def has_table(path: Path, name: str) -> bool:
    """Whether a table exists; the remains of an interrupted creation do not count.

    This looks at LanceDB's files, because connecting would create the folder.
    """
    versions = path / f"{name}.lance" / "_versions"
    return versions.is_dir() and any(entry.suffix == ".manifest" for entry in versions.iterdir())


def make_table(path: Path, name: str, schema: pa.Schema, rows: pa.Table | None = None) -> None:
    """Create a table, replacing the former one or the remains of an interrupted creation."""
    left = (path / f"{name}.lance").exists()
    connect(path).create_table(name, rows, schema=schema, mode="overwrite" if left else "create")


@contextlib.contextmanager
def locked(path: Path, *, patience: float | None = None) -> Iterator[None]:
    """Hold the lock under which one process commits; it ends with the process, however that ends.

    Parameters
    ----------
    path
        The collection's folder.
    patience
        Seconds to wait for another process that commits; default: `PATIENCE`.

    Raises
    ------
    CollectionBusyError
        Another process held it throughout.
    CollectionError
        The folder cannot be written to.
    """
    until = time.monotonic() + (PATIENCE if patience is None else patience)
    with _lock_file(path, "write.lock") as handle:
        while True:
            try:
                lock_handle(handle)
                break
            except OSError as error:
                if time.monotonic() >= until:
                    raise CollectionBusyError(
                        f"Another process is writing to {path}. Wait until it ends, or name another collection."
                    ) from error
            time.sleep(_PAUSE)
        yield


@contextlib.contextmanager
def running(path: Path) -> Iterator[None]:
    """Hold the right to add images, from the first commit of a run to its last; labels may be given in between.

    Raises
    ------
    CollectionBusyError
        Another process is adding images.
    """
    busy = f"Another process is adding images to {path}. Wait until it ends, or name another collection."
    with _holding(path, "run.lock", busy):
        yield


@contextlib.contextmanager
def keeping_versions(path: Path) -> Iterator[None]:
    """Hold the right to read, or to remove, versions of the tables that are not the newest: backups do, and tidying.

    Raises
    ------
    CollectionBusyError
        Another process holds it.
    """
    busy = f"{path} is being backed up or tidied by another process. Wait until it ends, and run the command again."
    with _holding(path, "backup.lock", busy):
        yield


def optimize(path: Path, table: Table) -> None:
    """Join the small pieces of a table and bring its indexes up to date; within `locked`.

    LanceDB also removes versions that are older than a week, unless one of them may be being backed up.
    """
    try:
        with keeping_versions(path):
            pass
    except CollectionBusyError:
        table.optimize(cleanup_older_than=_NEVER)
    else:  # a backup that begins now waits for this to end before it chooses its version
        table.optimize()


@contextlib.contextmanager
def _holding(path: Path, name: str, busy: str) -> Iterator[None]:
    """Hold a lock, without waiting for it; `busy` is the message if another process holds it."""
    with _lock_file(path, name) as handle:
        try:
            lock_handle(handle)
        except OSError as error:
            raise CollectionBusyError(busy) from error
        yield


@contextlib.contextmanager
def _lock_file(path: Path, name: str) -> Iterator[int]:
    with storing(path):
        file = (path / name).open("a")
    with file:
        yield file.fileno()


def lock_handle(handle: int) -> None:
    """Lock a file; raises OSError if another process holds the lock."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn errors of the disk, as LanceDB reports them, into a `CollectionError` that says what to do."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if "/_indices/" in str(error).replace("\\", "/"):
            raise CollectionError(
                f"An index of {path} is damaged. The rows are safe. Rebuild the index: birder index {path}"
            ) from error
        if "Resources exhausted" in str(error):
            raise CollectionError(
                f"Cannot write to {path}: LanceDB would have to hold more in memory at once than it may, which is "
                f"{os.environ.get(_MEMORY)} bytes. What was written before is safe. Set {_MEMORY} to more bytes, and "
                "run the same command again."
            ) from error
        raise CollectionError(
            f"Cannot write to {path}: {disk_says(error)}. What was written before is safe. "
            "Free some space, or make the folder writable, and run the same command again: it continues from there."
        ) from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn LanceDB's error where a version is removed while it is read (`birder tidy --now` does that) into ours."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if "not found" not in str(error).lower():
            raise
        raise CollectionError(
            f"A version of {path} was removed while it was being read, as birder tidy --now does. Open it again."
        ) from error


def disk_says(error: Exception) -> str:
    """The system's message, without the names of LanceDB's source files around it."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    said = re.search(r"([^:]*) \(os error \d+\)", text)
    return said[1].strip() if said else re.sub(r", \S+\.rs:\d+:\d+", "", text)
