"""Unit vectors: what cosines are taken between."""

from __future__ import annotations

import tempfile
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Float = TypeVar("Float", np.float32, np.float64)


_IN_MEMORY = 2**28  # numbers, 1 GB


def room(rows: int, width: int) -> npt.NDArray[np.float32]:
    """An array (rows, width) to be filled; above 1 GB in a temporary file without a name, which goes with the array."""
    if rows * width <= _IN_MEMORY:
        return np.empty((rows, width), np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=(rows, width))


def unit(vectors: npt.NDArray[Float], out: npt.NDArray[Float] | None = None) -> npt.NDArray[Float]:
    """Vectors divided by their lengths.

    Parameters
    ----------
    vectors
        (..., D) float32 or float64.
    out
        Where to write the result, which may be `vectors`; default: a new array.

    Returns
    -------
    (..., D), of the same dtype. A vector of length 0 stays 0: its cosine to all others is 0.
    """
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, np.where(lengths > 0, lengths, 1), out=out)
