"""Finding rows by their ids, without an object for each of a million."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from birder.server.encoded import Positions
from birder.server.text_order import text_order

_FEW = 1000
"""Ids up to which looking each up takes less than hashing all that there are."""


class IdIndex:
    """The ids of rows, an array of texts in which each comes once; threads may share it."""

    def __init__(self, ids: pa.Array) -> None:
        self.ids = ids

    def position(self, id_: str) -> int | None:
        """The row of an id; None if there is none."""
        order, ids = self.order, self.ids
        place = bisect.bisect_left(order, id_, key=lambda row: ids[int(row)].as_py())  # as bytes, and as Python's texts
        return int(order[place]) if place < len(order) and ids[int(order[place])].as_py() == id_ else None

    def positions(self, ids: Sequence[str] | pa.ChunkedArray | pa.Array) -> Positions:
        """The rows of ids, -1 where there is none; one that is named twice has the same row twice."""
        if not isinstance(ids, Sequence):
            ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        if len(ids) == len(self.ids) and isinstance(ids, pa.Array) and ids.equals(self.ids):
            return np.arange(len(ids))
        if isinstance(ids, Sequence) and len(ids) <= _FEW:
            found = (self.position(id_) for id_ in ids)
            return np.fromiter((-1 if row is None else row for row in found), np.int64, len(ids))
        wanted = ids if isinstance(ids, pa.Array) else pa.array(ids, self.ids.type)
        # What is hashed are the few, if they are few; each of all is then looked up among them.
        rows = np.flatnonzero(pc.is_in(self.ids, wanted).to_numpy(zero_copy_only=False))
        inside = pc.index_in(wanted, self.ids.take(pa.array(rows))).fill_null(-1).to_numpy(zero_copy_only=False)
        positions: Positions = np.append(rows, -1)[inside]
        return positions

    @functools.cached_property
    def need_no_escape(self) -> bool:
        """Whether JSON has all of them as they are."""
        return not pc.any(pc.match_substring_regex(self.ids, r'[\x00-\x1f"\\]')).as_py()

    @functools.cached_property
    def order(self) -> Positions:
        """The rows in the order of their ids."""
        return text_order(self.ids)
