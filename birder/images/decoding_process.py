"""`python -m birder.images.decoding_process`: decode images in a process that may be ended at any time.

First it says R: ready. What comes in on standard input then, again and again: the length of a request (4 bytes,
big-endian) and of a file (8), the request as JSON (draft, transform, seconds), the file. What goes out: objects of
JSON, each after its length (4 bytes). First the amount of memory that it takes, and the pixels; then it waits for the
seconds that it may take (a double). Then the size (width, height) of the pixels that follow, 3 bytes each, and width,
height and metadata of the image. Instead of either, the reason why not.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import IO, Any

from PIL import AvifImagePlugin, Image, _imaging

from birder.errors import ImageError
from birder.images.decode import decode
from birder.images.transform import ClassificationTransform

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

_SPARE = 128 << 20
"""Bytes for everything but the image: buffers, tables, what the allocator keeps."""
_STRIP = 4 << 20


def main() -> None:
    """Decode until standard input ends."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each would take memory for its stack; others decode beside this process
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not corrupt the stream
    answers.write(b"R")
    answers.flush()
    while len(lengths := requests.read(12)) == 12:
        head, size = struct.unpack(">IQ", lengths)
        wanted = json.loads(requests.read(head))
        allow_any_memory()
        data = requests.read(size)
        try:
            image, told = _decoded(data, wanted, requests, answers)
        except (ImageError, MemoryError) as error:
            say(answers, {"reason": str(error) or "not enough memory to decode it"})
        else:
            say(answers, told)
            for strip in _strips(image):
                answers.write(strip)
            del image, strip
        answers.flush()
        del data
        _imaging.clear_cache(0)  # of blocks for the next image: other processes may need the memory


def _decoded(
    data: bytes, wanted: dict[str, Any], requests: IO[bytes], answers: IO[bytes]
) -> tuple[Image.Image, dict[str, Any]]:
    def take(amount: int, pixels: int) -> None:
        amount += 2 * len(data)
        allow_any_memory()
        say(answers, {"amount": amount, "pixels": pixels})
        answers.flush()
        (seconds,) = struct.unpack(">d", requests.read(8))
        limit(amount, seconds)

    limit(2 * len(data), wanted["seconds"])
    photo = decode(data, tuple(wanted["draft"]) if wanted["draft"] else None, take)
    image = photo.image
    if wanted["transform"] is not None:
        image = Image.fromarray(ClassificationTransform.from_card(wanted["transform"]).to_uint8(image))
    taken_at, latitude, longitude = photo.metadata
    return image, {
        "size": image.size,
        "width": photo.width,
        "height": photo.height,
        "taken_at": taken_at and taken_at.isoformat(),
        "latitude": latitude,
        "longitude": longitude,
    }


def limit(amount: int, seconds: float) -> None:
    """Limit this process to so many bytes more than it has, and so many seconds of processor time from now on."""
    if resource is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set_limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds) + 1)
    if sys.platform == "linux":  # elsewhere the limit is not kept
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        _set_limit(resource.RLIMIT_AS, now + amount + _SPARE)


def allow_any_memory() -> None:
    """Take the limit of memory back."""
    if resource is not None:
        _set_limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)


def _set_limit(kind: int, value: int) -> None:
    none, hard = resource.RLIM_INFINITY, resource.getrlimit(kind)[1]
    if hard != none and (value == none or value > hard):
        value = hard
    resource.setrlimit(kind, (value, hard))


def say(answers: IO[bytes], what: dict[str, Any]) -> None:
    """Write an object of JSON after its length."""
    line = json.dumps(what).encode()
    answers.write(struct.pack(">I", len(line)) + line)


def _strips(image: Image.Image) -> Any:
    """The pixels of an RGB image, some rows at a time."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height))).tobytes()


if __name__ == "__main__":
    main()
