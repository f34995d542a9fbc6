"""`python -m birder.server.decoding_process`: decode uploads in a process that may be killed.

What comes in on standard input, again and again: the length of a description (4 bytes, big-endian) and of a picture
(8), the description as JSON, the picture. What goes out: P, the numbers height, width of the pixels and width, height
of the picture (4 bytes each), and the pixels; or E, a length (4 bytes) and the reason why not.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

from birder.errors import ImageError
from birder.images.open import open_photo
from birder.images.transform import ClassificationTransform

_MOST_MEMORY = 4 << 30  # bytes of address space, of which the libraries take one without using it


def main() -> None:
    """Decode until standard input ends."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not come between
    while len(lengths := requests.read(12)) == 12:
        head, size = struct.unpack(">IQ", lengths)
        description = json.loads(requests.read(head))
        data = requests.read(size)
        try:
            answer = _decoded(data, description)
        except (ImageError, MemoryError) as error:
            reason = (str(error) or "not enough memory to decode it").encode("utf-8", "replace")
            answer = b"E" + struct.pack(">I", len(reason)) + reason
        answers.write(answer)
        answers.flush()


def _decoded(data: bytes, description: dict[str, Any]) -> bytes:
    transform = ClassificationTransform(
        tuple(description["size"]),
        description["mean"],
        description["std"],
        description["center_crop"],
        description["simple_crop"],
    )
    photo = open_photo(data, draft=transform.resize_to if description["draft"] else None)
    pixels = transform.to_uint8(photo.image)
    return b"P" + struct.pack(">IIII", *pixels.shape[:2], photo.width, photo.height) + pixels.tobytes()


if __name__ == "__main__":
    main()
