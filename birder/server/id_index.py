"""Finding rows by their ids, without an object for each of a million."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.server.encoded import Positions
from birder.server.text_order import text_order

_FEW = 1000
"""Ids up to which looking each up takes less than hashing all that there are."""
_AT_ONCE = 50_000
_DASHES = (8, 13, 18, 23)  # places in the text of a UUID
_DIGIT_PLACES = tuple(place for place in range(36) if place not in _DASHES)
_DIGITS = np.full(256, 255, np.uint8)  # of a letter's code; 255 for what is not a lower-case hexadecimal digit
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


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
        wanted = ids if isinstance(ids, pa.Array) else pa.array(ids, self.ids.type)
        if len(ids) <= _FEW and len(self.ids) and (sorted_ := self._sorted) is not None:
            return self._among(sorted_, wanted)
        # What is hashed are the few, if they are few; each of all is then looked up among them.
        rows = np.flatnonzero(pc.is_in(self.ids, wanted).to_numpy(zero_copy_only=False))
        inside = pc.index_in(wanted, self.ids.take(pa.array(rows))).fill_null(-1).to_numpy(zero_copy_only=False)
        positions: Positions = np.append(rows, -1)[inside]
        return positions

    def _among(self, sorted_: npt.NDArray[np.bytes_], wanted: pa.Array) -> Positions:
        keys = _sortable(IdIndex(wanted).uuids)
        if keys is None:  # not all of them UUIDs: one that is not is not among those that are
            found = (self.position(id_) for id_ in wanted.to_pylist())
            return np.fromiter((-1 if row is None else row for row in found), np.int64, len(wanted))
        places = np.minimum(np.searchsorted(sorted_, keys), len(sorted_) - 1)
        rows: Positions = np.where(sorted_[places] == keys, self.order[places], -1)
        return rows

    @functools.cached_property
    def _sorted(self) -> npt.NDArray[np.bytes_] | None:
        """The ids as bytes in their order, 16 bytes a row; None if they are not all UUIDs."""
        return None if self.uuids is None else _sortable(self.uuids[self.order])

    @functools.cached_property
    def need_no_escape(self) -> bool:
        """Whether JSON has all of them as they are."""
        return not pc.any(pc.match_substring_regex(self.ids, r'[\x00-\x1f"\\]')).as_py()

    @functools.cached_property
    def uuids(self) -> npt.NDArray[np.uint8] | None:
        """The ids as bytes, (N, 16), where all are UUIDs as Birder writes them; else None."""
        if not len(self.ids):
            return np.zeros((0, 16), np.uint8)
        lengths = pc.min_max(pc.binary_length(self.ids))
        if self.ids.null_count or lengths["min"].as_py() != 36 or lengths["max"].as_py() != 36:
            return None
        text = np.frombuffer(self.ids.buffers()[2], np.uint8)
        first = int(np.frombuffer(self.ids.buffers()[1], np.int32)[self.ids.offset])
        found = np.empty((len(self.ids), 16), np.uint8)
        for start in range(0, len(found), _AT_ONCE):
            rows = found[start : start + _AT_ONCE]
            letters = text[first + 36 * start :][: 36 * len(rows)].reshape(-1, 36)
            digits = _DIGITS[letters[:, _DIGIT_PLACES]]
            if (letters[:, _DASHES] != ord("-")).any() or (digits > 15).any():
                return None
            np.bitwise_or(digits[:, ::2] << 4, digits[:, 1::2], out=rows)
        return found

    @functools.cached_property
    def order(self) -> Positions:
        """The rows in the order of their ids."""
        return text_order(self.ids)


def _sortable(uuids: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.bytes_] | None:
    """UUIDs (N, 16) as (N,) values whose order is that of their texts."""
    return None if uuids is None else np.ascontiguousarray(uuids).view("S16").reshape(-1)
