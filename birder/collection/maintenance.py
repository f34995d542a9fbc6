"""Keeping a collection's folder small and fast: labels folded, small pieces joined, former versions removed."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from birder.collection.disk import connect, has_table, keeping_versions, storing
from birder.collection.index import ensure_index
from birder.collection.storage import Storage
from birder.files import DRAFT_ENDING

if TYPE_CHECKING:
    from lancedb.table import Table

KEEP = timedelta(hours=1)
"""The age up to which former versions are kept: processes that opened one since then can go on reading."""

_THUMBNAIL = re.compile(r"([0-9a-f]{64})-\d+\.jpg")
_MUCH_BYTES = 500_000_000
_MANY_PIECES = 200
_NONE = timedelta(milliseconds=1)  # 0 makes LanceDB warn of what the caller has decided
_UNFINISHED = 3600.0  # seconds after which an unfinished file counts as abandoned


@dataclass(frozen=True)
class Tidied:
    """What was done: size of the folder before and after in bytes, versions of its tables removed, thumbnails too."""

    bytes_before: int
    bytes_after: int
    versions_removed: int
    thumbnails_removed: int


def tidy(collection: Storage, *, keep: timedelta = KEEP) -> Tidied:
    """Join small pieces, bring indexes up to date, remove former versions, and thumbnails of images that are gone.

    Labels that are only in the journal so far are written into the rows; nothing else in them changes. A process that
    has a removed version open gets an error when it next reads, and must open the collection again.

    Parameters
    ----------
    collection
        The collection.
    keep
        Former versions younger than this stay; 0 removes all.

    Returns
    -------
    What it saved.

    Raises
    ------
    CollectionError
        Another process is adding images, or the folder cannot be written to.
    """
    before = _size(collection.path)
    collection.fold_labels()
    removed = 0
    with collection.running(), keeping_versions(collection.path), collection.writing(), storing(collection.path):
        database = connect(collection.path)
        for name in _tables(collection.path):
            table = database.open_table(name)
            former = _versions(table)
            # What is joined becomes a new version: in a second pass the pieces go with the version before.
            for _ in range(2):
                table.optimize(cleanup_older_than=max(keep, _NONE))
            removed += len(former - _versions(table))
        collection.see_latest()
        ensure_index(collection)
        thumbnails = _remove_thumbnails(collection)
    return Tidied(before, _size(collection.path), removed, thumbnails)


class Worth(NamedTuple):
    """What tidying would save: bytes of data that the newest version of the rows does not need; pieces to be joined."""

    bytes: int
    pieces: int

    @property
    def is_much(self) -> bool:
        """Whether tidying is worthwhile."""
        return self.bytes >= _MUCH_BYTES or self.pieces >= _MANY_PIECES


def worth_tidying(path: Path) -> Worth:
    """What tidying a collection's rows would save.

    Parameters
    ----------
    path
        The collection's folder.
    """
    statistics: Any = connect(path).open_table("images").stats()  # a dict, whatever its annotation says
    size = _size(path / "images.lance")
    return Worth(max(0, size - statistics["total_bytes"]), statistics["fragment_stats"]["num_fragments"])


def _tables(path: Path) -> list[str]:
    """The complete tables, without the remains of an interrupted creation."""
    return sorted(each.stem for each in path.glob("*.lance") if has_table(path, each.stem))


def _versions(table: Table) -> set[int]:
    return {int(version["version"]) for version in table.list_versions()}


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
        except OSError:
            continue  # a thumbnail that a server has just stored
    return total


def _remove_thumbnails(collection: Storage) -> int:
    """Remove thumbnails of contents that no row has; those are made again if they are needed after all."""
    folder = collection.path / "thumbnails"
    if not folder.is_dir() or folder.is_symlink():
        return 0
    contents: set[str] = set()
    for batch in collection.scan(["sha256"]):
        contents.update(batch["sha256"].to_pylist())
    count = 0
    for path in list(folder.glob("??/*")):
        named = _THUMBNAIL.fullmatch(path.name)
        left = path.name.endswith(DRAFT_ENDING) and time.time() - path.stat().st_mtime > _UNFINISHED
        if left or (named is not None and named[1] not in contents):
            path.unlink(missing_ok=True)
            count += 1
    return count
