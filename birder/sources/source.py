"""A `Source`: an image before it is read, wherever it is stored, with its uri and what is known about it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote_from_bytes, unquote, unquote_to_bytes, urlsplit

import pyarrow as pa

from birder.errors import BirderError

_PLAIN = re.compile(r"(?:/(?!\.)[A-Za-z0-9_.~-]+)+").fullmatch
"""Tells an absolute path that is normal and has no character to be encoded; folders that begin with a dot aside."""
_DRIVE = re.compile(r"/[A-Za-z]:/").match


class Stamp(NamedTuple):
    """How a changed file is recognised: size in bytes, time of modification in microseconds since 1970, HTTP's ETag.

    Remote files may lack any of them; local ones have no ETag.
    """

    bytes: int | None
    modified: int | None
    etag: str | None = None


RESERVED = frozenset(["id", "uri", "sha256", "embedding", "patches", "width", "height", "label_source", *Stamp._fields])
"""Columns of a collection that only Birder fills."""


class Part(Protocol):
    """An image inside a larger file, such as a shard's sample."""

    @property
    def fragment(self) -> str:
        """What follows # in its uri."""

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Arrow types of the columns that `load` gives."""

    @property
    def size(self) -> int | None:
        """How many bytes `load` reads, if known."""

    def load(self) -> Loaded:
        """Read it; raises `OSError` or `ImageError`."""


class Members(Protocol):
    """A shard: a file that holds many images."""

    @property
    def settled(self) -> bool:
        """Whether its images are the same as long as the file is."""

    def sources(self) -> Iterator[Source]:
        """Iterate over its images without reading them. If the shard is damaged, the last source has a problem."""


class Box(NamedTuple):
    """A rectangle of an upright image: left, top, width, height as fractions of it in [0, 1]."""

    x: float
    y: float
    width: float
    height: float

    @property
    def fragment(self) -> str:
        """As W3C's media fragments write it."""
        return "xywh=percent:" + ",".join(f"{100 * value:.4f}".rstrip("0").rstrip(".") for value in self)


def box_of(fragment: str) -> Box | None:
    """The rectangle that `Box.fragment` writes, alone or behind the time of a frame; None for other fragments."""
    kind, _, numbers = fragment.rpartition("&")[2].partition("=percent:")
    if kind != "xywh":
        return None
    try:
        x, y, width, height = (min(max(float(number) / 100, 0.0), 1.0) for number in numbers.split(","))
    except ValueError:
        return None
    return Box(x, y, width, height) if width > 0 and height > 0 else None


class TableRow(Mapping[str, Any]):
    """One row of an Arrow table as a dictionary; a million of them share the table."""

    __slots__ = ("row", "table")

    def __init__(self, table: pa.Table, row: int) -> None:
        self.table = table
        self.row = row

    def __getitem__(self, name: str) -> Any:
        if name not in self.table.schema.names:
            raise KeyError(name)
        return self.table[name][self.row].as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.schema.names)

    def __len__(self) -> int:
        return int(self.table.num_columns)

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return dict, (dict(self),)  # another process gets the row, not the table


class Rows(Mapping[str, Any]):
    """Several rows about one image: the last value of each column."""

    __slots__ = ("rows",)

    def __init__(self, *rows: Mapping[str, Any]) -> None:
        self.rows = list(rows)

    def __getitem__(self, name: str) -> Any:
        having = [row for row in self.rows if name in row]
        if not having:
            raise KeyError(name)
        return next((value for row in reversed(having) if (value := row[name]) is not None), None)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for row in self.rows for name in row))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return dict, (dict(self),)


class _NoColumns(Mapping[str, Any]):
    """An empty dictionary that cannot be filled, so that a million sources may share it."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __hash__(self) -> int:
        return 0


NO_COLUMNS: Mapping[str, Any] = _NoColumns()


class Loaded(NamedTuple):
    """An image's bytes, and the columns that are known only after reading it."""

    data: bytes
    columns: Mapping[str, Any] = NO_COLUMNS


