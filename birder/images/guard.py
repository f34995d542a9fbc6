"""Keeps Pillow within bounds: a memory budget for all threads, its global settings, and no output of its own."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageFile, _imaging

MAX_PIXELS = 178_956_970
"""Images with more pixels are refused before they are decoded; also set as Pillow's limit."""
MAX_BYTES = 1 << 30
"""Larger files are refused, so that no file can exhaust the memory."""

# An application that configures logging still gets Pillow's lines; nobody else gets them on standard error.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_FORMATS = (
    "JPEG",
    "PNG",
    "TIFF",
    "HEIF",
    "WEBP",
    "AVIF",
    "GIF",
    "BMP",
    "JPEG2000",
    "PPM",
    "PSD",
    "ICO",
    "ICNS",
    "SGI",
    "SUN",
    "PCX",
    "PCD",
    "DIB",
    "TGA",
)


class MemoryBudget:
    """A budget of bytes that threads share: a request that does not fit waits, first come, first served.

    Attributes
    ----------
    limit
        Total bytes. A request for more runs alone.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait for so many bytes and hold them. Never nested: a thread that holds some must not wait for more."""
        amount = min(amount, self.limit)
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                # In order, or small images would keep a large one waiting until the run's end.
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._held + amount <= self.limit)
                self._held += amount
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._held -= amount
                self._changed.notify_all()


def machine_memory() -> int:
    """Bytes of memory that this process may have: the machine's, or what its container is given; 8 GiB if unknown."""
    found = [8 << 30]
    with contextlib.suppress(AttributeError, ValueError, OSError):
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # the file does not exist, or says "max"
            found.append(int((Path("/sys/fs/cgroup") / limit).read_text()))
    return min(found)


QUARTER = machine_memory() // 4
"""Bytes of memory that decoding may take altogether."""

decoding = MemoryBudget(min(600_000_000, QUARTER))
"""The bytes that all threads together may have in decoded images; a larger one is decoded alone."""
reading = MemoryBudget(min(600_000_000, QUARTER))
"""The same for files that have been read and not been decoded yet. To be held before `decoding`, never after it."""


class _Guard(contextlib.AbstractContextManager[None]):
    """Pillow's settings while any thread decodes: no truncated images, a limit for decompression bombs, no warnings.

    They are the process's, and `warnings.catch_warnings` is too: where threads overlap, each would restore what another
    had set. So the first in sets them and the last out restores what there was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._outer: contextlib.ExitStack | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._outer is None:
                silence_libtiff()
                _keep_blocks()
                self._outer = contextlib.ExitStack()
                self._outer.enter_context(_switched())
                self._outer.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL\b")

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._outer is not None:
                self._outer.close()
                self._outer = None


pillow_guard = _Guard()
"""The one guard; `with pillow_guard:` around each use of Pillow on a file from outside."""


@contextlib.contextmanager
def _switched() -> Iterator[None]:
    """Pillow's own module variables, which any other library may have set to something else."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, MAX_PIXELS // 2
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, of those that this installation has ("JPEG" brings MPO along).

    A closed list: the other formats that it knows start programs (EPS runs Ghostscript), hand over to system libraries
    (WMF), are only recognised and never decoded (GRIB, HDF5), are unpacked pixel by pixel in Python (BLP, QOI, DDS), or
    contain textures, icons and drawings.
    """
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def silence_libtiff() -> bool:
    """Remove libtiff's handler that prints its errors to file descriptor 2; Pillow still raises them.

    Pillow does this for libtiff's warnings alone. The library is found through Pillow's own extension module; False if
    it is linked into that statically (Windows); its lines then remain.
    """
    try:
        handlers = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetErrorHandlerExt"):
            function = getattr(handlers, name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
            function(None)
    except (OSError, AttributeError):
        return False
    return True


@functools.cache
def _keep_blocks() -> None:
    """Let Pillow keep 20 of its 16 MB blocks for the next image rather than give each back to the C library.

    That keeps what a thread has freed for that thread: eight threads that decoded one by one held 500 MB, not 20.
    """
    _imaging.set_blocks_max(max(20, _imaging.get_blocks_max()))
