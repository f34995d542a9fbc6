"""Whether the tables of a collection have all their files, and what is done if the newest version of one does not.

A version of a LanceDB table is a manifest that names data files and deletion files, all of them written before it and
never changed after. A program that copies the folder while it is written may list the data before the manifests: then
the newest manifests name files that the copy lacks, or has only in part. A power cut in the middle of a commit leaves
the same. The versions before them are whole, and the table goes back to the newest of those. `birder backup` makes
copies that need none of this.

Opening a collection takes a quick look: are the data files that the newest manifest names complete, and does LanceDB
find the deletion files? Only if something is missing, LanceDB reads the rows of one version after the other, so that
its own reader decides which one is whole.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from birder.collection.disk import connect, disk_says, locked
from birder.collection.journal import Journal
from birder.collection.schema import VECTORS
from birder.errors import CollectionBusyError, CollectionError, TornCopyError

if TYPE_CHECKING:
    from lancedb.table import Table

_ATTEMPTS, _PAUSE = 50, 0.1
_HIGHEST_VERSION = 2**64 - 1
_MAGIC = b"LANC"
BACKUP_RECORD = "backup.json"
"""What is in the folder of a backup as long as it is one; see `birder.collection.backup`."""
_seen_whole: dict[str, tuple[str, int, int]] = {}
"""Table -> its newest manifest when it was last found to be whole in this process."""


class TornCopyWarning(UserWarning):
    """A collection was copied, or the power failed, while it was written; its last commits are missing."""


def make_whole(path: Path) -> None:
    """Take every table of a collection whose newest version lacks files back to its newest whole version.

    A whole collection is only read. A `TornCopyWarning` says what was done. Files that no version needs any more stay;
    `birder tidy` removes them.

    Raises
    ------
    TornCopyError
        No version is whole, or the folder cannot be written to.
    """
    for table in sorted(path.glob("*.lance")):
        for _ in range(_ATTEMPTS):
            if not is_torn(table):
                break
            # In a collection that is in use, files may be removed between two looks: the writer holds the lock.
            with contextlib.suppress(CollectionBusyError), _repairing(path):
                if is_torn(table):
                    _go_back(table)
                break
            time.sleep(_PAUSE)


def refuse_unfinished_backup(path: Path) -> None:
    """Refuse (`TornCopyError`) a folder without a collection that is a first backup which was interrupted."""
    if (path / BACKUP_RECORD).exists():
        raise TornCopyError(f"{path} is a backup that was interrupted. Complete it: run birder backup again.")


@contextlib.contextmanager
def _repairing(path: Path) -> Iterator[None]:
    """Hold the lock for writing, or say why a torn copy cannot be repaired."""
    lock = contextlib.ExitStack()
    try:
        lock.enter_context(locked(path, patience=0.0))
    except CollectionBusyError:
        raise
    except CollectionError as error:
        raise TornCopyError(
            f"{path} was copied while it was written, and it cannot be repaired in place: "
            f"{disk_says(error)} Make a consistent copy of the original with: birder backup ORIGINAL DEST"
        ) from error
    with lock:
        yield


def manifests(table: Path) -> list[tuple[int, Path]]:
    """The versions of a table and their manifests, newest first; `table` is its folder."""
    versions = table / "_versions"
    found = []
    for entry in versions.iterdir() if versions.is_dir() else ():
        if entry.suffix == ".manifest" and entry.stem.isdecimal():
            number = int(entry.stem)
            # Names of 20 digits count down from the highest number, so that the newest is listed first.
            found.append((_HIGHEST_VERSION - number if len(entry.stem) == 20 else number, entry))
    return sorted(found, reverse=True)


def is_torn(table: Path) -> bool:
    """Whether the newest version of a table, given by its folder, lacks files."""
    found = manifests(table)
    if not found:
        return False  # the remains of a table whose creation was interrupted
    newest = found[0][1]
    try:
        status = newest.stat()
        state = (newest.name, status.st_mtime_ns, status.st_ino)
        if _seen_whole.get(str(table)) == state:
            return False
        data = newest.read_bytes()
        if not data.endswith(_MAGIC):
            return True
        if not all(_is_complete(table / "data" / name) for name in _named(data)):
            return True
        opened = connect(table.parent).open_table(table.stem)
        opened.count_rows("_rowaddr < 0")  # it is true of no row, but LanceDB reads every deletion file to tell
    except (OSError, RuntimeError, ValueError):
        return True
    _seen_whole[str(table)] = state
    return False


def _named(manifest: bytes) -> Iterator[str]:
    """The data files that a manifest names."""
    message = manifest[int.from_bytes(manifest[-16:-8], "little") :]  # other names may stand before it
    # protobuf writes a path as the number of its field (1), the type of a text (2), its length, and the text
    for found in re.finditer(rb"\x0a(.)([\w-]+\.lance)", message, re.DOTALL):
        if found[1][0] == len(found[2]):
            yield found[2].decode()


def _is_complete(file: Path) -> bool:
    """Whether a file of Lance's is complete."""
    with file.open("rb") as opened:
        opened.seek(-min(len(_MAGIC), file.stat().st_size), os.SEEK_END)
        return opened.read() == _MAGIC


def _go_back(table: Path) -> None:
    """Restore the newest version whose rows can be read, unless that is the newest one."""
    found = manifests(table)
    for _, manifest in found:
        with contextlib.suppress(FileNotFoundError):
            if not manifest.read_bytes().endswith(_MAGIC):  # LanceDB opens no other version while it is there
                manifest.rename(manifest.with_suffix(".unreadable"))
    readable = manifests(table)
    try:
        for version, _ in readable:
            opened = connect(table.parent).open_table(table.stem)
            opened.checkout(version)
            if not _can_be_read(opened):
                continue
            if version == found[0][0]:
                return
            opened.restore()
            Journal(table.parent).unfold()  # labels that were in later versions are written into the rows again
            break
        else:
            raise TornCopyError(
                f"{table.parent} was copied while it was written, and no version of its table {table.stem} is "
                f"complete. Make a consistent copy of the original with: birder backup ORIGINAL DEST"
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise TornCopyError(
            f"{table.parent} was copied while it was written, and it cannot be repaired: {disk_says(error)}. "
            "Make a consistent copy of the original with: birder backup ORIGINAL DEST"
        ) from error
    warnings.warn(
        f"{table.parent} was copied while it was written, or the power failed then: its table {table.stem} is as of "
        f"version {version}, without {found[0][0] - version} later ones. To complete it, run the last commands again, "
        "or make a consistent copy of the original with: birder backup ORIGINAL DEST",
        TornCopyWarning,
        stacklevel=4,
    )


def _can_be_read(table: Table) -> bool:
    """Whether LanceDB can read all rows of a version; every data file has other columns than the vectors."""
    try:
        columns = [name for name in table.schema.names if name not in VECTORS]
        for _ in table.search().select(columns).to_batches():
            pass
    except (OSError, RuntimeError, ValueError):
        return False
    return True
