"""Finding rows by their ids, without an object for each of a million."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_FEW = 1000
"""Ids up to which looking each up takes less than hashing all that there are."""


class IdIndex:
    """The ids of rows, an array of texts in which each comes once; threads may share it."""

    def __init__(self, ids: pa.Array) -> None:
        self.ids = ids

    def position(self, id_: str) -> int | None:
        """The row of an id; None if there is none."""
        order, ids = self._order, self.ids
        place = bisect.bisect_left(order, id_, key=lambda row: ids[int(row)].as_py())  # as bytes, and as Python's texts
        return int(order[place]) if place < len(order) and ids[int(order[place])].as_py() == id_ else None

    def positions(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """The rows of ids, -1 where there is none."""
        if len(ids) <= _FEW:
            found = (self.position(id_) for id_ in ids)
            return np.fromiter((-1 if row is None else row for row in found), np.int64, len(ids))
        rows = pc.index_in(pa.array(ids, self.ids.type), self.ids).fill_null(-1)
        positions: npt.NDArray[np.int64] = rows.to_numpy(zero_copy_only=False).astype(np.int64)
        return positions

    @functools.cached_property
    def _order(self) -> npt.NDArray[np.uint64]:
        order: npt.NDArray[np.uint64] = pc.array_sort_indices(self.ids).to_numpy()
        return order
