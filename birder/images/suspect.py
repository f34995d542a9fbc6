"""Signs of an incomplete image in formats that cannot tell: an interrupted copy leaves zeros."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_SHARE = 0.45
"""Of the rows that must be of one colour; the edge between the halves is blurred when the image is made smaller."""
_ZEROS = 8
"""The last eighth of a file."""


def why_suspect(data: bytes, pixels: npt.NDArray[np.uint8]) -> str | None:
    """What makes an image look half written; None for nearly all.

    Parameters
    ----------
    data
        The file.
    pixels
        (H, W, 3) uint8, as the network gets them.
    """
    rows = int(_SHARE * len(pixels))
    if _is_one_colour(pixels[len(pixels) - rows :]):
        return "its lower half is one colour"
    if _is_one_colour(pixels[:rows][::-1]):
        return "its upper half is one colour"  # a BMP begins with its last row
    # These hide it from the eye: what follows the zeros' beginning decodes to colours of some kind.
    if (data.startswith(b"RIFF") or data[4:8] == b"ftyp") and not data[-(len(data) // _ZEROS) :].rstrip(b"\0"):
        return "its file ends in zeros"
    return None


def _is_one_colour(pixels: npt.NDArray[np.uint8]) -> bool:
    """Whether all are like the last; mostly the last row tells."""
    return len(pixels) > 0 and all(bool((part == pixels[-1, -1]).all()) for part in (pixels[-1], pixels))
