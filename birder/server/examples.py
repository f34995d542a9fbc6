"""The labelled images of the collection as examples: sampled, read, and kept for the next request."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.filter import quoted
from birder.errors import unknown_name
from birder.naming.by_examples import ExampleNames, draw_examples, name_by_examples
from birder.naming.method import Method
from birder.server.catalogue import Snapshot
from birder.server.encoded import Positions

MOST_EXAMPLES = 5_000
"""The most labelled images to learn from, balanced over the classes."""
_NAMED_AT_ONCE = 2_000  # ids in a filter

Vector = npt.NDArray[np.float32]


class _Drawn(NamedTuple):
    """The examples of a column: rows of the snapshot, their labels, and of how many they were drawn."""

    positions: Positions
    labels: list[str]
    of: int


class Examples:
    """Provides what names images by the labels of a column; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vectors: dict[tuple[str, str], Vector] = {}  # by id and sha256, which determine the embedding
        self._drawn: dict[tuple[int, str], _Drawn] = {}
        self._fitted: dict[tuple[int, str, Method], ExampleNames] = {}

    def names(
        self, snapshot: Snapshot, column: str, method: Method, leave_out: int | None = None
    ) -> tuple[ExampleNames, int] | None:
        """What names images by the labels of a column, and the number of labelled images.

        None if there are labels of fewer than two classes. `leave_out` is the row of an image that must not name
        itself.

        Raises
        ------
        UnknownNameError
            The column does not exist or is not a text column.
        """
        if snapshot.types.get(column) != "text":
            texts = [name for name, kind in snapshot.types.items() if kind == "text"]
            raise unknown_name("column of text", column, texts)
        with self._lock:
            drawn = self._draw(snapshot, column)
            if leave_out is not None and leave_out not in drawn.positions:
                leave_out = None
            key = (snapshot.version, column, method)
            if leave_out is None and key in self._fitted:
                return self._fitted[key], drawn.of
            vectors, there = self._read(snapshot, drawn.positions)
            if leave_out is not None:
                there &= drawn.positions != leave_out
            labels = [label for label, is_there in zip(drawn.labels, there, strict=True) if is_there]
            if len(set(labels)) < 2:
                return None
            names = name_by_examples(vectors[there], labels, method=method)
            if leave_out is None:
                self._fitted = {other: fitted for other, fitted in self._fitted.items() if other[0] == key[0]}
                self._fitted[key] = names
            return names, drawn.of

    def _draw(self, snapshot: Snapshot, column: str) -> _Drawn:
        key = (snapshot.version, column)
        if key not in self._drawn:
            shown = snapshot.select(snapshot.filter(None))
            values = snapshot.column(column, shown)
            has = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(values), ""), False)
            labelled = np.flatnonzero(has.to_numpy(zero_copy_only=False))
            positions = shown[labelled]
            encoded = values.take(pa.array(labelled)).dictionary_encode()
            order = np.random.default_rng(0).random(len(snapshot))[positions]
            chosen = draw_examples(encoded.indices.to_numpy().astype(np.int64), MOST_EXAMPLES, order)
            labels = encoded.take(pa.array(chosen)).to_pylist()
            self._drawn = {other: drawn for other, drawn in self._drawn.items() if other[0] == key[0]}
            self._drawn[key] = _Drawn(positions[chosen], labels, len(positions))
        return self._drawn[key]

    def _read(self, snapshot: Snapshot, positions: Positions) -> tuple[Vector, npt.NDArray[np.bool_]]:
        """Embeddings (N, D) of rows, and which of them were there."""
        rows = snapshot.rows(positions, ["id", "sha256"])
        keys = [(row["id"], row["sha256"]) for row in rows]
        missing = {id_: sha256 for id_, sha256 in keys if (id_, sha256) not in self._vectors}
        if len(self._vectors) + len(missing) > 4 * MOST_EXAMPLES:
            self._vectors = {key: self._vectors[key] for key in keys if key in self._vectors}
        ids = list(missing)
        for start in range(0, len(ids), _NAMED_AT_ONCE):
            where = f"id IN ({', '.join(map(quoted, ids[start : start + _NAMED_AT_ONCE]))})"
            for table, embeddings in snapshot.collection.embedding_batches(("id",), where):
                for id_, vector in zip(table["id"].to_pylist(), embeddings, strict=True):
                    self._vectors[id_, missing[id_]] = vector.copy()
        there = np.array([key in self._vectors for key in keys], np.bool_)
        width = snapshot.collection.model.embedding_size
        vectors = np.zeros((len(keys), width), np.float32)
        for number, key in enumerate(keys):
            if there[number]:
                vectors[number] = self._vectors[key]
        return vectors, there
