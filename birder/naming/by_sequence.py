"""Names for sequences: one answer for all images and boxes of a visit.

Probabilities are pooled by the mean of their logarithms, scaled to a sum of 1: the logarithmic opinion pool (Genest and
Zidek, Combining probability distributions, Statistical Science 1986), which is the product rule of Kittler et al. (On
combining classifiers, IEEE TPAMI 1998) with the exponent 1 / n, since the images of a visit are not independent.
Scores that are no probabilities (of examples: closeness to a class, shares of votes that may be 0) are pooled by their
mean.

B is the number of rows in a batch, D the embedding dimension, C the number of names, S of sequences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.errors import ConfigError
from birder.naming.predictions import Top, rows_of

Vectors = npt.NDArray[np.float32]

_SCORES_AT_ONCE = 1 << 24  # 128 MiB in float64
_ABOVE_NOTHING = 1e-9  # shares of votes may be 0, which names nothing


class Pooling(Protocol):
    """Names whose scores can be pooled: of texts, of examples, of a classifier."""

    @property
    def pooled_names(self) -> pa.Table:
        """C rows: the columns of each name."""

    @property
    def gives_probabilities(self) -> bool:
        """Whether `all_scores` are logarithms of probabilities."""

    def all_scores(self, vectors: Vectors) -> npt.NDArray[np.floating[Any]]:
        """The scores of all C names for embeddings (B, D): float (B, C), logarithms if they are probabilities."""


class NamedSequence(NamedTuple):
    """A sequence: its id, the uri of its first row named, how many rows were pooled, and its names, best first."""

    sequence: str
    uri: str
    rows: int
    names: list[dict[str, Any]]


class SequencePool:
    """Gathers rows, batch by batch, and names each sequence as soon as it has all its rows.

    Memory: the embeddings of sequences that have begun and lack rows; images of one visit are embedded one after the
    other, so these are few. Scores are computed in blocks of 128 MiB.

    Parameters
    ----------
    names
        What names.
    sequence_of
        The sequence of every row that will be added, by uri.
    k, min_score
        At most so many names for each, none with a score below the least.
    """

    def __init__(self, names: Pooling, sequence_of: Mapping[str, str], k: int, min_score: float) -> None:
        self._names = names
        self.sequence_of = sequence_of
        self._k = k
        self._least = min_score if names.gives_probabilities else max(min_score, _ABOVE_NOTHING)
        self._left = Counter(sequence_of.values())
        self._waiting: dict[str, tuple[list[str], list[Vectors]]] = {}

    def add(self, keys: Sequence[str], vectors: Vectors) -> Iterator[NamedSequence]:
        """Take rows, by uri, with their embeddings (B, D); yield the sequences that have all their rows now."""
        complete = []
        for key, vector in zip(keys, vectors, strict=True):
            sequence = self.sequence_of.get(key, key)  # a row that was added meanwhile stays alone
            uris, some = self._waiting.setdefault(sequence, ([], []))
            uris.append(key)
            some.append(vector.copy())
            self._left[sequence] -= 1
            if self._left[sequence] <= 0:
                complete.append(sequence)
        yield from self._named(complete)

    def rest(self) -> Iterator[NamedSequence]:
        """The sequences some of whose rows never came: they are gone."""
        yield from self._named(list(self._waiting))

    def _named(self, complete: Sequence[str]) -> Iterator[NamedSequence]:
        found = [(sequence, *self._waiting.pop(sequence)) for sequence in complete]
        if not found:
            return
        tops = pool(self._names, [np.stack(some) for _, _, some in found], self._k)
        table = self._names.pooled_names
        for (sequence, uris, _), names in zip(found, rows_of(tops, table, self._least), strict=True):
            yield NamedSequence(sequence, min(uris), len(uris), names)


def pool(names: Pooling, sequences: Sequence[Vectors], k: int) -> Top:
    """The k best names of each sequence.

    Parameters
    ----------
    names
        What names.
    sequences
        The embeddings of each sequence's rows, (rows, D) each, at least one row.
    k
        How many names; all C if there are fewer.

    Returns
    -------
    Indices of names and their pooled scores, (S, k).
    """
    count = names.pooled_names.num_rows
    if k < 1:
        raise ConfigError(f"k must be at least 1, not {k}.")
    k = min(k, count)
    at_once = max(1, _SCORES_AT_ONCE // count)
    indices, scores = np.empty((len(sequences), k), np.int64), np.empty((len(sequences), k), np.float32)
    vectors = np.concatenate(sequences)
    owner = np.repeat(np.arange(len(sequences)), [len(each) for each in sequences])
    total = np.zeros(count)
    for start in range(0, len(vectors), at_once):
        part = names.all_scores(vectors[start : start + at_once])
        for row, each in enumerate(part, start):
            total += each
            if row + 1 == len(vectors) or owner[row + 1] != owner[row]:
                sequence = owner[row]
                pooled = _pooled(total / len(sequences[sequence]), names.gives_probabilities)
                best = np.argsort(-pooled, kind="stable")[:k]
                indices[sequence], scores[sequence] = best, pooled[best]
                total[:] = 0
    return Top(indices, scores)


def _pooled(mean: npt.NDArray[np.float64], probabilities: bool) -> npt.NDArray[np.float64]:
    if not probabilities:
        return mean
    odds = np.exp(mean - mean.max())
    pooled: npt.NDArray[np.float64] = odds / odds.sum()
    return pooled
