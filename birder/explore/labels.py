"""Labels that people give: written into the collection's rows, and into a journal by which they can be undone.

The journal is the table `labels` beside the images: one row a change, with the values that were there before. Two
tables cannot change in one commit, so a change is first written down as begun, then made in the rows, then marked as
done. Whoever writes next finds what was begun and not finished, looks at the rows whether it was made (all of it was,
or nothing), and marks it done or takes it out.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from lancedb.table import Table

from birder.collection.condition import quoted
from birder.collection.disk import connect, open_images, storing
from birder.collection.rows import TIME, refuse_reserved
from birder.collection.store import Collection
from birder.errors import CollectionError, ConfigError

JOURNAL = "labels"
MAX_VALUE = 300
"""Characters of a label."""

_SCHEMA = pa.schema(
    [
        pa.field("change", pa.string(), nullable=False),
        pa.field("at", TIME, nullable=False),
        pa.field("column", pa.string(), nullable=False),
        pa.field("value", pa.string()),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("uris", pa.list_(pa.string()), nullable=False),
        pa.field("before", pa.list_(pa.string()), nullable=False),
    ]
)
_FEW = 200  # rows that are written by their names
_COMPACT_EVERY = 100  # changes, each of which leaves a small piece
_BEGUN, _DONE, _UNDOING, _UNDONE = "begun", "done", "undoing", "undone"


@dataclass(frozen=True)
class Change:
    """A label that was given: which, when, to how many rows, and whether that was undone."""

    change: str
    at: datetime
    column: str
    value: str | None
    count: int
    undone: bool


class Undone(NamedTuple):
    """A change that was undone: in how many rows, and how many were left as they had been changed since."""

    change: str
    restored: int
    skipped: int


def check_label(collection: Collection, column: str, value: str | None) -> None:
    """Refuse a column that labels may not be written to, or a value that is none.

    Raises
    ------
    CollectionError
        A column of Birder's own.
    ConfigError
        A column that holds no text, a name that no column may have, or an empty or overlong value.
    """
    refuse_reserved(column)
    own = collection.columns.get(column)
    if own is not None and not pa.types.is_string(own):
        raise ConfigError(f"The column {column} holds {own}, not text: labels go into a column of text.")
    if own is None and not re.fullmatch(r"[^\W\d]\w{0,62}", column):
        raise ConfigError(f"A new column cannot be called {column!r}: use letters, digits and _, a letter first.")
    if value is not None and (not value.strip() or len(value) > MAX_VALUE or not value.isprintable()):
        raise ConfigError(f"A label has between 1 and {MAX_VALUE} printable characters; null takes a label away.")


def give_label(collection: Collection, ids: Sequence[str], column: str, value: str | None) -> Change:
    """Write a label into rows, and what was there before into the journal.

    Parameters
    ----------
    collection
        Whose rows.
    ids
        Which rows; ids that are not there are left out, and so are rows that have the value already.
    column
        A column of text, added if it is not there.
    value
        The label; None takes away what is there.

    Returns
    -------
    The change; its `count` is how many rows it changed.

    Raises
    ------
    CollectionError
        Another process is writing, or the disk is full.
    ConfigError
        As `check_label`.
    """
    check_label(collection, column, value)
    with collection.writing():
        journal = _journal(collection)
        _settle(collection, journal)
        collection.add_columns({column: pa.string()})
        uris, before = _values(collection, column, "id", set(ids))
        changed = [number for number, old in enumerate(before) if old != value]
        change = Change(str(uuid.uuid4()), datetime.now(UTC), column, value, len(changed), False)
        if not changed:
            return change
        uris, before = [uris[number] for number in changed], [before[number] for number in changed]
        row = {**asdict(change), "state": _BEGUN, "uris": uris, "before": before}
        del row["undone"]
        with storing(collection.path):
            journal.add(pa.Table.from_pylist([row], schema=_SCHEMA))
        _write(collection, uris, column, [value] * len(uris))
        _mark(collection, journal, change.change, _DONE)
        if journal.count_rows() % _COMPACT_EVERY == 0:
            collection.compact()
            journal.optimize()
    return change


def undo(collection: Collection, change: str | None = None) -> Undone:
    """Give rows back what a change took from them; rows that have been changed since stay as they are.

    Parameters
    ----------
    collection
        Whose rows.
    change
        Which change; the last one that is not undone without it.

    Raises
    ------
    CollectionError
        There is nothing to undo, no such change, it is undone already, or another process is writing.
    """
    with collection.writing():
        journal = _journal(collection)
        _settle(collection, journal)
        done = [each for each in _changes(journal) if not each.undone]
        if change is None and not done:
            raise CollectionError(f"There is nothing to undo: no label was given in {collection.path}.")
        chosen = done[0].change if change is None else change
        if chosen not in {each.change for each in done}:
            raise CollectionError(f"There is no change {chosen!r} that could be undone. The history lists them.")
        (row,) = journal.search().where(_is(chosen)).to_arrow().to_pylist()
        former = dict(zip(row["uris"], row["before"], strict=True))
        uris, now = _values(collection, row["column"], "uri", former.keys())
        restored = [uri for uri, current in zip(uris, now, strict=True) if current == row["value"]]
        if restored:
            _mark(collection, journal, chosen, _UNDOING)
            _write(collection, restored, row["column"], [former[uri] for uri in restored])
        _mark(collection, journal, chosen, _UNDONE)
    return Undone(chosen, len(restored), len(former) - len(restored))


def history(collection: Collection, limit: int = 50) -> list[Change]:
    """The changes of labels, the latest first; one that was cut short is left out until the next writer settles it."""
    if not _has_journal(collection.path):
        return []
    return _changes(_open(collection))[:limit]


def _changes(journal: Table) -> list[Change]:
    rows = journal.search().select(["change", "at", "column", "value", "count", "state"]).to_arrow().to_pylist()
    changes = [
        Change(row["change"], row["at"], row["column"], row["value"], row["count"], row["state"] == _UNDONE)
        for row in rows
        if row["state"] != _BEGUN
    ]
    return sorted(changes, key=lambda change: change.at, reverse=True)


def _settle(collection: Collection, journal: Table) -> None:
    """Finish what a process that died had begun, by what the rows say."""
    open_ = journal.search().where(f"state IN ('{_BEGUN}', '{_UNDOING}')").to_arrow().to_pylist()
    for row in open_:
        has_value = False
        if row["column"] in collection.columns:
            _, now = _values(collection, row["column"], "uri", set(row["uris"]))
            has_value = row["value"] in now
        if row["state"] == _BEGUN and not has_value:
            with storing(collection.path):
                journal.delete(_is(row["change"]))
        else:
            _mark(collection, journal, row["change"], _DONE if has_value else _UNDONE)


def _values(collection: Collection, column: str, key: str, wanted: Iterable[str]) -> tuple[list[str], list[str | None]]:
    """The uris of rows by their id or uri, and what they have in a column."""
    keys = pa.array(list(wanted), pa.string())
    uris: list[str] = []
    values: list[str | None] = []
    for batch in collection.scan(list(dict.fromkeys(["uri", key, column]))):
        found = batch.filter(pc.is_in(batch[key], keys))
        uris += found["uri"].to_pylist()
        values += found[column].to_pylist()
    return uris, values


def _write(collection: Collection, uris: list[str], column: str, values: Sequence[str | None]) -> None:
    """Write values into rows, in one commit."""
    if len(uris) > _FEW or len(set(values)) > 1:
        collection.update(pa.table({"uri": pa.array(uris, pa.string()), column: pa.array(values, pa.string())}))
        return
    # Joining a table with all rows takes a second for 100,000 of them; this writes the few rows alone.
    with storing(collection.path):
        images = open_images(collection.path)
        images.update(where=_one_of(uris), values_sql={column: _literal(values[0])})
    collection.see_latest()


def _one_of(uris: Sequence[str]) -> str:
    return f"uri IN ({', '.join(quoted(uri) for uri in uris)})"


def _literal(value: str | None) -> str:
    return "CAST(NULL AS STRING)" if value is None else quoted(value)


def _mark(collection: Collection, journal: Table, change: str, state: str) -> None:
    with storing(collection.path):
        journal.update(where=_is(change), values={"state": state})


def _is(change: str) -> str:
    return f"change = {quoted(change)}"


def _has_journal(path: Path) -> bool:
    return (path / f"{JOURNAL}.lance" / "_versions").is_dir()


def _open(collection: Collection) -> Table:
    return connect(collection.path).open_table(JOURNAL)


def _journal(collection: Collection) -> Table:
    with storing(collection.path):
        if _has_journal(collection.path):
            return _open(collection)
        left = (collection.path / f"{JOURNAL}.lance").exists()  # by a process that died while making it
        mode = "overwrite" if left else "create"
        return connect(collection.path).create_table(JOURNAL, schema=_SCHEMA, mode=mode)
