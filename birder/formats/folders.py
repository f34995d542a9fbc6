"""Images sorted into folders by name: copies or hard links; nothing is ever overwritten."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import stat
import unicodedata
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from birder.collection.storage import Storage
from birder.errors import BirderError, ConfigError, write_error
from birder.files import replacing
from birder.formats.names import LABEL, namer
from birder.formats.snapshot import Snapshot
from birder.formats.table import ExportReport, FileCounts
from birder.sources import readable, uri_to_path

_LONGEST = 120  # bytes of a folder's name; file systems allow 255
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # names that Windows reserves for devices


def export(
    collection: Storage, rows: Snapshot, to: Path, *, force: bool, by: str = LABEL, link: bool = False
) -> ExportReport:
    """Put the images of a collection into folders by name; see `sort_into`. Nothing is replaced, `force` or not."""
    done = sort_into(rows, to, by=by, link=link)
    kind = "links" if link else "copies"
    return done.report(f"{kind} in {to}", "were there already", f"rows have no {by} and were left out.")


def sort_into(rows: Snapshot, folder: Path, *, by: str = LABEL, link: bool = False) -> FileCounts:
    """Put the images of a collection into folders by name.

    A file that exists there with the same bytes is left as it is, so sorting again adds what is new; another of that
    name gets a number: `IMG_1 (2).jpg`. Several boxes on one image put it into several folders, once each.

    Parameters
    ----------
    rows
        The rows.
    folder
        Where the folders are created. Names become safe for every file system, and none leads out of it.
    by
        "label", "prediction", or a column of text.
    link
        Make hard links rather than copies; they take no space, but must be on the same file system.

    Raises
    ------
    ConfigError, UnknownNameError
        Rows do not have such names; see `namer`.
    WriteError
        The folder cannot be created.
    """
    naming = namer(rows.schema, by)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        root = folder.resolve(strict=True)
    except OSError as error:
        raise write_error(folder, error) from error
    folders = _folders(rows, by)
    done = FileCounts()
    placed: set[tuple[str, str]] = set()
    for table in rows.batches(list(dict.fromkeys(["uri", *naming.columns]))):
        for row in table.to_pylist():
            name = naming.name(row)
            if name is None:
                done.left_out += 1
                continue
            key = (folders[name.name], row["uri"].partition("#")[0])
            if key in placed:
                continue
            placed.add(key)
            try:
                if _place(_file(row["uri"]), root, key[0], link=link):
                    done.written += 1
                else:
                    done.unchanged += 1
            except (OSError, BirderError, ValueError) as error:
                done.fail(row["uri"], error)
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


def _folders(rows: Snapshot, by: str) -> dict[str, str]:
    """The folder of each name; names that would share one, even where case does not count, get different ones."""
    naming = namer(rows.schema, by)
    names = {
        name.name
        for table in rows.batches(naming.columns)
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
        raise ConfigError("it is not a separate file on this machine")
    path = Path(uri_to_path(uri))
    if not stat.S_ISREG(path.stat().st_mode):
        raise ConfigError("not a regular file")
    return path


def _place(file: Path, root: Path, name: str, *, link: bool) -> bool:
    """Put a file into a folder below `root`; False if it exists already."""
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
    raise AssertionError("unreachable: there is always a next number")


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
