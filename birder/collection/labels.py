"""Labels that people give: checked, written into the journal, undone, and folded into the rows.

A label is durable once it is in the journal (`birder.collection.journal`). The rows get it when labels are folded: many
in one commit, since a commit costs megabytes and a second, whether it is of one row or of a thousand.
"""

from __future__ import annotations

import functools
import re
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Collection as AnyCollection
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.journal import FEW_IDS, Act, Cells, Change, Journal, grouped, now
from birder.collection.reading import RowReader
from birder.collection.schema import refuse_reserved
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError

MAX_VALUE = 300
"""Characters of a label, in Unicode's composed form (NFC)."""
MAX_NAME = 100
"""The most characters of an author's name."""

_JOINERS = "\u200c\u200d"  # used in Persian, Malayalam and family emoji: invisible, and to be kept
_SHOWN = 5  # values that the history shows of an act

Values = Callable[[str, AnyCollection[str]], dict[str, str | None]]
"""From a column and ids to the current values of these rows; unknown ids are left out."""


class Wish(NamedTuple):
    """A label to give: rows, column, value, and an id by which a repeated request is recognised."""

    ids: Sequence[str]
    column: str
    value: str | None
    change: str | None = None


class Undone(NamedTuple):
    """An undone act: how many rows were restored, and how many were skipped because they had changed since."""

    act: str
    restored: int
    skipped: int


@dataclass(frozen=True)
class PastAct:
    """An act of the history.

    Attributes
    ----------
    act, at, by
        Its id, its time, and the name of its author.
    column
        The column; of several, the first.
    values, former
        The values that it wrote and those it replaced, each with its number of rows; the 5 most frequent.
    count
        In how many rows.
    ids
        The first few of them.
    undone
        Whether it was undone.
    """

    act: str
    at: datetime
    by: str | None
    column: str
    values: list[tuple[str | None, int]]
    former: list[tuple[str | None, int]]
    count: int
    ids: list[str]
    undone: bool


class HistoryPage(NamedTuple):
    """A part of the history, the latest act first; `next` is where the next part begins, `total` counts all acts."""

    acts: list[PastAct]
    next: int | None
    total: int


def checked_value(value: str) -> str:
    """A label as it is stored.

    Raises
    ------
    ConfigError
        It is empty or too long, or contains invisible characters.
    """
    return _checked(value, MAX_VALUE, f"A label has between 1 and {MAX_VALUE} printable characters; null removes it.")


def checked_name(name: str) -> str:
    """The name of a label's author, as it is stored; raises as `checked_value`."""
    return _checked(name, MAX_NAME, f"A name has between 1 and {MAX_NAME} printable characters.")


def _checked(text: str, most: int, rule: str) -> str:
    text = unicodedata.normalize("NFC", text)
    visible = [char for char in text if char not in _JOINERS and not unicodedata.name(char, "").startswith("VARIATION")]
    if not "".join(visible).strip() or len(text) > most or not "".join(visible).isprintable():
        raise ConfigError(rule)
    return text


def check_column(columns: Mapping[str, pa.DataType], column: str) -> None:
    """Refuse a column that labels may not be written to.

    Raises
    ------
    CollectionError
        A column of Birder's own.
    ConfigError
        A column of another type than text, or a name that no column may have.
    """
    refuse_reserved(column)
    own = columns.get(column)
    if own is not None and not pa.types.is_string(own):
        raise ConfigError(f"The column {column} holds {own}, not text: labels need a text column.")
    if own is None and not re.fullmatch(r"[^\W\d]\w{0,62}", column):
        raise ConfigError(f"A new column cannot be called {column!r}: use letters, digits and _, a letter first.")


