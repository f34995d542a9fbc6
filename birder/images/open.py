"""Opening images safely: any bytes in, an upright RGB image out, or an `ImageError` with a reason."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from birder.errors import ImageError
from birder.images.apart import Decoders
from birder.images.bounded import is_bounded
from birder.images.decode import Photo, decode
from birder.images.guard import MAX_BYTES, decoding
from birder.images.reasons import why_unidentified

IMAGE_EXTENSIONS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
        ".jp2",
        ".j2k",
        ".heic",
        ".heif",
        ".avif",
        ".ppm",
        ".pgm",
    ]
)

__all__ = ["IMAGE_EXTENSIONS", "Photo", "decoded_photo", "open_image", "open_photo"]

_apart = Decoders(os.cpu_count() or 1)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_apart.forget)


def open_image(source: str | Path | bytes | BinaryIO, *, draft: tuple[int, int] | None = None) -> Image.Image:
    """Open an image as an upright RGB image, fully decoded. See `open_photo`."""
    return open_photo(source, draft=draft).image


def open_photo(source: str | Path | bytes | BinaryIO, *, draft: tuple[int, int] | None = None) -> Photo:
    """Open an image: decode it fully, turn it upright by its EXIF orientation, make it RGB.

    Of an animation, the first frame is taken. A file whose header does not tell what decoding it takes is decoded in a
    separate process, within limits of memory and time. Many threads may call it: they wait for each other where all
    their images would not fit into `decoding`; see `decoded_photo` for one that also counts while it is used.

    Parameters
    ----------
    source
        A path, the file's bytes, or a binary file object.
    draft
        (height, width) in pixels that the caller needs at least: a JPEG is then decoded at 1/2, 1/4 or 1/8 of its size
        where that still covers it, several times faster; anything else of more than 16 million pixels is averaged down
        to no less than four times that.

    Raises
    ------
    ImageError
        With a short reason: missing, no permission, empty, not an image, truncated, too many pixels, ...
    """
    with decoded_photo(source, draft=draft) as photo:
        return photo


@contextlib.contextmanager
def decoded_photo(source: str | Path | bytes | BinaryIO, *, draft: tuple[int, int] | None = None) -> Iterator[Photo]:
    """Open an image as `open_photo` does, and count its memory as taken until the block ends."""
    with contextlib.ExitStack() as held:
        data = source if isinstance(source, bytes) else _read(source)
        if not any(data[:64]):  # nothing at all, or a gigabyte of nothing
            raise ImageError(why_unidentified(data[:64]))
        if is_bounded(data):
            photo = decode(data, draft, lambda amount, _: held.enter_context(decoding.hold(amount)))
        else:
            photo = _apart.decode(data, draft, held)
        del data
        yield photo


def _read(source: str | Path | BinaryIO) -> bytes:
    try:
        if not isinstance(source, str | Path):
            data = source.read(MAX_BYTES + 1)
        else:
            with open(source, "rb", opener=_open_regular) as file:
                data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ImageError("the file does not exist") from None
    except PermissionError:
        raise ImageError("no permission to read the file") from None
    except IsADirectoryError:
        raise ImageError("it is a folder, not a file") from None
    except OSError as error:
        raise ImageError(f"it cannot be read ({error.strerror or error})") from error
    except MemoryError:
        raise ImageError("not enough memory to read it") from None
    if len(data) > MAX_BYTES:
        raise ImageError(f"more than {MAX_BYTES:,} bytes")
    return data


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file; opening a pipe without a writer would wait forever."""
    if stat.S_ISDIR(mode := os.stat(path).st_mode):  # noqa: PTH116
        raise IsADirectoryError
    if not stat.S_ISREG(mode):
        raise ImageError("it is a pipe or device, not a file")
    return os.open(path, flags)
