"""The values of text columns by their words: what someone who types a few words may mean.

Whole words come before beginnings of words, and these before other parts. Case and accents make no difference. All
words must be in one value; or, of several words, the first in a value of one column and the others in one of another,
if there are images with both.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.schema import LABEL_SOURCE
from birder.server.catalogue import Snapshot
from birder.server.encoded import counted

_NO_WORDS = {"id", "uri", "sha256", "etag", LABEL_SOURCE}
_MOST_WORDS = 8
_LISTED = 100  # values that a filter names one by one
_PAIRS = 12  # of columns in which two parts of a text are looked for

_Numbers = npt.NDArray[np.int64]
_Ranks = npt.NDArray[np.int8]
Match = Literal["value", "words", "beginnings", "parts"]
_MATCHES: tuple[Match, ...] = ("value", "words", "beginnings", "parts")
_NONE = len(_MATCHES)


@dataclass(frozen=True)
class ValueFound:
    """A value of a column with all words, in how many images it is, and what of it they are."""

    column: str
    value: str
    count: int
    match: Match


@dataclass(frozen=True)
class ColumnFound:
    """The values of a column with all words, of the best kind of match that it has.

    Attributes
    ----------
    column
        Its name.
    distinct
        How many values.
    count
        In how many images they are.
    match
        What of them the words are.
    values
        The values, if there are at most 100; else empty.
    text
        The words.
    """

    column: str
    distinct: int
    count: int
    match: Match
    values: list[str]
    text: str


@dataclass(frozen=True)
class Found:
    """What a text may mean.

    Attributes
    ----------
    values
        The best values: the closest matches first, then the most frequent.
    more
        How many values there are beside them.
    columns
        The columns with such values, the closest first.
    together
        Two columns, each with a part of the text, and in how many images they are together; empty if all words are
        whole words of one value, or no image has both.
    together_count
        How many images those are.
    """

    values: list[ValueFound]
    more: int
    columns: list[ColumnFound]
    together: list[ColumnFound]
    together_count: int


def words_of(texts: pa.Array) -> pa.ListArray:
    """The words of texts, in lower case and without accents; none of a text without letters and digits."""
    return pc.split_pattern_regex(_plain(texts), r"[^\pL\pN]+")


def _plain(texts: pa.Array) -> pa.Array:
    without = pc.replace_substring_regex(pc.utf8_normalize(texts.cast(pa.string()), "NFKD"), r"\pM+", "")
    return pc.utf8_trim(pc.utf8_lower(without), " ")


class _Column:
    """The values of one column, with an index from each word to the values that have it."""

    def __init__(self, values: pa.Array) -> None:
        self.values = values
        words = words_of(values)
        encoded = words.flatten().dictionary_encode()
        codes = encoded.indices.to_numpy().astype(np.int64)
        order = np.argsort(codes, kind="stable")
        self.vocabulary = encoded.dictionary
        self._values_of: _Numbers = pc.list_parent_indices(words).to_numpy().astype(np.int64)[order]
        self._lengths = np.bincount(codes, minlength=len(self.vocabulary))
        self._ends = np.cumsum(self._lengths)

    def ranks(self, words: list[str]) -> _Ranks:
        """How well each value fits all words: a place in `_MATCHES`, or `_NONE`."""
        worst = np.zeros(len(self.values), np.int8)
        for word in words:
            ranks = np.full(len(self.values), _NONE, np.int8)
            kinds = (pc.match_substring, pc.starts_with, pc.equal)
            for rank, fits in zip((3, 2, 1), kinds, strict=True):
                ranks[self._having(fits(self.vocabulary, word))] = rank
            worst = np.maximum(worst, ranks)
        whole = np.flatnonzero(worst == 1)
        if len(whole):
            lists = words_of(self.values.take(pa.array(whole))).to_pylist()
            worst[whole[[[word for word in each if word] == words for each in lists]]] = 0
        return worst

    def _having(self, fits: pa.Array) -> _Numbers:
        """The values that have one of the words."""
        found = np.flatnonzero(fits.to_numpy(zero_copy_only=False))
        if len(found) == 1:
            end = int(self._ends[found[0]])
            return self._values_of[end - int(self._lengths[found[0]]) : end]
        mask = np.zeros(len(self.vocabulary), np.bool_)
        mask[found] = True
        return self._values_of[np.repeat(mask, self._lengths)]


class ValuesByWord:
    """Finds values by their words; a column is read again when its values have changed.

    Memory holds the different words of all text columns, and 8 bytes for each word of each different value.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: dict[str, _Column] = {}
        self._counts: dict[str, _Numbers] = {}
        self._version: int | None = None

    def find(self, snapshot: Snapshot, text: str, limit: int) -> Found:
        """Find values of all text columns.

        Parameters
        ----------
        snapshot
            The columns.
        text
            Words; more than eight are not looked at.
        limit
            The most values to list.
        """
        words = [word for word in words_of(pa.array([text]))[0].as_py() if word][:_MOST_WORDS]
        if not words:
            return Found([], 0, [], [], 0)
        with self._lock:
            self._read(snapshot)
            columns, counts = dict(self._columns), dict(self._counts)
        values, more = self._values(columns, counts, words, limit)
        found = _by_column(columns, counts, words, " ".join(words))
        together: list[ColumnFound] = []
        number = 0
        if len(words) > 1 and not (values and values[0].match in ("value", "words")):
            together, number = _together(snapshot, columns, counts, words)
        return Found(values, more, found, together, number)

    def _read(self, snapshot: Snapshot) -> None:
        if self._version == snapshot.version:
            return
        names = [name for name, kind in snapshot.types.items() if kind == "text" and name not in _NO_WORDS]
        columns, every = dict[str, _Column](), dict[str, _Numbers]()
        for name in names:
            values, counts = counted(snapshot.encoded(name).drop_null())
            known = self._columns.get(name)
            columns[name] = known if known is not None and known.values.equals(values) else _Column(values)
            every[name] = counts.to_numpy(zero_copy_only=False).astype(np.int64)
        self._columns, self._counts, self._version = columns, every, snapshot.version

    @staticmethod
    def _values(
        columns: dict[str, _Column], counts: dict[str, _Numbers], words: list[str], limit: int
    ) -> tuple[list[ValueFound], int]:
        every = list[tuple[int, int, str, str]]()
        number = 0
        for name, column in columns.items():
            ranks = column.ranks(words)
            there = np.flatnonzero(ranks < _NONE)
            number += len(there)
            best = there[np.lexsort((-counts[name][there], ranks[there]))[:limit]]
            texts = column.values.take(pa.array(best)).to_pylist()
            every += [(int(ranks[i]), -int(counts[name][i]), value, name) for i, value in zip(best, texts, strict=True)]
        shown = sorted(every)[:limit]
        found = [ValueFound(name, value, -count, _MATCHES[rank]) for rank, count, value, name in shown]
        return found, number - len(found)


