"""Unit vectors: what cosines are taken between."""

from __future__ import annotations

import math
import mmap
import sys
import tempfile
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Float = TypeVar("Float", np.float32, np.float64)


_IN_MEMORY = 2**30  # bytes
_SCATTERED = 64  # rows of a mapped file touched at once: each may map 2 MB of the system's cache around it


def room(
    rows: int, width: int, dtype: type[np.float32 | np.float64] = np.float32, *, most: int | None = None
) -> npt.NDArray[Any]:
    """An array (rows, width) to be filled; if it is large, in a temporary file without a name, which goes with it.

    Parameters
    ----------
    rows, width, dtype
        Of the array.
    most
        The bytes above which it is in a file; default: 1 GB.
    """
    if rows * width * np.dtype(dtype).itemsize <= (_IN_MEMORY if most is None else most):
        return np.empty((rows, width), dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=(rows, width))


def let_go(array: npt.NDArray[Any]) -> None:
    """Give back the memory of what was read or written of an array of `room`, or of a mapped file; its values stay."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and sys.platform != "win32":
        mapped.madvise(mmap.MADV_DONTNEED)


def take_rows(array: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Some rows of an array of `room` or of a mapped file, copied; of a file, no more than a few are mapped at once."""
    if getattr(array, "_mmap", None) is None:
        found: npt.NDArray[Any] = array[rows]
        return found
    found = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), _SCATTERED):
        found[start : start + _SCATTERED] = array[rows[start : start + _SCATTERED]]
        let_go(array)
    return found


def put_rows(array: npt.NDArray[Any], rows: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
    """Write some rows of an array of `room`; of a mapped file, no more than a few are mapped at once."""
    if getattr(array, "_mmap", None) is None:
        array[rows] = values
        return
    for start in range(0, len(rows), _SCATTERED):
        array[rows[start : start + _SCATTERED]] = values[start : start + _SCATTERED]
        let_go(array)


def length(vector: npt.NDArray[Float]) -> float:
    """The length of a vector (D,), computed in float64."""
    exact = vector.astype(np.float64)
    return math.sqrt(float(exact @ exact))


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
