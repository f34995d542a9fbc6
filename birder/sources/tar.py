"""WebDataset shards: tar files in which the members of a sample share their name up to its first dot.

    42.jpg  42.taxonomic_name.txt  42.common_name.txt  42.json

The texts become columns, and so do the entries of the JSON object. Nothing is ever unpacked to disk.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import quote_from_bytes

import pyarrow as pa

from birder.images.open import IMAGE_EXTENSIONS
from birder.sources.columns import column_name, common_type, fitted, type_of, with_taxonomy
from birder.sources.read import file_system, read_range
from birder.sources.source import Loaded, Source, is_url

_TEXTS = (".txt", ".cls")
_BLOCK = 512
_MOST = 1 << 20  # bytes of a text or JSON member; larger ones are not descriptions
_AT_ONCE = 1 << 16  # bytes of a URL: where only headers are read, there is an image to skip between two
_HEADER = 16 << 20  # bytes that tarfile may ask for at once while it reads headers
DAMAGED = (tarfile.TarError, ValueError, OverflowError, RecursionError)
"""What tarfile raises for damaged headers, such as sizes of twenty digits and endless headers of headers."""


@dataclass(slots=True)
class TarShard:
    """A tar file of samples. `types` are those of its columns, known once `sources` has scanned it."""

    path: str
    types: dict[str, pa.DataType] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """True: an unchanged file has the same images."""
        return True

    def sources(self) -> Iterator[Source]:
        """Read the headers and the small JSON members; images are skipped."""
        seen: set[str] = set()
        try:
            with opened(self.path) as file, archive_of(file) as archive:
                for members, end in _samples(archive, file):
                    self._note_types(archive, members)
                    for member in members:
                        if is_image_name(member.name) and member.name not in seen:
                            seen.add(member.name)
                            yield Source(self.path, part=TarMember(self, member.name, members[0].offset, end))
        except DAMAGED as error:
            hint = "; a compressed one must be unpacked" if not seen else f", {len(seen):,} images before that"
            yield Source(self.path, problem=f"the tar file is damaged or truncated ({error}){hint}")
        except OSError as error:
            yield Source(self.path, problem=f"it cannot be read ({error.strerror or error})")

    def _note_types(self, archive: tarfile.TarFile, members: list[tarfile.TarInfo]) -> None:
        for member in members:
            if member.size > _MOST:
                continue
            if member.name.endswith(_TEXTS):
                self.types[_column(member.name)] = pa.string()
            elif member.name.endswith(".json"):
                file = archive.extractfile(member)
                for name, type_ in _json_types(file.read() if file else b"").items():
                    self.types[name] = common_type(self.types.get(name), type_)


@dataclass(slots=True)
class TarMember:
    """An image in a shard; its whole sample lies from byte `start` to before `end`."""

    shard: TarShard
    name: str
    start: int
    end: int

    @property
    def fragment(self) -> str:
        """The member's name."""
        return quote_from_bytes(os.fsencode(self.name))

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Arrow types of the columns of its shard."""
        return self.shard.types

    @property
    def size(self) -> int:
        """Bytes of its sample."""
        return self.end - self.start

    def load(self) -> Loaded:
        """Read the sample, in one piece."""
        data: bytes | None = None
        columns: dict[str, Any] = {}
        sample = read_range(self.shard.path, self.start, self.end)
        try:
            with tarfile.open(fileobj=io.BytesIO(sample), mode="r:") as archive:
                for member in archive:
                    file = archive.extractfile(member) if is_plain(member) else None
                    if file is None:
                        continue
                    if member.name == self.name:
                        data = file.read() if data is None else data
                    elif member.size > _MOST:
                        continue
                    elif member.name.endswith(_TEXTS):
                        columns[_column(member.name)] = file.read().decode("utf-8", "replace").strip() or None
                    elif member.name.endswith(".json"):
                        columns |= _json_columns(file.read())
        except DAMAGED as error:
            raise OSError(f"the tar file is damaged or has changed: {error}") from error
        if data is None:
            raise OSError("it is no longer at its place in the tar file")
        # A type of another shard's column of that name is taken care of where all types are known.
        return Loaded(data, with_taxonomy(columns))


def archive_of(file: BinaryIO) -> tarfile.TarFile:
    """The tar archive that begins where a file is; its headers are read within bounds."""
    return tarfile.open(fileobj=_Bounded(file), mode="r:")  # type: ignore[call-overload, no-any-return]


class _Bounded:
    """A file that refuses large reads: a header of a few bytes may claim that gigabytes follow."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)


@contextlib.contextmanager
def opened(path: str, block: int = _AT_ONCE) -> Iterator[BinaryIO]:
    """A shard to read from; of a URL, `block` bytes are fetched at once. `OSError` if it cannot be."""
    if is_url(path):
        filesystem, inside = file_system(path)
        try:
            with filesystem.open(inside, "rb", block_size=block) as file:
                yield file
        except (OSError, tarfile.TarError):
            raise
        except Exception as error:  # each protocol's library has its own
            raise OSError(str(error)) from error
    else:
        with open(path, "rb") as file:  # noqa: PTH123 - the path may be no text
            yield file


def _samples(archive: tarfile.TarFile, file: BinaryIO) -> Iterator[tuple[list[tarfile.TarInfo], int]]:
    """Regular members that follow each other with one key, and the byte where the last of them ends."""
    members: list[tarfile.TarInfo] = []
    end = 0
    while True:
        try:
            member = archive.next()
        except DAMAGED:
            if members and file.seek(0, os.SEEK_END) >= end:  # the sample before the damage, which is complete
                yield members, end
            raise
        if member is None:
            break
        archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
        if not is_plain(member):
            continue
        if members and key_of(members[0].name) != key_of(member.name):
            yield members, end
            members = []
        members.append(member)
        end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
    if members:
        yield members, end
    # tarfile takes a damaged header for the end; the end is a block of zeros, or that of the file
    file.seek(archive.offset)
    if file.read(_BLOCK).strip(b"\0"):
        raise tarfile.ReadError(f"no header at byte {archive.offset:,}")


def is_plain(member: tarfile.TarInfo) -> bool:
    """A file that is complete; a sparse one of a few bytes may claim to have terabytes."""
    return member.isreg() and not member.issparse()


def key_of(name: str) -> str:
    """What the members of a sample share: the name up to the first dot behind the folder."""
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.partition('.')[0]}"


def is_image_name(name: str) -> bool:
    """Whether a member is an image, by its ending."""
    base = name.rpartition("/")[2]
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in IMAGE_EXTENSIONS  # noqa: PTH122


def _column(name: str) -> str:
    """`42.common_name.txt` -> common_name; a plain `42.txt` -> text."""
    extension = name.rpartition("/")[2].partition(".")[2]
    return column_name(extension.rpartition(".")[0] or {"txt": "text"}.get(extension, extension))


def _json_columns(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    flat = {
        key: fitted(value, pa.string()) if isinstance(value, dict | list) else value for key, value in found.items()
    }
    return {column_name(key, type_of(value) or pa.string()): value for key, value in flat.items()}


def _json_types(data: bytes) -> dict[str, pa.DataType]:
    return {name: type_ for name, value in _json_columns(data).items() if (type_ := type_of(value)) is not None}
