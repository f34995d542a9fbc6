"""Which files hold the rows of a version of a table: what tells whether something derived from them still fits.

A version is a manifest, a protobuf message at the end of a file. It lists fragments; a row's address is the number of
its fragment and its place in it. A fragment names its data files, which never change: a column that is written anew
gets another file, and the former one no longer counts for it. Deleted rows are in a deletion file. LanceDB's interface
for Python gives none of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from birder.collection.whole import manifests

_MAGIC = b"LANC"
_VARINT, _LONG, _BYTES, _INT = 0, 1, 2, 5


@dataclass(frozen=True)
class Fragment:
    """One part of a table.

    Attributes
    ----------
    number
        The upper 32 bits of the addresses of its rows.
    rows
        How many it was written with, deleted ones included.
    file
        The data file that has the column asked for.
    deletions
        What distinguishes its deletion file; "" if no row is deleted.
    """

    number: int
    rows: int
    file: str
    deletions: str


def fragments(table: Path, version: int, column: str) -> list[Fragment] | None:
    """The fragments of a version of a table.

    Parameters
    ----------
    table
        The folder of the table.
    version
        The number of the version.
    column
        The column whose data files are named.

    Returns
    -------
    The fragments in their order; None if the manifest cannot be read, or does not say where the column is.
    """
    try:
        message = _manifest(table, version)
        field = next(_number(each, 3) for each in _messages(message, 1) if _text(each, 2) == column)
        return [_fragment(each, field) for each in _messages(message, 2)]
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def column_files(table: Path, version: int) -> dict[int, dict[str, str]] | None:
    """What holds each column of each fragment of a version of a table.

    Returns
    -------
    Number of the fragment -> name of the column -> a text that is another one as soon as any of its values there is;
    None if the manifest cannot be read.
    """
    try:
        message = _manifest(table, version)
        tops: dict[int, tuple[str, int]] = {}  # of each field, nested ones too: the column, and its own number
        for each in _messages(message, 1):
            number, parent = _number(each, 3), _number(each, 4)
            tops[number] = tops.get(parent, (_text(each, 2), number))
        found = {}
        for fragment in _messages(message, 2):
            files: dict[tuple[str, int], set[str]] = {top: set() for top in tops.values()}
            for file in _messages(fragment, 2):
                for number in _numbers(file, 2):
                    if number in tops:
                        files[tops[number]].add(_text(file, 1))
            found[_number(fragment, 1)] = {
                name: " ".join([str(number), *sorted(names)]) for (name, number), names in files.items()
            }
        return found
    except (OSError, StopIteration, ValueError, IndexError):
        return None


Part = tuple[int, int | bytes]


def _manifest(table: Path, version: int) -> list[Part]:
    data = next(file for number, file in manifests(table) if number == version).read_bytes()
    if not data.endswith(_MAGIC):
        raise ValueError("not a manifest")
    start = int.from_bytes(data[-16:-8], "little")
    size = int.from_bytes(data[start : start + 4], "little")
    return list(_parts(data[start + 4 : start + 4 + size]))


def _fragment(parts: list[Part], field: int) -> Fragment:
    file = next(_text(each, 1) for each in _messages(parts, 2) if field in _numbers(each, 2))
    deletions = [tuple(_number(each, key) for key in (1, 2, 3)) for each in _messages(parts, 3)]
    return Fragment(_number(parts, 1), _number(parts, 4), file, "-".join(map(str, deletions[0])) if deletions else "")


def _parts(data: bytes) -> Iterator[Part]:
    """The keys and values of a protobuf message."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        key, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield key, value
            continue
        if kind == _BYTES:
            size, place = _varint(data, place)
        else:
            size = {_LONG: 8, _INT: 4}.get(kind, len(data))
        if place + size > len(data):
            raise ValueError("not a message")
        yield key, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7


def _messages(parts: list[Part], key: int) -> Iterator[list[Part]]:
    for own, value in parts:
        if own == key and isinstance(value, bytes):
            yield list(_parts(value))


def _number(parts: list[Part], key: int) -> int:
    """A number; protobuf leaves out 0."""
    return next((value for own, value in parts if own == key and isinstance(value, int)), 0)


def _text(parts: list[Part], key: int) -> str:
    return next((value.decode() for own, value in parts if own == key and isinstance(value, bytes)), "")


def _numbers(parts: list[Part], key: int) -> Iterator[int]:
    """A repeated number, written one by one or packed."""
    for own, value in parts:
        if own == key and isinstance(value, int):
            yield value
        elif own == key and isinstance(value, bytes):
            place = 0
            while place < len(value):
                number, place = _varint(value, place)
                yield number