class Recorder:
    """Writes labels and undoes them, while the journal is held: see `recording`."""

    def __init__(self, journal: Journal, append: Callable[[dict[str, object]], None], values: Values) -> None:
        self._journal = journal
        self._append = append
        self._values = values
        self._new: Cells = {}

    def give(self, wishes: Sequence[Wish], *, act: str | None = None, by: str | None = None) -> list[Change]:
        """Write labels, as one act; those whose `change` is known already are not written again.

        Parameters
        ----------
        wishes
            The labels, already checked. Unknown ids are left out, and so are rows that have the value already from a
            person; a value that a folder, table or model brought becomes that person's.
        act
            The act that they belong to; default: a new one.
        by
            The author of the labels.

        Returns
        -------
        The change of each; `count` is how many rows it changed.
        """
        act = act or str(uuid.uuid4())
        parts: dict[str, dict[str, object]] = {}
        named = [(wish.change or str(uuid.uuid4()), wish) for wish in wishes]
        for name, wish in named:
            if self._journal.change(name) is not None or name in parts:
                continue
            current = self._current(wish.column, wish.ids)
            former = {
                id_: value
                for id_, value in current.items()
                if value != wish.value or (value is not None and self._journal.word(wish.column, id_) is None)
            }
            self._new.setdefault(wish.column, {}).update(dict.fromkeys(former, wish.value))
            if former or wish.change is not None:  # a repeated request may arrive after others have labelled
                parts[name] = {"change": name, "column": wish.column, "value": wish.value, "was": grouped(former)}
        at = now()
        if parts:
            self._append({"act": act, "at": at, "by": by, "changes": list(parts.values())})
        moment = datetime.fromisoformat(at)
        return [
            self._journal.change(name) or Change(name, act, moment, by, wish.column, wish.value, 0, {}, [], (0, 0))
            for name, wish in named
        ]

    def undo(self, act: str | None = None, *, whose: tuple[str | None] | None = None, by: str | None = None) -> Undone:
        """Restore the values that an act replaced; rows that have been changed since stay as they are.

        Parameters
        ----------
        act
            Which act, or the id of one of its changes; default: the last one that is not undone.
        whose
            Only acts of this person: (name,), or (None,) for those without a name.
        by
            Who undoes it.

        Raises
        ------
        CollectionError
            There is nothing to undo, or the act is unknown or already undone.
        """
        chosen = self._chosen(act, whose)
        restored = skipped = 0
        parts = []
        for change in reversed([each for each in self._journal.of(chosen) if not each.undone]):
            former = {id_: value for value, ids in self._journal.line_of(change)["was"] for id_ in ids}
            current = self._current(change.column, former)
            back = {id_: value for id_, value in former.items() if id_ in current and current[id_] == change.value}
            self._new.setdefault(change.column, {}).update(back)
            parts.append({"change": change.change, "column": change.column, "to": grouped(back)})
            restored += len(back)
            skipped += len(former) - len(back)
        self._append({"undo": chosen.act, "at": now(), "by": by, "changes": parts})
        return Undone(chosen.act, restored, skipped)

    def _chosen(self, act: str | None, whose: tuple[str | None] | None) -> Act:
        journal = self._journal
        if act is None:
            for each in reversed(journal.acts):
                if (whose is None or each.by == whose[0]) and not is_undone(journal, each):
                    return each
            who = "" if whose is None else " without a name" if whose[0] is None else f" by {whose[0]}"
            raise CollectionError(f"There is nothing to undo: no label was given{who} in {journal.path}.")
        change = journal.change(act)
        found = journal.act(act) or (journal.act(change.act) if change is not None else None)
        if found is None or is_undone(journal, found):
            raise CollectionError(f"There is no act {act!r} that could be undone. The history lists them.")
        return found

    def _current(self, column: str, ids: AnyCollection[str]) -> dict[str, str | None]:
        current = self._values(column, ids)
        new = self._new.get(column)
        return {id_: new.get(id_, value) for id_, value in current.items()} if new else current


@contextmanager
def recording(journal: Journal, values: Values) -> Iterator[Recorder]:
    """Hold the journal; what is recorded within is on the disk once this ends, all of it or nothing.

    Raises
    ------
    CollectionError
        The disk is full, or cannot be written to.
    """
    with journal.writing() as append:
        yield Recorder(journal, append, values)