def _by_column(
    columns: dict[str, _Column], counts: dict[str, _Numbers], words: list[str], text: str
) -> list[ColumnFound]:
    found = list[ColumnFound]()
    for name, column in columns.items():
        ranks = column.ranks(words)
        best = int(ranks.min(initial=_NONE))
        if best == _NONE:
            continue
        kept = np.flatnonzero(ranks <= max(best, 1))  # a value that is the text itself is one of its words, too
        kind = _MATCHES[max(best, 1)] if len(kept) > 1 else _MATCHES[best]
        values = column.values.take(pa.array(kept)).to_pylist() if len(kept) <= _LISTED else []
        found.append(ColumnFound(name, len(kept), int(counts[name][kept].sum()), kind, sorted(values), text))
    return sorted(found, key=lambda each: (_MATCHES.index(each.match), -each.count, each.column))


def _together(
    snapshot: Snapshot, columns: dict[str, _Column], counts: dict[str, _Numbers], words: list[str]
) -> tuple[list[ColumnFound], int]:
    best: tuple[int, int, list[ColumnFound]] | None = None
    for cut in range(1, len(words)):
        parts = [_by_column(columns, counts, some, " ".join(some)) for some in (words[:cut], words[cut:])]
        pairs = [(one, other) for one in parts[0] for other in parts[1] if one.column != other.column]
        for one, other in pairs[:_PAIRS]:
            if not (one.values and other.values):
                continue
            both = pc.and_(*(_rows(snapshot, each) for each in (one, other)))
            number = int(pc.sum(both).as_py() or 0)
            rank = _MATCHES.index(one.match) + _MATCHES.index(other.match)
            if number and (best is None or (rank, -number) < best[:2]):
                best = rank, -number, [one, other]
    return ([], 0) if best is None else (best[2], -best[1])


def _rows(snapshot: Snapshot, found: ColumnFound) -> Any:
    column = snapshot.encoded(found.column)
    if not pa.types.is_dictionary(column.type):
        return pc.is_in(column, value_set=pa.array(found.values, column.type))
    fits = pc.is_in(column.dictionary, value_set=pa.array(found.values, column.type.value_type))
    return pc.fill_null(fits.take(column.indices), False)