@dataclass(slots=True)
class Source:
    """A possible image: a file, part of one, or a whole shard of them that `plan` scans.

    Attributes
    ----------
    path
        Absolute, or a URL. Bytes of a path that are not UTF-8 are surrogate-escaped, as Python's `os` gives them.
    label
        What is on it, if known.
    columns
        The user's own columns for its row.
    problem
        Why it cannot be read, where finding it has already shown that (a folder without permission).
    part
        Where in the file it is, unless it is the whole file.
    box
        Which rectangle of the image is meant, unless it is all of it.
    members
        What lists the images of a shard; None for an image.
    """

    path: str
    label: str | None = None
    columns: Mapping[str, Any] = NO_COLUMNS
    problem: str | None = None
    part: Part | None = None
    box: Box | None = None
    members: Members | None = None

    def describe(self, columns: Mapping[str, Any]) -> None:
        """Add columns; where both have a value, the new one counts."""
        if not self.columns:
            self.columns = columns
        elif isinstance(self.columns, Rows):
            self.columns.rows.append(columns)
        else:
            self.columns = Rows(self.columns, columns)

    @property
    def uri(self) -> str:
        """The key of its row: the file's uri, and behind # the part of it and the box."""
        uri = self.path if is_url(self.path) else path_to_uri(self.path)
        if self.part is None and self.box is None:
            return uri
        inside = [each.fragment for each in (self.part, self.box) if each is not None]
        return f"{uri.replace('#', '%23')}#{'&'.join(inside)}"

    @property
    def image(self) -> str:
        """What the boxes of one image share: the uri of the image that they are boxes of."""
        return self.uri if self.box is None else replace(self, box=None).uri

    @property
    def name(self) -> str:
        """Name to show: the path, or the uri of a part."""
        return self.path if self.part is None and self.box is None else self.uri


def is_of_same_image(source: Source, other: Source) -> bool:
    """Whether two sources are boxes of one image."""
    return source.box is not None and other.box is not None and source.image == other.image


def image_of(uri: str) -> str:
    """The uri of the image that a row is of: without the box, with the time of a frame."""
    file, separator, fragment = uri.partition("#")
    if not separator or "xywh=" not in fragment:
        return uri
    rest = "&".join(part for part in fragment.split("&") if not part.startswith("xywh="))
    return f"{file}#{rest}" if rest else file


def is_url(path: str) -> bool:
    """Whether a path is one for fsspec (https://, s3://, hf://, ...) rather than for this machine's file system."""
    if path.startswith("/"):  # no scheme does
        return False
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme.isidentifier() and scheme not in ("file", "local")


def path_to_uri(path: str | Path) -> str:
    """The file URI of a path, made absolute; bytes that are not UTF-8 survive, percent-encoded."""
    if os.name != "nt" and isinstance(path, str) and _PLAIN(path):
        return "file://" + path
    absolute = os.path.abspath(path)  # noqa: PTH100 - resolve() follows links
    return windows_path_to_uri(absolute) if os.name == "nt" else "file://" + quote_from_bytes(os.fsencode(absolute))


def windows_path_to_uri(path: str) -> str:
    r"""The file URI of an absolute Windows path, on any system.

    `D:\photos` becomes `file:///D:/photos`; `\\server\share` becomes `file://server/share/`. The prefix `\\?\` of long
    paths is left out.
    """
    if path.startswith("\\\\?\\UNC\\"):
        path = "\\\\" + path[8:]
    windows = PureWindowsPath(path.removeprefix("\\\\?\\"))
    drive, below = windows.drive.replace("\\", "/"), windows.as_posix()[len(windows.drive) :]
    start = f"file:///{drive}" if drive.endswith(":") else f"file:{quote_from_bytes(os.fsencode(drive))}"
    return start + quote_from_bytes(os.fsencode(below))


def uri_to_path(uri: str) -> str:
    """The path that `path_to_uri` made the uri of; for a part or box, that of its file."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise BirderError(f"{uri} is not a file on this machine; its uri should begin with file://.")
    return uri_to_windows_path(uri) if os.name == "nt" else os.fsdecode(unquote_to_bytes(parts.path))


def uri_to_windows_path(uri: str) -> str:
    """The Windows path that `windows_path_to_uri` made the uri of, on any system."""
    parts = urlsplit(uri)
    path = os.fsdecode(unquote_to_bytes(parts.path))
    on_server = f"//{unquote(parts.netloc)}{path}"
    return str(PureWindowsPath(on_server if parts.netloc else path.removeprefix("/")))


def uri_to_name(uri: str) -> str:
    """Name of a uri to show: the path of a file on this machine, else the uri itself."""
    if "#" in uri or not uri.startswith("file://"):
        return uri
    if os.name == "nt" or "?" in uri or not uri.startswith("file:///"):
        return readable(uri_to_path(uri))
    path = uri.removeprefix("file://")  # as Birder writes them; of a million rows, parsing takes most of the time
    if "%" in path:
        return unquote_to_bytes(path).decode("utf-8", "replace")
    return path if path.isascii() else readable(path)


def readable_path(uri: str) -> str:
    """What people read for a uri, and the column `path` in filters: the path, and behind # the member, time or box.

    Of a file it is the uri without file:// and without percent-encoding; of anything else, the uri itself.
    """
    if not uri.startswith("file://"):
        return readable(uri)
    path = unquote_to_bytes(uri.removeprefix("file://")).decode("utf-8", "replace")
    if not path.startswith("/"):  # a server's, on Windows
        return "//" + path
    return path[1:] if _DRIVE(path) else path


def readable(text: str) -> str:
    """Text that can be printed and stored: bytes that are not UTF-8 become the replacement character."""
    return os.fsencode(text).decode("utf-8", "replace")
