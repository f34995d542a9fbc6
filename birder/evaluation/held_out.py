"""Probabilities of many rows and classes, computed a block of rows at a time, so that they never are in memory at once.

N is the number of rows, J of those asked about, C of classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from birder.inference.classifier import softmax
from birder.vectors import let_go

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]

_AT_ONCE = 4096


class Probabilities:
    """The softmax of some rows' logits, each row divided by its temperature; a slice of it is an array.

    Parameters
    ----------
    logits
        float32 (N, C), as of `birder.vectors.room`.
    rows
        int64 (J,): the rows asked about.
    temperatures
        float32 (J,).
    """

    def __init__(self, logits: Floats, rows: Codes, temperatures: Floats) -> None:
        self._logits = logits
        self._rows = rows
        self._temperatures = temperatures

    @property
    def shape(self) -> tuple[int, int]:
        """J and C."""
        return len(self._rows), self._logits.shape[1]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, block: slice) -> Floats:
        """Those of a slice of the J rows, float32 (B, C)."""
        found = softmax(self._logits[self._rows[block]] / self._temperatures[block, None])
        let_go(self._logits)
        return found

    def of(self, codes: Codes) -> Floats:
        """The probability of one class in each row, given as codes (J,)."""
        found = np.empty(len(self), np.float32)
        for block in blocks_of(len(self)):
            found[block] = np.take_along_axis(self[block], codes[block, None], axis=1)[:, 0]
        return found


def blocks_of(rows: int) -> Iterator[slice]:
    """Slices of so many rows that are looked at at once."""
    return (slice(start, min(start + _AT_ONCE, rows)) for start in range(0, rows, _AT_ONCE))
