"""The samples of a shard, one after the other, from any of them on: an image and its texts; and where it is damaged.

Behind a damaged header, reading goes on at the next one that is whole.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from birder.sources.tar import DAMAGED, archive_of, is_image_name, is_plain, key_of, opened

MOST_IMAGE = 256 << 20
"""Bytes of an image; a larger one is left out."""
_MOST_TEXT = 1 << 20
_BLOCK = 512
_AT_ONCE = 8 << 20  # bytes of a URL


@dataclass(slots=True)
class RawSample:
    """A sample as it is stored.

    Attributes
    ----------
    key
        What its members share.
    start, end
        Where it begins, and where the next one does.
    image
        The bytes of its first image; None without one.
    texts
        Of KEY.NAME.txt by name; of a plain KEY.txt as "text".
    """

    key: str
    start: int
    end: int
    image: bytes | None = None
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Damage:
    """A place where a shard is damaged, and what is wrong."""

    start: int
    reason: str


def read_samples(path: str, start: int = 0) -> Iterator[RawSample | Damage]:
    """Read a shard from the byte where a sample begins; one image at a time is in memory.

    Raises
    ------
    OSError
        The shard cannot be read.
    """
    with opened(path, _AT_ONCE) as file:
        size = file.seek(0, os.SEEK_END)
        sample: RawSample | None = None
        for found in _members(file, start, size):
            if isinstance(found, Damage):
                if sample is not None:
                    sample.end = found.start
                    yield sample
                    sample = None
                yield found
                continue
            key = key_of(found.name).removeprefix("/")
            if sample is not None and sample.key != key:
                sample.end = found.offset
                yield sample
                sample = None
            if sample is None:
                sample = RawSample(key, found.offset, size)
            _add(sample, found, file)
        if sample is not None:
            yield sample


def _add(sample: RawSample, member: tarfile.TarInfo, file: BinaryIO) -> None:
    """Read a member that is an image or a text, unless the sample has one like it or it is too large."""
    name = member.name.rpartition("/")[2].partition(".")[2]
    if is_image_name(member.name):
        if sample.image is None and member.size <= MOST_IMAGE:
            file.seek(member.offset_data)
            sample.image = file.read(member.size)
    elif (name == "txt" or name.endswith(".txt")) and member.size <= _MOST_TEXT:
        file.seek(member.offset_data)
        text = file.read(member.size).decode("utf-8", "replace")
        sample.texts.setdefault(name.removesuffix("txt").removesuffix(".") or "text", text)


def _members(file: BinaryIO, start: int, size: int) -> Iterator[tarfile.TarInfo | Damage]:
    """The members from a header on; behind damage, from the next whole header on."""
    at: int | None = start
    while at is not None and at < size:
        file.seek(at)
        reason = "no header"
        try:
            with archive_of(file) as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
                    if member.offset_data + member.size > size:
                        reason = "it ends in the middle of a member"
                        break
                    if is_plain(member):
                        yield member
                    at = archive.offset
        except DAMAGED as error:
            reason = str(error) or "a damaged header"
        file.seek(at)
        ends = not file.read(_BLOCK).strip(b"\0")
        following = _next_header(file, at + _BLOCK, size)
        if following is None and ends:
            return
        yield Damage(at, f"damaged at byte {at:,} ({reason})")
        at = following


def _next_header(file: BinaryIO, start: int, size: int) -> int | None:
    """Where the next block begins that is a whole header; None if there is none."""
    file.seek(start)
    while start < size:
        blocks = file.read(_AT_ONCE)
        if not blocks:
            return None
        for place in range(0, len(blocks) - _BLOCK + 1, _BLOCK):
            block = blocks[place : place + _BLOCK]
            if block[257:262] == b"ustar":
                try:
                    tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                except DAMAGED:
                    continue
                return start + place
        start += len(blocks)
    return None
