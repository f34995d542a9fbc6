"""The embeddings of all rows, in memory where they are few enough: a classifier is fitted to them after each label."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from birder.learning.suggest import Batches
from birder.server.catalogue import Snapshot
from birder.server.id_index import IdIndex

MOST_BYTES = 256 * 2**20
"""The most that is kept: 87,000 rows of 768 components."""
_AT_ONCE = 8_192

Vectors = npt.NDArray[np.float32]


class KeptEmbeddings:
    """Gives the embeddings of a snapshot's rows: read once, and again when rows come, go or change their content."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: IdIndex | None = None
        self._ids: list[str] = []
        self._vectors: Vectors = np.empty((0, 0), np.float32)

    def batches(self, snapshot: Snapshot) -> Batches | None:
        """What gives them a batch at a time; None where there are too many to keep."""
        size = snapshot.collection.model.embedding_size
        if 4 * size * len(snapshot) > MOST_BYTES:
            return None
        with self._lock:
            if self._of is not snapshot.ids:
                self._ids, self._vectors = _read(snapshot)
                self._of = snapshot.ids
            ids, vectors = self._ids, self._vectors

        def batches() -> Iterator[tuple[list[str], Vectors]]:
            for start in range(0, len(ids), _AT_ONCE):
                yield ids[start : start + _AT_ONCE], vectors[start : start + _AT_ONCE]

        return batches


def _read(snapshot: Snapshot) -> tuple[list[str], Vectors]:
    ids: list[str] = []
    vectors = np.empty((len(snapshot), snapshot.collection.model.embedding_size), np.float32)
    for table, embeddings in snapshot.collection.embedding_batches(("id",)):
        room = len(vectors) - len(ids)  # rows that were added meanwhile are of the next snapshot
        some = table["id"].to_pylist()[:room]
        vectors[len(ids) : len(ids) + len(some)] = embeddings[:room]
        ids += some
    return ids, vectors[: len(ids)]
