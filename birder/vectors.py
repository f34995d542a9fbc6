"""Unit vectors: what cosines are taken between."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Float = TypeVar("Float", np.float32, np.float64)


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
