"""Reading a source: its bytes, and before that the stamp that tells whether they have changed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO

import fsspec  # type: ignore[import-untyped, unused-ignore]
from PIL import Image

from birder.errors import ConfigError, install_extra
from birder.images.guard import MAX_BYTES, formats, pillow_guard, reading
from birder.sources.source import Loaded, Source, Stamp, is_url

_TIMES = ("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "created")
_ETAGS = ("ETag", "etag", "blob_id", "Content-MD5", "md5Hash")


_USUAL = 16 << 20
"""Bytes to reserve where the size is unknown; the beginning of larger files is checked before the rest is read."""
_HEAD = 4096


class _TooLargeError(OSError):
    """More bytes than the caller accepts."""


@contextlib.contextmanager
def held_source(source: Source, stamp: Stamp | None) -> Iterator[Loaded]:
    """Read an image as `load_source` does, and count its bytes in `reading` until the block ends."""
    expected = _USUAL if stamp is None or stamp.bytes is None else stamp.bytes
    if source.part is not None:
        expected = source.part.size or _USUAL
    # What a server sends need not be what it said: if it is more, it is read again, alone.
    for most in (min(expected, MAX_BYTES), MAX_BYTES):
        with reading.hold(2 * most):  # a separate decoding process has a copy, too
            try:
                loaded = load_source(source, most)
            except _TooLargeError:
                if most == MAX_BYTES:
                    raise
                continue
            yield loaded
            return


def load_source(source: Source, most: int = MAX_BYTES) -> Loaded:
    """Read the image of a source; of a large file that is not an image, only its beginning.

    Raises
    ------
    OSError
        As the system or the server says; or there are more than `most` bytes.
    """
    if source.part is not None:
        return source.part.load()
    return Loaded(read_source(source.path, most, images=True))


def read_source(path: str, most: int = MAX_BYTES, *, images: bool = False) -> bytes:
    """The bytes of a regular file, or of what a URL gives.

    Parameters
    ----------
    most
        The most bytes to read.
    images
        Of a large local file that does not begin like an image, return only the first 4,096 bytes.

    Raises
    ------
    OSError
        As the system or the server says; also for a pipe or device, which might never end.
    """
    if is_url(path):
        return read_range(path, 0, None, most)
    with open_source(path, most) as file:
        if images and os.fstat(file.fileno()).st_size > _USUAL:
            head = file.read(_HEAD)
            if not _begins_like_an_image(head):
                return head
            file.seek(0)
        data = file.read()
    if len(data) > most:  # it has grown since
        raise _TooLargeError(f"more than {most:,} bytes")
    return data


def open_source(path: str, most: int = MAX_BYTES) -> BinaryIO:
    """A regular file of this machine, or what a URL gave, to be read in pieces; raises as `read_source` does."""
    if is_url(path):
        return io.BytesIO(read_source(path, most))
    try:
        status = os.stat(path)  # noqa: PTH116
    except ValueError:
        raise OSError("its name has characters that file names cannot have") from None
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    if status.st_size > most:
        raise _TooLargeError(f"{status.st_size:,} bytes, more than {most:,}")
    return open(path, "rb")  # noqa: PTH123


def _begins_like_an_image(head: bytes) -> bool:
    """Whether one of the readable formats may begin like this."""
    for name in formats():
        factory, accept = Image.OPEN[name]
        if accept is not None:
            found = accept(head[:16])
            if found and not isinstance(found, str):  # a text is Pillow's warning that it cannot read it
                return True
            continue
        try:  # the two formats without a signature: only their headers are looked at
            with pillow_guard:
                factory(io.BytesIO(head), "")
        except Exception:  # reading a damaged header may raise anything
            continue
        return True
    return False


def read_json(path: str) -> Any:
    """The value of a JSON file or URL; unpaired surrogates become replacement characters.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is not JSON, or nested too deeply.
    """
    data = read_source(path)
    text = data.decode(json.detect_encoding(data))
    try:
        value = json.loads(text)
        return _without_surrogates(value) if re.search(r"\\u[dD][89a-fA-F]", text) else value
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return value


def read_range(path: str, start: int, end: int | None, most: int = MAX_BYTES) -> bytes:
    """The bytes from start to before end (None: all) of a file or URL; `OSError` as the system or the server says."""
    if (end or 0) - start > most:
        raise _TooLargeError(f"more than {most:,} bytes")
    if not is_url(path):
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(start)
            return file.read(-1 if end is None else end - start)
    filesystem, inside = file_system(path)
    try:
        if end is not None:
            return bytes(filesystem.cat_file(inside, start=start, end=end))
        with filesystem.open(inside, "rb", block_size=0) if "http" in path[:5] else filesystem.open(inside, "rb") as f:
            data = _read_all(f, most)
    except FileNotFoundError as error:  # fsspec's word for whatever went wrong: a server out of reach, a refusal
        if (reason := _behind(error)) is None:
            raise
        raise OSError(_one_line(reason)) from error
    except OSError:
        raise
    except Exception as error:  # each protocol's library has its own
        raise OSError(_one_line(error)) from error
    if len(data) > most:
        raise _TooLargeError(f"more than {most:,} bytes")
    return data


def _behind(error: BaseException) -> Exception | None:
    """Why fsspec says that a file is not there; None if the server said so itself."""
    cause = error.__cause__
    while isinstance(cause, FileNotFoundError):
        cause = cause.__cause__
    return cause if isinstance(cause, Exception) and getattr(cause, "status", None) not in (404, 410) else None


def _read_all(file: BinaryIO, most: int) -> bytes:
    """All bytes of a stream, which may return fewer at a time than requested; at most slightly more than `most`."""
    pieces: list[bytes] = []
    size = 0
    while size <= most and (piece := file.read(1 << 20)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def stamp_of(source: Source) -> Stamp | None:
    """The stamp of a source's file (of a part, that of the whole file); None if it cannot be determined."""
    try:
        if is_url(source.path):
            filesystem, inside = file_system(source.path)
            return _stamp_in(filesystem.info(inside))
        status = os.stat(source.path)  # noqa: PTH116 - once for each of a million files
        return Stamp(status.st_size, status.st_mtime_ns // 1000)
    except Exception:  # reading it will report what is wrong
        return None


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises
    ------
    ConfigError
        No installed library opens such URLs, or it is not a URL.
    """
    try:
        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    except Exception as error:  # each protocol's library has its own
        raise ConfigError(
            f"Cannot open {url}: {_one_line(error)}. "
            f"{install_extra('remote')} brings https; s3:// needs s3fs, gs:// gcsfs, az:// adlfs."
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
