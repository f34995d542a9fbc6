"""Stacks: the images of a sequence as one entry of a list, which stands where the first of them would.

Only images that match the list's filter are in its stacks. Those of a stack keep the order of the list, so that the
first is the one by which the stack is placed; an image without a sequence is a stack of its own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.server.catalogue import Snapshot
from birder.server.encoded import Positions, codes_of

SEQUENCE = "sequence"
"""The column of the ids of sequences."""

_KEPT = 4  # lists; at a million images 16 MB each, or less


@dataclass(frozen=True)
class Stacks:
    """A list of images, folded.

    Attributes
    ----------
    positions
        (N,): rows of the snapshot, those of a stack together.
    starts
        (S,): where each stack begins among them, ascending.
    """

    positions: Positions
    starts: Positions

    @property
    def sizes(self) -> Positions:
        """How many images each stack has, (S,)."""
        return np.diff(self.starts, append=len(self.positions))

    def some(self, offset: int, limit: int) -> list[Positions]:
        """The rows of some stacks."""
        ends = np.append(self.starts[offset + 1 : offset + limit + 1], len(self.positions))
        pairs = zip(self.starts[offset : offset + limit].tolist(), ends.tolist(), strict=False)
        return [self.positions[start:end] for start, end in pairs]


class Folding:
    """Folds lists by sequence, and keeps the latest: their parts are asked for one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lists: OrderedDict[tuple[int, str | None, str], Stacks] = OrderedDict()
        self._numbers: tuple[pa.Array, npt.NDArray[np.int32]] | None = None

    def stacks(self, snapshot: Snapshot, where: str | None, order: str) -> Stacks:
        """The images that match a filter, in an order, folded; errors as of `Snapshot.select`."""
        key = (snapshot.version, where or None, order)
        with self._lock:
            if key in self._lists:
                self._lists.move_to_end(key)
                return self._lists[key]
        found = folded(self._sequences(snapshot), snapshot.select(snapshot.filter(where), order))
        with self._lock:
            self._lists[key] = found
            if len(self._lists) > _KEPT:
                self._lists.popitem(last=False)
        return found

    def _sequences(self, snapshot: Snapshot) -> npt.NDArray[np.int32]:
        """The number of each row's sequence, -1 without one; the same column is read once."""
        if snapshot.types.get(SEQUENCE) != "text":
            return np.full(len(snapshot), -1, np.int32)
        column = snapshot.encoded(SEQUENCE)
        known = self._numbers
        if known is None or known[0] is not column:
            texts = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
            self._numbers = known = (column, codes_of(texts))
        return known[1]


def folded(sequences: npt.NDArray[np.int32], positions: Positions) -> Stacks:
    """Put the rows of a sequence together, where the first of them stands.

    Parameters
    ----------
    sequences
        The number of the sequence of each row of the snapshot; -1 without one.
    positions
        (N,): the rows of a list, in its order.
    """
    own = sequences[positions]
    places = np.arange(len(positions))
    first = np.full(int(own.max(initial=-1)) + 2, len(positions))  # the last is of rows without a sequence
    np.minimum.at(first, own, places)
    place = np.where(own < 0, places, first[own])
    if (np.diff(place) < 0).any():
        order = np.argsort(place, kind="stable")
        place, positions = place[order], positions[order]
    return Stacks(positions, np.flatnonzero(np.diff(place, prepend=-1)))
