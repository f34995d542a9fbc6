"""Photographs sorted into folders by what is on them: copies or hard links, and nothing is ever overwritten."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from birder.errors import BirderError, CollectionError, ConfigError
from birder.files import replacing
from birder.formats.names import namer
from birder.formats.snapshot import Snapshot
from birder.sources import readable, uri_to_path

_LONGEST = 120  # bytes of a folder's name; file systems allow 255
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # names that Windows keeps for devices


@dataclass
class Sorted:
    """What sorting did: files put in place, files that were there already, rows without a name, and what failed."""

    placed: int = 0
    there: int = 0
    nameless: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


def sort_into(snapshot: Snapshot, folder: Path, *, by: str = "label", link: bool = False) -> Sorted:
    """Put the photographs of a collection into folders named by what is on them.

    A file that is there with the same bytes is left as it is, so sorting again adds what is new; another of that name
    gets a number: `IMG_1 (2).jpg`. Several boxes of one photograph put it into several folders, once each.

    Parameters
    ----------
    snapshot
        The rows.
    folder
        Where the folders are made. Names become safe for every file system, and none leads out of it.
    by
        "label", "prediction", or a column of text.
    link
        Make hard links rather than copies; they need no room, and the same file system.

    Raises
    ------
    CollectionError, ConfigError, UnknownNameError
        There are no rows or names, as `namer` says, or the folder cannot be made.
    """
    naming = namer(snapshot.schema, by)
    if snapshot.count() == 0:
        raise CollectionError("There are no rows to sort.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        root = folder.resolve(strict=True)
    except OSError as error:
        raise ConfigError(f"Cannot make the folder {folder}: {error.strerror or error}. Name another place.") from error
    folders = _folders(snapshot, by)
    done = Sorted()
    placed: set[tuple[str, str]] = set()
    for table in snapshot.batches(list(dict.fromkeys(["uri", *naming.columns]))):
        for row in table.to_pylist():
            name = naming.name(row)
            if name is None:
                done.nameless += 1
                continue
            key = (folders[name.name], row["uri"].partition("#")[0])
            if key in placed:
                continue
            placed.add(key)
            try:
                if _place(_file(row["uri"]), root, key[0], link=link):
                    done.placed += 1
                else:
                    done.there += 1
            except (OSError, BirderError, ValueError) as error:
                done.failures.append((row["uri"], getattr(error, "strerror", None) or str(error)))
    return done


def folder_name(name: str) -> str:
    """A name as a folder may be called on every system: no separators, no control characters, not too long."""
    text = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())
    text = "".join(
        "_" if each in '<>:"/\\|?*' or unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") else each for each in text
    )
    text = text.encode()[:_LONGEST].decode("utf-8", "ignore").strip().rstrip(". ")
    text = f"_{text[1:]}" if text.startswith(".") else text  # hidden, or the folder above
    return f"{text}_" if _RESERVED.fullmatch(text) else text or "_"


def _folders(snapshot: Snapshot, by: str) -> dict[str, str]:
    """The folder of each name; two names that would share one, also where case does not count, get two."""
    naming = namer(snapshot.schema, by)
    names = {
        name.name
        for table in snapshot.batches(naming.columns)
        for name in map(naming.name, table.to_pylist())
        if name is not None
    }
    taken: set[str] = set()
    folders = {}
    for name in sorted(names):
        wanted = folder_name(name)
        free = next(each for each in _numbered(wanted, "") if each.casefold() not in taken)
        taken.add(free.casefold())
        folders[name] = free
    return folders


def _numbered(stem: str, ending: str) -> Iterator[str]:
    yield stem + ending
    for number in count(2):
        yield f"{stem} ({number}){ending}"


def _file(uri: str) -> Path:
    fragment = uri.partition("#")[2]
    if not uri.startswith("file://") or (fragment and not fragment.startswith("xywh=")):
        raise ConfigError("it is no file of its own on this machine")
    path = Path(uri_to_path(uri))
    if not stat.S_ISREG(path.stat().st_mode):
        raise ConfigError("not a regular file")
    return path


def _place(file: Path, root: Path, name: str, *, link: bool) -> bool:
    """Put a file into a folder below `root`; False if it is there already."""
    folder = root / name
    folder.mkdir(exist_ok=True)
    if folder.resolve() != folder:
        raise ConfigError(f"{readable(str(folder))} is a link to another place")
    for target in (folder / each for each in _numbered(_safe_stem(file), file.suffix)):
        if os.path.lexists(target):
            if target.is_file() and not target.is_symlink() and filecmp.cmp(file, target, shallow=False):
                return False
        elif _put(file, target, link=link):
            return True
    raise AssertionError("numbers do not end")


def _safe_stem(file: Path) -> str:
    return f"_{file.stem}" if file.name.startswith(".") else file.stem


def _put(file: Path, target: Path, *, link: bool) -> bool:
    """Link or copy, whole or not at all; False if something of that name has appeared meanwhile."""
    try:
        if link:
            os.link(file, target)
            return True
        with replacing(target, force=False) as draft:
            shutil.copy2(file, draft)
    except FileExistsError:  # the system's, or Birder's, which is one of them
        return False
    return True
