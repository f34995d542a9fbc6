"""Reading what a source names: the bytes, and beforehand the stamp that tells whether they have changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO

import fsspec  # type: ignore[import-untyped, unused-ignore]

from birder.errors import ConfigError
from birder.images.guard import MAX_BYTES
from birder.images.sources.source import Loaded, Source, Stamp, is_url

_TIMES = ("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "created")
_ETAGS = ("ETag", "etag", "blob_id", "Content-MD5", "md5Hash")


def load_source(source: Source) -> Loaded:
    """Read the photograph of a source.

    Raises
    ------
    OSError
        As the system or the server says.
    """
    return Loaded(read_source(source.path)) if source.part is None else source.part.load()


def read_source(path: str) -> bytes:
    """The bytes of a regular file, or of what a URL gives.

    Raises
    ------
    OSError
        As the system or the server says; a pipe or device, whose reading might never end, is one too.
    """
    if is_url(path):
        return read_range(path, 0, None)
    status = os.stat(path)  # noqa: PTH116
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    if status.st_size > MAX_BYTES:
        raise OSError(f"{status.st_size:,} bytes, more than {MAX_BYTES:,}")
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def read_range(path: str, start: int, end: int | None) -> bytes:
    """The bytes from start to before end (None: all) of a file or URL; `OSError` as the system or the server says."""
    if (end or 0) - start > MAX_BYTES:
        raise OSError(f"more than {MAX_BYTES:,} bytes")
    if not is_url(path):
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(start)
            return file.read(-1 if end is None else end - start)
    filesystem, inside = file_system(path)
    try:
        if end is not None:
            return bytes(filesystem.cat_file(inside, start=start, end=end))
        with filesystem.open(inside, "rb", block_size=0) if "http" in path[:5] else filesystem.open(inside, "rb") as f:
            data = _read_all(f)
    except OSError:
        raise
    except Exception as error:  # each protocol's library has its own
        raise OSError(_one_line(error)) from error
    if len(data) > MAX_BYTES:
        raise OSError(f"more than {MAX_BYTES:,} bytes")
    return data


def _read_all(file: BinaryIO) -> bytes:
    """All bytes of a stream, which may give fewer at a time than asked for; little more than `MAX_BYTES`."""
    pieces: list[bytes] = []
    size = 0
    while size <= MAX_BYTES and (piece := file.read(1 << 20)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def stamp_of(source: Source) -> Stamp | None:
    """The stamp of a source's file (of a part, that of the whole); None if there is none to be had."""
    try:
        if is_url(source.path):
            filesystem, inside = file_system(source.path)
            return _stamp_in(filesystem.info(inside))
        status = os.stat(source.path)  # noqa: PTH116 - once for each of a million files
        return Stamp(status.st_size, status.st_mtime_ns // 1000)
    except Exception:  # what is wrong with it, reading will tell
        return None


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises
    ------
    ConfigError
        No installed library opens such URLs.
    """
    try:
        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"Cannot open {url}: {_one_line(error)}. "
            'pip install "birder[remote]" brings https; s3:// needs s3fs, gs:// gcsfs, az:// adlfs.'
        ) from error


def _stamp_in(info: Mapping[str, Any]) -> Stamp:
    moment = next((found for key in _TIMES if (found := _microseconds(info.get(key))) is not None), None)
    etag = next((str(info[key]) for key in _ETAGS if info.get(key)), None)
    commit = info.get("last_commit")  # the Hugging Face hub's way
    if moment is None and is_dataclass(commit) and not isinstance(commit, type):
        moment = _microseconds(asdict(commit).get("date"))
    return Stamp(info.get("size"), moment, etag)


def _microseconds(value: object) -> int | None:
    try:
        if isinstance(value, str):
            value = parsedate_to_datetime(value) if "," in value else datetime.fromisoformat(value)
        if isinstance(value, datetime):
            value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        return round(value * 1e6) if isinstance(value, int | float) else None
    except (ValueError, OverflowError):
        return None


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