def give_label(
    collection: Storage,
    ids: Sequence[str],
    column: str,
    value: str | None,
    *,
    by: str | None = None,
    act: str | None = None,
) -> Change:
    """Give a label to rows. It is folded into them, with other pending labels, when they are next read.

    Parameters
    ----------
    collection
        The collection whose rows are labelled.
    ids
        The rows; unknown ids are left out, and so are rows that have the value already from a person.
    column
        A text column, added if it does not exist.
    value
        The label; None removes it.
    by
        The author of the label.
    act
        The id of an act that it is a part of.

    Returns
    -------
    The change; its `count` is how many rows it changed.

    Raises
    ------
    CollectionError
        The folder cannot be written to, or the disk is full.
    ConfigError
        A column or value that does not fit.
    """
    check_column(collection.columns, column)
    wish = Wish(ids, column, None if value is None else checked_value(value))
    by = None if by is None else checked_name(by)
    add_column(collection, column)
    with recording(collection.journal, values_of(collection)) as recorder:
        (change,) = recorder.give([wish], act=act, by=by)
    collection.labelled = True
    return change


def add_column(collection: Storage, column: str) -> None:
    """Add a column for labels if it does not exist."""
    if column not in collection.columns:
        with collection.writing():
            collection.add_columns({column: pa.string()})


def undo(collection: Storage, act: str | None = None, *, whose: tuple[str | None] | None = None) -> Undone:
    """Undo an act of labelling: see `Recorder.undo`."""
    with recording(collection.journal, values_of(collection)) as recorder:
        undone = recorder.undo(act, whose=whose)
    collection.labelled = True
    return undone


def history(
    journal: Journal, limit: int = 50, *, before: int | None = None, whose: tuple[str | None] | None = None
) -> HistoryPage:
    """The acts of labelling, the latest first.

    Parameters
    ----------
    journal
        The collection's.
    limit
        How many.
    before
        `next` of the page before; default: begin with the latest act.
    whose
        Only acts of this person: (name,), or (None,) for those without a name.
    """
    journal.read()
    with journal.lock:
        numbers = [n for n, act in enumerate(journal.acts) if whose is None or act.by == whose[0]]
        there = [n for n in numbers if before is None or n < before]
        shown = there[::-1][:limit]
        acts = [_past(journal, journal.acts[number]) for number in shown]
    return HistoryPage(acts, shown[-1] if len(there) > len(shown) and shown else None, len(numbers))


def ids_of(journal: Journal, act: str, most: int) -> list[str]:
    """The ids of the rows that an act changed, at most so many.

    Raises
    ------
    CollectionError
        The act is unknown.
    """
    journal.read()
    found = journal.act(act)
    if found is None:
        raise CollectionError(f"There is no act {act!r}. The history lists them.")
    ids: dict[str, None] = {}
    for change in journal.of(found):
        for _, some in journal.line_of(change)["was"]:
            ids |= dict.fromkeys(some)
        if len(ids) >= most:
            break
    return list(ids)[:most]


def is_undone(journal: Journal, act: Act) -> bool:
    """Whether all changes of an act are undone."""
    return all(change.undone for change in journal.of(act))


def _past(journal: Journal, act: Act) -> PastAct:
    values: Counter[str | None] = Counter()
    former: Counter[str | None] = Counter()
    ids: dict[str, None] = {}
    changes = journal.of(act)
    for change in changes:
        values[change.value] += change.count
        former.update(change.former)
        ids |= dict.fromkeys(change.some)
    return PastAct(
        act.act,
        act.at,
        act.by,
        changes[0].column,
        values.most_common(_SHOWN),
        former.most_common(_SHOWN),
        values.total(),
        list(ids)[:FEW_IDS],
        is_undone(journal, act),
    )


def values_of(collection: Storage) -> Values:
    """What rows have: in the table, and pending; as of the first question, when the journal is held."""

    @functools.cache
    def now_there() -> tuple[RowReader, Cells]:
        rows = collection.stored_rows()
        return rows, collection.journal.pending(rows.version)[0]

    def values(column: str, ids: AnyCollection[str]) -> dict[str, str | None]:
        rows, cells = now_there()
        wanted = pa.array(dict.fromkeys(ids), pa.string())
        found: dict[str, str | None] = {}
        for batch in rows.scan(["id", column]):
            some = batch.filter(pc.is_in(batch["id"], wanted))
            found.update(zip(some["id"].to_pylist(), some[column].to_pylist(), strict=True))
        pending = cells.get(column, {})
        return {id_: pending.get(id_, found[id_]) for id_ in wanted.to_pylist() if id_ in found}

    return values
