"""A consistent copy of a collection that may be in use, which later runs bring up to date.

LanceDB never changes a file of a table once it is written, and a version of a table is a manifest that names such
files. So a backup chooses the newest version of each table while nobody commits, keeps others from removing it
(`disk.keeping_versions`), and copies the files that the destination lacks, while the collection goes on being used.
Once all of them are on disk, the journal and the manifests follow, the manifest of the rows last. Between any two of
these steps the destination is the earlier backup, with at most labels and failures of the new one.

The destination is itself a collection. Opening it changes nothing in it, since no label is pending at its version; to
restore it, copy it anywhere. `backup.json` in it says what it is a copy of.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from birder.collection.disk import connect, has_table, keeping_versions, storing
from birder.collection.journal import FILE as JOURNAL
from birder.collection.storage import Storage
from birder.collection.vector_files import FOLDER
from birder.collection.whole import BACKUP_RECORD, is_torn, manifests
from birder.errors import CollectionError, FileExistsError
from birder.files import DRAFT_ENDING, flush_folder, replacing

_IDENTITY = "collection.id"
_CHUNK = 8 << 20
_UNFINISHED = (".lock", DRAFT_ENDING, ".unreadable")
_VERSIONS, _REFERENCES = "_versions", "_refs"


@dataclass(frozen=True)
class Backup:
    """What a run of `backup` did.

    Attributes
    ----------
    path
        The backup's folder.
    rows, failures
        How many are in it.
    copied_files, copied_bytes
        What was copied this time, without what an earlier backup had already.
    """

    path: Path
    rows: int
    failures: int
    copied_files: int
    copied_bytes: int


@dataclass(frozen=True)
class _Snapshot:
    """A collection at one moment: the version number and manifest of each table, and the size of the journal."""

    tables: dict[str, tuple[int, Path]]
    files: dict[Path, int]  # of the tables and the thumbnails, relative to the collection, with sizes in bytes
    journal: int | None


@dataclass
class _Record:
    """What `backup.json` says: whose backup it is, and the states of it that a backup made."""

    collection: str
    source: str
    versions: dict[str, list[int]] = field(default_factory=dict)
    journal: list[int] = field(default_factory=list)
    finished: str | None = None


def backup(
    collection: Storage | str | Path, dest: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> Backup:
    """Copy a collection as it is now, while others may go on adding images and labels to it.

    Parameters
    ----------
    collection
        The collection, or its folder.
    dest
        A new or empty folder; or one with an earlier backup of this collection, to which only what is new is copied.
        Until a run has copied everything, the earlier backup stays as it was; the next run completes an interrupted
        one.
    progress
        Called with the bytes that have been copied, and the bytes that are to be copied.

    Returns
    -------
    What was copied.

    Raises
    ------
    FileExistsError
        The folder has something else in it, or a backup that was changed since it was made.
    CollectionBusyError
        Another process is tidying the collection, or backing it up.
    CollectionError
        The collection does not exist, one of the folders contains the other or is not writable, or a disk is full.
    """
    if not isinstance(collection, Storage):
        collection = Storage.open(collection)
    source, target = collection.path.resolve(), Path(dest).resolve()
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise CollectionError(f"{collection.path} and {dest} must not contain each other. Name another folder.")
    with keeping_versions(source):
        earlier = _earlier(target, _identity(source), str(source))
        with collection.nothing_pending() as journal:
            taken = _Snapshot({each.stem: manifests(each)[0] for each in _tables(source)}, {}, journal)
        taken.files.update(_files(source, taken))
        with storing(target):
            target.mkdir(parents=True, exist_ok=True)
            _write_record(target, earlier)
            copied = _copy_files(source, target, taken, progress or (lambda done, total: None))
            _switch(source, target, taken, earlier)
        rows, failures = (_count(target, name) for name in ("images", "failures"))
        with storing(target):
            _remove_unneeded(target, taken)
            versions = {name: [number] for name, (number, _) in taken.tables.items()}
            finished = datetime.now(UTC).isoformat(timespec="seconds")
            _write_record(target, _Record(earlier.collection, str(source), versions, [taken.journal or 0], finished))
    return Backup(Path(dest), rows, failures, *copied)


def _identity(source: Path) -> str:
    """What distinguishes a collection from another one in the same place, made at its first backup."""
    file = source / _IDENTITY
    with storing(source):
        if not file.exists():
            _write(file, str(uuid.uuid4()).encode())
        return file.read_text("utf-8")


def _earlier(target: Path, identity: str, source: str) -> _Record:
    """The record of the backup in a folder, or a new one for an empty folder.

    Raises
    ------
    FileExistsError
        The folder has something else in it.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return _Record(identity, source)
    try:
        record = _Record(**json.loads((target / BACKUP_RECORD).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise FileExistsError(f"{target} is neither empty nor a backup. Name another folder.") from error
    if record.collection != identity:
        raise FileExistsError(f"{target} is a backup of another collection, {record.source}. Name another folder.")
    changed = any(
        manifests(target / f"{name}.lance")[0][0] not in record.versions.get(name, [])
        for name in ("images", "failures")
        if has_table(target, name)
    )
    journal = target / JOURNAL
    if changed or (journal.exists() and journal.stat().st_size not in record.journal):
        raise FileExistsError(
            f"{target} has been changed since it was backed up to, and a backup would undo that. Name another folder."
        )
    return record


def _tables(path: Path) -> list[Path]:
    return sorted(each for each in path.glob("*.lance") if has_table(path, each.stem))


def _files(source: Path, taken: _Snapshot) -> Iterator[tuple[Path, int]]:
    """The files below the folders of a collection that are never changed, with their sizes in bytes.

    They include all that the version of a table needs, and files of versions that are not copied; not what is derived
    from the table to make searching fast.
    """
    for folder in sorted(each for each in source.iterdir() if each.is_dir() and each.name != FOLDER):
        is_table = folder.suffix == ".lance"
        if is_table and folder.stem not in taken.tables:
            continue
        for below, folders, names in os.walk(folder):
            if is_table and Path(below) == folder:
                folders[:] = [name for name in folders if name not in (_VERSIONS, _REFERENCES)]
            for name in names:
                file = Path(below, name)
                if not name.startswith(".") and file.suffix not in _UNFINISHED and (size := _size(file)) is not None:
                    yield file.relative_to(source), size


def _copy_files(source: Path, target: Path, taken: _Snapshot, progress: Callable[[int, int], None]) -> tuple[int, int]:
    """Copy what the target lacks, and the small files that may have changed; how many, and their bytes."""
    missing = {file: size for file, size in taken.files.items() if _size(target / file) != size}
    for each in source.iterdir():
        if each.is_file() and each.name not in (JOURNAL, BACKUP_RECORD) and each.suffix not in _UNFINISHED:
            missing[Path(each.name)] = each.stat().st_size
    total, done = sum(missing.values()), 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    progress(0, total)
    for file in missing:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # of a commit that failed: no version needs it; see `_count`
            _copy(source / file, target / file, tell=tell)
    for folder in sorted({target / parent for file in taken.files for parent in file.parents}, reverse=True):
        flush_folder(folder)
    return len(missing), done


def _switch(source: Path, target: Path, taken: _Snapshot, earlier: _Record) -> None:
    """Make the target a copy of the snapshot, once it has all its files."""
    numbers = {name: number for name, (number, _) in taken.tables.items()}
    either = {name: [*earlier.versions.get(name, []), number] for name, number in numbers.items()}
    sizes = [*earlier.journal, taken.journal or 0]
    _write_record(target, _Record(earlier.collection, str(source), either, sizes, earlier.finished))
    if taken.journal is not None:
        _copy(source / JOURNAL, target / JOURNAL, size=taken.journal)
        flush_folder(target)
    for name in sorted(taken.tables, key=lambda name: name == "images"):
        manifest = taken.tables[name][1]
        versions = target / f"{name}.lance" / _VERSIONS
        versions.mkdir(parents=True, exist_ok=True)
        _copy(manifest, versions / manifest.name)
        flush_folder(versions)
        for file in versions.iterdir():
            if file.name != manifest.name:
                file.unlink()
        for folder in (versions, versions.parent, target):
            flush_folder(folder)


def _count(target: Path, name: str) -> int:
    """The number of rows in a table of a backup that has all its files."""
    if is_torn(target / f"{name}.lance"):
        raise CollectionError(
            f"The backup {target} has no whole table {name}. Check its disk, and run the command again."
        )
    return int(connect(target).open_table(name).count_rows())


def _remove_unneeded(target: Path, taken: _Snapshot) -> None:
    """Remove what only the tables of the earlier backup had, and files that were not copied to the end."""
    for table in target.glob("*.lance"):
        if table.stem not in taken.tables:
            shutil.rmtree(table)
    for below, _, names in os.walk(target, topdown=False):
        folder = Path(below).relative_to(target)
        in_table = folder.parts and folder.parts[0].endswith(".lance") and folder.parts[1:2] != (_VERSIONS,)
        for name in names:
            if name.endswith(DRAFT_ENDING) or (in_table and folder / name not in taken.files):
                (target / folder / name).unlink()
        if in_table and not any((target / folder).iterdir()):
            (target / folder).rmdir()


def _write_record(target: Path, record: _Record) -> None:
    _write(target / BACKUP_RECORD, json.dumps(asdict(record), indent=1).encode())


def _write(file: Path, data: bytes) -> None:
    with replacing(file, durable=True) as draft:
        draft.write_bytes(data)


def _copy(source: Path, target: Path, *, size: int | None = None, tell: Callable[[int], None] | None = None) -> None:
    """Copy a file, or its first `size` bytes, so that the target is never incomplete; its folder is not flushed yet."""
    left = source.stat().st_size if size is None else size
    with replacing(target) as draft, source.open("rb") as read, draft.open("wb") as written:
        while left and (chunk := read.read(min(_CHUNK, left))):
            written.write(chunk)
            left -= len(chunk)
            if tell is not None:
                tell(len(chunk))
        written.flush()
        os.fsync(written.fileno())


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None
