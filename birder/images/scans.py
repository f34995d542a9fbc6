"""The parts of a progressive JPEG that an eighth of its size never shows, left out before it is decoded.

At 1/8, a pixel is the mean of 8 x 8: the first coefficient of a block. The scans with the other 63 are most of the
file and of the time. Of each such scan, the header and all tables stay and only the coded coefficients go: the decoder
finds the next marker in their place, as in a file that was damaged there, and takes them for zeros. Its errors, which
come from headers and tables, are the same.

A decoder smooths the borders of blocks (`do_block_smoothing` of libjpeg) where the headers of scans do not promise all
bits of all coefficients, and that depends on what was damaged: such files stay whole.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from birder.images.bounded import JpegHeader

_PROGRESSIVE, _SCAN, _END = 0xC2, 0xDA, 0xD9
_SEGMENTS = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})
"""What may stand between scans: tables, restart interval, comments, data of applications."""
_MOST_SEGMENTS = 1000
_COEFFICIENTS = 64
"""Of a block."""
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
"""Within a scan, 255 and 0 are a coded 255, and D0 to D7 are restart markers: neither ends it."""
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""The same without bytes that fill up, for which a search is ten times as fast."""


def for_an_eighth(data: bytes, header: JpegHeader) -> bytes | None:
    """A progressive JPEG without the coefficients that decoding it at 1/8 does not use.

    Pixels and errors are those of the whole file. Colour that is stored at half the size is decoded at 1/4, for which
    more coefficients are needed: it stays whole. Scans of 1/4 and 1/2 would be of no use: at these sizes the decoder
    uses nearly all coefficients.

    Parameters
    ----------
    data
        The file.
    header
        What `birder.images.bounded.jpeg_header` read of it.

    Returns
    -------
    The file up to its end marker, copied once; None if there is nothing to leave out, or anything is unusual.
    """
    if not data.startswith(bytes([0xFF, _PROGRESSIVE]), header.frame):
        return None
    components = _components(data, header)
    if components is None:
        return None
    whole = _at_full_size(components)
    unknown = {name: bytearray(b"\xff" * _COEFFICIENTS) for name in components}
    view = memoryview(data)
    kept: list[memoryview] = []
    begin, place = 0, header.scans
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.match(data, place)
        if found is None:
            return None
        marker, place = found[1][0], found.end()
        if marker == _END:
            complete = not any(map(any, unknown.values()))
            return b"".join([*kept, view[begin:place]]) if kept and complete else None
        if marker != _SCAN and marker not in _SEGMENTS:
            return None
        length = int.from_bytes(data[place : place + 2], "big")
        inside, place = place + 2, place + max(length, 2)
        if marker == _SCAN:
            scan = _scan(data[inside:place])
            if scan is None or not scan.names <= unknown.keys():
                return None
            for name in scan.names:
                unknown[name][scan.first : scan.last + 1] = bytes([scan.bits]) * (scan.last + 1 - scan.first)
            following = _END_OF_SCAN.search(data, place)
            if following is None:
                return None
            if scan.first > 0 and scan.names <= whole:
                kept.append(view[begin:place])
                begin = following.start()
            place = following.start()
    return None


class _Scan(NamedTuple):
    """A scan's components, its first and last coefficient, and how many of their low bits it leaves for others."""

    names: frozenset[int]
    first: int
    last: int
    bits: int


def _scan(segment: bytes) -> _Scan | None:
    count = segment[0] if segment else 0
    if len(segment) != 2 * count + 4:
        return None
    first, last, bits = segment[-3:]
    if not first <= last < _COEFFICIENTS:
        return None
    return _Scan(frozenset(segment[1 : 1 + 2 * count : 2]), first, last, bits & 15)


def _components(data: bytes, header: JpegHeader) -> dict[int, tuple[int, int]] | None:
    """How often each component is sampled across and down, by its name; None if the frame is unusual."""
    length = int.from_bytes(data[header.frame + 2 : header.frame + 4], "big")
    parts = data[header.frame + 10 : header.frame + 2 + length]
    names, sampling = parts[0::3], parts[1::3]
    if len(parts) != 3 * header.components or len(set(names)) != len(names):
        return None
    return {name: (each >> 4, each & 15) for name, each in zip(names, sampling, strict=True)}


def _at_full_size(components: dict[int, tuple[int, int]]) -> frozenset[int]:
    """The components that no other exceeds in width or height."""
    most = max(across for across, _ in components.values()), max(down for _, down in components.values())
    return frozenset(name for name, sampling in components.items() if sampling == most)
