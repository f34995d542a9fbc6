"""Relocating rows: files that moved to another folder, disk or server keep their rows, labels and embeddings.

Only uris change, and only after files in the new place have been compared with what was embedded.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from birder.collection.labels import Undone
from birder.collection.labels import undo as undo_label
from birder.collection.moving import MovingRow, find_rows, make_move
from birder.collection.places import place_of, read_places
from birder.collection.schema import IMPORTED
from birder.collection.storage import Storage
from birder.errors import BirderError, CollectionError, ConfigError
from birder.sources import Source, image_of, is_url, readable_path, stamp_of, uri_to_path
from birder.sources.find import find_sources
from birder.sources.read import load_source
from birder.sources.source import box_of
from birder.sources.video import frame_of

_SAMPLE = 50  # rows

Check = Literal["sample", "all"]


@dataclass(frozen=True)
class Relocated:
    """What was done.

    Attributes
    ----------
    act
        Its id, for `undo`.
    old, new
        The places, as beginnings of uris.
    rows, failures
        How many rows and failures got other uris.
    checked
        How many rows' files were compared by size and sha256.
    """

    act: str
    old: str
    new: str
    rows: int
    failures: int
    checked: int


def relocate(
    storage: Storage,
    old: str | Path,
    new: str | Path,
    *,
    check: Check = "sample",
    by: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Relocated:
    r"""Give the rows whose files were in one place the uris that these have in another.

    Ids, labels, predictions, the map and embeddings stay. Failures, roots and shards that were gone through follow.

    Parameters
    ----------
    storage
        The collection.
    old, new
        Folders, files, or URLs; Windows paths (`D:\photos`) are understood on any system.
    check
        Which files to compare, by size and sha256, with what was embedded: a sample of 50, evenly among the rows by
        uri, or all.
    by
        Who does it.
    progress
        Called with the number of files compared so far, and their total.

    Raises
    ------
    ConfigError
        The two places are the same.
    CollectionError
        No row is in the old place, a file is missing in the new one or differs, or a row already has one of the new
        uris. Nothing is changed then.
    """
    old_place, new_place = place_of(old), place_of(new)
    if old_place == new_place:
        raise ConfigError(f"{old} and {new} are the same place: name where the images were, and where they are now.")
    with storage.running():
        found = find_rows(storage, old_place, new_place)
        rows = found.rows if check == "all" else _evenly(found.rows, _SAMPLE)
        _check_files(storage, rows, new_place, progress)
        with storage.writing():
            move = make_move(storage, found, old_place, new_place, by)
    return Relocated(move.act, old_place, new_place, move.rows, len(move.failures), len(rows))


def undo(
    storage: Storage, act: str | None = None, *, whose: tuple[str | None] | None = None, by: str | None = None
) -> Undone:
    """Undo an act of labelling, or a relocation: its rows get their former uris again.

    Rows that were embedded in the new place since a relocation go back with the others.

    Parameters
    ----------
    act
        The act; default: the last act of labelling that is not undone. A relocation has to be named.
    whose
        Only acts of labelling of this person: (name,), or (None,) for those without a name.
    by
        Who undoes a relocation.

    Raises
    ------
    CollectionError
        The act is unknown or already undone, or a row has one of the former uris by now.
    """
    if all(move.act != act for move in read_places(storage.path).moves):
        return undo_label(storage, act, whose=whose)
    with storage.running(), storage.writing():
        moves = read_places(storage.path).moves
        if any(move.undoes == act for move in moves):
            raise CollectionError(f"The relocation {act} has already been undone.")
        move = next(move for move in moves if move.act == act)
        found = find_rows(storage, move.new, move.old, move.there, move.irregular)
        make_move(storage, found, move.new, move.old, by, undoes=move.act)
    return Undone(move.act, len(found.rows), 0)


def _evenly(rows: Sequence[MovingRow], count: int) -> Sequence[MovingRow]:
    """A sample of the rows, with the first and the last."""
    if len(rows) <= count:
        return rows
    return [rows[number * (len(rows) - 1) // (count - 1)] for number in range(count)]


def _check_files(
    storage: Storage, rows: Sequence[MovingRow], new: str, progress: Callable[[int, int], None] | None
) -> None:
    """Refuse files that are not in the new place, or not the ones that were embedded."""
    files: dict[str, list[MovingRow]] = defaultdict(list)
    for row in rows:
        files[row.new_uri.partition("#")[0]].append(row)
    imported = storage.model.engine == IMPORTED  # whose rows do not say what their files hold
    wrong: list[str] = []
    done = 0
    for file, those in files.items():
        uris = [row.new_uri for row in those]
        stamp = stamp_of(_source(file))
        contents = {} if imported else contents_of(file, uris)
        for row in those:
            same_size = stamp is not None and row.bytes in (None, stamp.bytes)
            if not same_size or not (imported or contents.get(row.new_uri) == row.sha256):
                wrong.append(row.new_uri)
        done += len(those)
        if progress is not None:
            progress(done, len(rows))
    if wrong:
        raise CollectionError(
            f"Nothing was changed: {len(wrong):,} of {len(rows):,} files that were checked are not in "
            f"{readable_path(new)}, or differ from those that were embedded, such as {readable_path(wrong[0])}."
        )


def _source(file: str) -> Source:
    return Source(file if is_url(file) else uri_to_path(file))


def _content(frame: Source) -> str:
    """The sha256 of a frame of a video, or of a box of one."""
    whole = hashlib.sha256(load_source(frame).data).hexdigest()
    return whole if frame.box is None else hashlib.sha256(f"{whole}#{frame.box.fragment}".encode()).hexdigest()


def _of_box(whole: str, uri: str) -> str:
    """The sha256 of what a uri names of an image with a sha256."""
    box = box_of(uri.partition("#")[2])
    return whole if box is None else hashlib.sha256(f"{whole}#{box.fragment}".encode()).hexdigest()


def contents_of(file: str, uris: Collection[str]) -> dict[str, str]:
    """The sha256 by which rows know what is in a file.

    Parameters
    ----------
    file
        Its uri.
    uris
        Of rows: the file's own, or with a box or a shard's part behind #.

    Returns
    -------
    By uri; what cannot be read is left out.
    """
    fragments = {uri: uri.partition("#")[2] for uri in uris}
    try:
        source = _source(file)
        if all(not each or each.startswith("xywh=") for each in fragments.values()):
            whole = hashlib.sha256(load_source(source).data).hexdigest()
            return {
                uri: hashlib.sha256(f"{whole}#{box}".encode()).hexdigest() if box else whole
                for uri, box in fragments.items()
            }
        frames = [frame for each in fragments.values() if (frame := frame_of(source.path, each)) is not None]
        if frames:
            return {frame.uri: _content(frame) for frame in frames}
        parts: dict[str, list[str]] = defaultdict(list)
        for uri in uris:
            parts[image_of(uri)].append(uri)
        return {
            uri: _of_box(hashlib.sha256(load_source(member).data).hexdigest(), uri)
            for shard in find_sources([source.path])
            if shard.members is not None
            for member in shard.members.sources()
            if member.problem is None
            for uri in parts.get(member.uri, ())
        }
    except (OSError, BirderError):
        return {}
