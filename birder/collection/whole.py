"""Whether a collection's tables are whole, and how a copy taken in the middle of writing becomes so again.

A version of a LanceDB table is a manifest that names data files, deletion files and indexes, all of them written before
it and never changed after. A program that copies the folder while it is written may list the data before the manifests:
then the newest manifests name files that the copy lacks, or has cut short. The versions before them are whole, and this
goes back to the newest of those. Layout: https://lance.org/format/table and lance's `protos/table.proto`.
"""

from __future__ import annotations

import contextlib
import struct
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from birder.collection.disk import connect, disk_says, locked
from birder.collection.journal import Journal
from birder.errors import CollectionError

_ATTEMPTS, _PAUSE = 50, 0.1
_HIGHEST = 2**64 - 1
_Value = int | memoryview


class TornCopyWarning(UserWarning):
    """A copy was taken, or the power failed, while a collection was written; what came last is not in it."""


class File(NamedTuple):
    """A file that a version needs: its path within the table's folder, its size in bytes (0 where unknown)."""

    path: str
    size: int


def make_whole(path: Path) -> None:
    """Take every table of a collection whose newest version lacks files back to its newest whole version.

    On a whole collection nothing is written: the newest manifest of each table is read, and its files are looked up.
    A `TornCopyWarning` says what was done. Files that are too many stay; `birder tidy` removes them.

    Raises
    ------
    CollectionError
        No version is whole, or the folder cannot be written to.
    """
    for table in sorted(path.glob("*.lance")):
        for _ in range(_ATTEMPTS):
            if not _is_torn(table):
                break
            # Of a collection in use, files may go between two looks: whoever writes holds the lock.
            with contextlib.suppress(_BusyError), _lock(path):
                if _is_torn(table):
                    _go_back(table)
                break
            time.sleep(_PAUSE)


def missing_files(table: Path, manifest: Path) -> list[str]:
    """The files, relative to the table's folder, that a version names and that are missing or cut short.

    Raises
    ------
    ValueError
        The manifest is cut short itself.
    """
    missing = []
    for file in _needed(manifest):
        try:
            size = (table / file.path).stat().st_size
        except OSError:
            missing.append(file.path)
            continue
        if size < max(file.size, 1):
            missing.append(file.path)
    return missing


def needed_files(table: Path) -> dict[str, int]:
    """The data files of a table's newest version, relative to its folder, and their sizes in bytes.

    Files that are missing, as those of a version that another process is just removing, are left out.
    """
    for _, manifest in _manifests(table):
        try:
            files = [file.path for file in _needed(manifest)]
        except (OSError, ValueError):
            continue
        found = {}
        for file in files:
            with contextlib.suppress(OSError):
                found[file] = (table / file).stat().st_size
        return found
    return {}


class _BusyError(Exception):
    pass


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    lock = contextlib.ExitStack()
    try:
        lock.enter_context(locked(path, patience=0.0))
    except CollectionError as error:
        if isinstance(error.__cause__, BlockingIOError):
            raise _BusyError from error
        raise CollectionError(
            f"{path} is a copy that was taken while the collection was written, and it cannot be mended where it lies: "
            "copy it to a place that you may write to, and open that."
        ) from error
    with lock:
        yield


def _manifests(table: Path) -> list[tuple[int, Path]]:
    """Versions and their manifests, newest first."""
    versions = table / "_versions"
    found = []
    for entry in versions.iterdir() if versions.is_dir() else ():
        if entry.suffix == ".manifest" and entry.stem.isdecimal():
            number = int(entry.stem)
            # 20 digits count down from the highest number, so that the newest is listed first
            found.append((_HIGHEST - number if len(entry.stem) == 20 else number, entry))
    return sorted(found, reverse=True)


def _is_torn(table: Path) -> bool:
    manifests = _manifests(table)
    if not manifests:
        return False
    try:
        return bool(missing_files(table, manifests[0][1]))
    except (OSError, ValueError):
        return True


def _go_back(table: Path) -> None:
    manifests = _manifests(table)
    unreadable = []
    whole = None
    for version, manifest in manifests:
        try:
            if not missing_files(table, manifest):
                whole = version
                break
        except ValueError:
            unreadable.append(manifest)
    if whole is None:
        raise CollectionError(
            f"{table.parent} is a copy that was taken while the collection was written, and no version of its table "
            f"{table.stem} is whole. Copy it again when nothing writes or tidies there."
        )
    try:
        for manifest in unreadable:
            manifest.rename(manifest.with_suffix(".unreadable"))
        opened = connect(table.parent).open_table(table.stem)
        opened.checkout(whole)
        opened.restore()
        Journal(table.parent).unfold()  # labels that were in later versions are written into the rows again
    except (OSError, RuntimeError, ValueError) as error:
        raise CollectionError(f"Cannot mend the copy {table.parent}: {disk_says(error)}. Copy it again.") from error
    warnings.warn(
        f"{table.parent} was copied while it was being written, or the power failed then: its table {table.stem} is "
        f"as of version {whole}, without {manifests[0][0] - whole} later ones. To complete it, run what wrote there "
        "again, or copy again.",
        TornCopyWarning,
        stacklevel=4,
    )


def _needed(manifest: Path) -> Iterator[File]:
    """The files that a version names, without those of indexes: searches that lack these say so and go on."""
    data = memoryview(manifest.read_bytes())
    if len(data) < 16 or bytes(data[-4:]) != b"LANC":
        raise ValueError(f"{manifest} is cut short")
    (position,) = struct.unpack_from("<Q", data, len(data) - 16)
    try:
        for number, value in _fields(_section(data, position)):
            if number == 2:
                yield from _of_fragment(value)
    except (struct.error, IndexError) as error:
        raise ValueError(f"{manifest} is damaged") from error


def _of_fragment(fragment: _Value) -> Iterator[File]:
    """`DataFragment`: 1 id, 2 files, 3 deletion file, 11 overlays (each with its file as 1)."""
    fragment_id, deletions = 0, None
    for number, value in _fields(fragment):
        if number == 1 and isinstance(value, int):
            fragment_id = value
        elif number == 2:
            yield from _data_file(value)
        elif number == 3:
            deletions = dict(_fields(value))
        elif number == 11:
            yield from _data_file(dict(_fields(value)).get(1, memoryview(b"")))
    if deletions is not None and 7 not in deletions:  # 7: it lies in another table's folder
        ending = "bin" if deletions.get(1, 0) == 1 else "arrow"
        yield File(f"_deletions/{fragment_id}-{deletions.get(2, 0)}-{deletions.get(3, 0)}.{ending}", 0)


def _data_file(message: _Value) -> Iterator[File]:
    """`DataFile`: 1 path, 6 size in bytes, 7 another table's folder."""
    file = dict(_fields(message))
    path, size = file.get(1), file.get(6, 0)
    if isinstance(path, memoryview) and isinstance(size, int) and 7 not in file:
        yield File(f"data/{bytes(path).decode()}", size)


def _section(data: memoryview, position: int) -> memoryview:
    (length,) = struct.unpack_from("<I", data, position)
    section = data[position + 4 : position + 4 + length]
    if len(section) != length:
        raise IndexError(position)
    return section


def _fields(message: _Value) -> Iterator[tuple[int, _Value]]:
    """Numbers and values of a protobuf message (https://protobuf.dev/programming-guides/encoding)."""
    if isinstance(message, int):
        raise IndexError(message)
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        length, at = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + length > len(message):
            raise IndexError(at)
        yield key >> 3, message[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
