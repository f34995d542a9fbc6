"""Moving rows to other uris, so that an interrupted move can be finished.

A move is written down in `places.json` before its first commit, and finished by the next writer if it was interrupted.
The uris of all rows change in one commit, so that readers see either the old ones or the new ones.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

import pyarrow as pa

from birder.collection.disk import storing
from birder.collection.journal import now
from birder.collection.places import Move, Places, below, moved, read_places, write_places
from birder.errors import CollectionError
from birder.sources import readable_path


class Movable(Protocol):
    """What a move needs of `birder.collection.storage.Storage`, which finishes moves itself."""

    path: Path

    @property
    def version(self) -> int:
        """The version of the rows."""

    @property
    def failures_version(self) -> int:
        """The version of the failures."""

    def scan(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of all rows."""

    def failed_uris(self) -> list[str]:
        """The uris of the failures."""

    def update_uris(self, rows: pa.Table) -> None:
        """Give rows other uris, in one commit."""

    def rename_failures(self, uris: Mapping[str, str], version: int) -> None:
        """Give failures other uris."""

    def forget_shards(self, places: Sequence[str]) -> None:
        """Forget the shards in some places."""


class MovingRow(NamedTuple):
    """A row that moves: its id, uri and new uri, and what its file must be."""

    id: str
    uri: str
    new_uri: str
    sha256: str
    bytes: int | None


class MovingRows(NamedTuple):
    """The rows to be moved, by uri; and uris that rows have in the new place, or keep in the old one."""

    rows: list[MovingRow]
    there: frozenset[str]
    stays: frozenset[str]


def finish(storage: Movable) -> None:
    """Finish a relocation that was begun; within `writing` only, before anything else is committed."""
    places = read_places(storage.path)
    move = places.pending
    if move is None:
        return
    with storing(storage.path):
        if storage.version == move.version:  # else the rows have their new uris
            found = find_rows(
                storage, move.old, move.new, move.stays, {old: new for new, old in move.irregular.items()}
            )
            ids, uris = [row.id for row in found.rows], [row.new_uri for row in found.rows]
            table = pa.table({"id": pa.array(ids, pa.string()), "uri": pa.array(uris, pa.string())})
            storage.update_uris(table)
        storage.rename_failures(move.failures, move.failures_version)
        storage.forget_shards([move.old, move.new])
        roots = [root if below(root, move.old) is None else moved(root, move.old, move.new) for root in places.roots]
        done = replace(move, failures={})
        write_places(storage.path, Places(tuple(dict.fromkeys(roots)), (*places.moves, done), None))


def find_rows(
    storage: Movable,
    old: str,
    new: str,
    stays: frozenset[str] = frozenset(),
    irregular: Mapping[str, str] = MappingProxyType({}),
) -> MovingRows:
    """The rows under a place, but for those that stay, with the uris that they get; refuse uris that others have."""
    rows: list[MovingRow] = []
    others: set[str] = set()
    for batch in storage.scan(["id", "uri", "sha256", "bytes"]):
        for id_, uri, sha256, size in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if uri in stays or below(uri, old) is None:
                others.add(uri)
            else:
                rows.append(MovingRow(id_, uri, irregular.get(uri) or moved(uri, old, new), sha256, size))
    if not rows:
        roots = read_places(storage.path).roots
        known = f" Images were embedded from {', '.join(map(readable_path, roots))}." if roots else ""
        raise CollectionError(f"No row of {storage.path} is in {readable_path(old)}; check the folder's name.{known}")
    uris = {row.new_uri for row in rows}
    if taken := sorted(uris & others):
        raise CollectionError(
            f"Nothing was changed: {len(taken):,} of {len(rows):,} rows would get the uri of another row, such as "
            f"{readable_path(taken[0])}. These images were embedded at their new place already."
        )
    if len(uris) < len(rows):
        raise CollectionError(f"Nothing was changed: rows in {readable_path(old)} differ only in upper and lower case.")
    there = frozenset(uri for uri in others if below(uri, new) is not None)
    return MovingRows(sorted(rows, key=lambda row: row.uri), there, stays)


def make_move(
    storage: Movable, found: MovingRows, old: str, new: str, by: str | None, undoes: str | None = None
) -> Move:
    """Write down the move and make it; within `writing` only."""
    failures = {uri: moved(uri, old, new) for uri in storage.failed_uris() if below(uri, old) is not None}
    irregular = {
        row.new_uri: row.uri
        for row in found.rows
        if moved(row.new_uri, new, old) != row.uri or moved(row.uri, old, new) != row.new_uri
    }
    move = Move(
        act=str(uuid.uuid4()),
        at=now(),
        by=by,
        old=old,
        new=new,
        rows=len(found.rows),
        version=storage.version,
        failures=failures,
        failures_version=storage.failures_version,
        undoes=undoes,
        there=found.there,
        stays=found.stays,
        irregular=irregular,
    )
    with storing(storage.path):
        write_places(storage.path, replace(read_places(storage.path), pending=move))
    finish(storage)
    return move
