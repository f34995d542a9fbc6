"""Which rows of two collections are of the same image.

An id is derived from the uri under which a file was first embedded, never from the model, so two collections of the
same files have the same ids. They are not enough where a collection was made from a copy of the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Codes = npt.NDArray[np.int64]

PAIRED_BY = ("id", "uri", "sha256")
"""The columns that rows are paired by."""


class Pairs(NamedTuple):
    """Rows of the same image: positions among the first rows and among the second, int64 (K,), by rising first.

    `differ` is the number of pairs with the same id or uri and another content.
    """

    first: Codes
    second: Codes
    differ: int


def pair_rows(first: pa.Table, second: pa.Table) -> Pairs:
    """Pair the rows of two collections that are of the same image or box; each row is in one pair at most.

    First those with the same id or uri and the same content; then those with the same content; last, those with the
    same id or uri, whose content has changed or is not known, as of imported embeddings. The sha256 of a box is that of
    the image and the box together. Some 600 bytes of memory a row.

    Parameters
    ----------
    first, second
        N and M rows with the columns `PAIRED_BY`.
    """
    mine, theirs = ({name: table[name].to_pylist() for name in PAIRED_BY} for table in (first, second))
    found = np.full(len(first), -1, np.int64)
    taken = np.zeros(len(second), np.bool_)
    for name in ("id", "uri"):
        _pair(found, taken, _both(mine, name), _both(theirs, name))
    _pair(found, taken, mine["sha256"], theirs["sha256"])
    before = int((found >= 0).sum())
    for name in ("id", "uri"):
        _pair(found, taken, mine[name], theirs[name])
    rows = np.flatnonzero(found >= 0)
    return Pairs(rows, found[rows], len(rows) - before)


def _both(rows: dict[str, list[Any]], name: str) -> list[tuple[Any, Any]]:
    return list(zip(rows[name], rows["sha256"], strict=True))


def _pair(found: Codes, taken: npt.NDArray[np.bool_], mine: Sequence[Any], theirs: Sequence[Any]) -> None:
    """Pair rows that are in no pair yet and have the same key; of several with it, the first with the first."""
    free: dict[Any, list[int]] = {}
    for place in range(len(theirs) - 1, -1, -1):
        if not taken[place]:
            free.setdefault(theirs[place], []).append(place)
    for place, key in enumerate(mine):
        if found[place] < 0 and (places := free.get(key)):
            found[place] = places.pop()
            taken[found[place]] = True
