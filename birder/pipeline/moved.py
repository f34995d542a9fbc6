"""Images that moved: new files whose content is that of rows whose files are gone.

Embedded as they are, they would become new rows, and the labels would stay behind with the old ones. So `embed` refuses
them until their rows are relocated.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from birder.collection.relocate import contents_of
from birder.collection.storage import Storage
from birder.errors import ImagesMovedError, MovedFolder
from birder.pipeline.plan import Plan
from birder.sources import is_url, path_to_uri, readable_path, uri_to_path

_COMPARED = 8  # files of each moved folder, by their sha256


@dataclass(frozen=True)
class Moved:
    """Files of a folder that are in another one now.

    Attributes
    ----------
    old, new
        The folders, as beginnings of uris.
    files
        How many files were recognised.
    """

    old: str
    new: str
    files: int


def refuse_moved(collection: Storage, todo: Plan) -> None:
    """Refuse to embed files that are known as rows of another place.

    Raises
    ------
    ImagesMovedError
        Files have moved; it says where they were and where they are.
    """
    if moved := find_moved(collection, todo):
        folders = [MovedFolder(readable_path(each.old), readable_path(each.new), each.files) for each in moved]
        raise ImagesMovedError(collection.path, folders)


def find_moved(collection: Storage, todo: Plan) -> list[Moved]:
    """Find folders whose files moved: by names and sizes, confirmed by the sha256 of some.

    Parameters
    ----------
    collection
        Its rows are read, without embeddings, if there are new files, and so are a few of these files.
    todo
        A plan for it.

    Returns
    -------
    The folders, those with most files first. Copies do not count: their old files still exist.
    """
    new: dict[tuple[str, int], list[str]] = defaultdict(list)
    for item in todo.pending:
        if item.known or item.failed or item.stamp is None or item.stamp.bytes is None or is_url(item.source.path):
            continue
        file = path_to_uri(item.source.path)
        names = new[_name(file), item.stamp.bytes]
        if file not in names:
            names.append(file)
    if not new:
        return []
    pairs: dict[tuple[str, str], dict[str, tuple[str, str, str]]] = defaultdict(dict)
    for uri, sha256, old_file, files in _gone(collection, new):
        for file in files:
            old, place, rest = _apart(old_file, file)
            pairs[old, place].setdefault(rest, (file, uri, sha256))
    found = []
    for (old, place), files_below in pairs.items():
        if _same_contents(sorted(files_below.items())):
            folder = os.path.commonpath([f"/{rest}" for rest in map(os.path.dirname, files_below)]).rstrip("/")
            found.append(Moved(old + folder, place + folder, len(files_below)))
    return sorted(found, key=lambda each: (-each.files, each.old))


def _gone(collection: Storage, new: dict[tuple[str, int], list[str]]) -> Iterator[tuple[str, str, str, Sequence[str]]]:
    """Rows whose files are gone and may be among new ones: uri, sha256, the file's uri, the new files' uris."""
    there: dict[str, bool] = {}
    for batch in collection.scan(["uri", "sha256", "bytes"]):
        for uri, sha256, size in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            file = uri.partition("#")[0]
            if size is None or not file.startswith("file:///") or (files := new.get((_name(file), size))) is None:
                continue
            if file not in there:
                there[file] = os.path.lexists(uri_to_path(file))
            if not there[file]:
                yield uri, sha256, file, files


def _name(file: str) -> str:
    return file.rpartition("/")[2]


def _apart(old: str, new: str) -> tuple[str, str, str]:
    """The different beginnings of two uris, and the rest that they share."""
    first, second = old.split("/"), new.split("/")
    same = 0
    while same < min(len(first), len(second)) - 3 and first[-1 - same] == second[-1 - same]:
        same += 1
    return "/".join(first[:-same]), "/".join(second[:-same]), "/".join(first[-same:])


def _same_contents(files: Sequence[tuple[str, tuple[str, str, str]]]) -> bool:
    """Whether some of the new files, evenly spread, have the contents of the rows."""
    step = max(1, len(files) // _COMPARED)
    return all(
        sha256 in contents_of(file, [file + uri[len(uri.partition("#")[0]) :]]).values()
        for _, (file, uri, sha256) in files[::step]
    )
