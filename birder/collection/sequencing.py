"""Sequences written into the rows, and the clock of a camera set right: what a collection does with times."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from birder.analysis.sequences import GAP, TimedRows, read_timed_rows, sequence_ids
from birder.collection.disk import storing
from birder.collection.filter import Filter, as_filter
from birder.collection.journal import now
from birder.collection.labels import Undone, checked_name
from birder.collection.schema import DEPLOYMENT, TIME_OF_IMAGE
from birder.collection.storage import Storage
from birder.collection.times import Shift, Times, make_shift, read_times, shifted_rows, write_times
from birder.errors import CollectionError, ConfigError
from birder.words import counted

_FIRST, _LAST = (
    int((each - datetime(1970, 1, 1)) / timedelta(microseconds=1))
    for each in (datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59))
)
_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_PARTS = re.compile(r"(\d+(?:\.\d+)?)([wdhms])")
_CLOCK = re.compile(r"(\d+):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?")


@dataclass(frozen=True)
class Sequenced:
    """What making sequences did.

    Attributes
    ----------
    gap
        In seconds.
    changed
        How many rows got another sequence.
    untimed
        How many rows have no time: their images stay alone.
    """

    gap: float
    changed: int
    untimed: int


@dataclass(frozen=True)
class Shifted:
    """What shifting times did.

    Attributes
    ----------
    act
        Its id, for `undo`.
    delta
        What was added to the times.
    rows
        How many rows got another time.
    untimed
        How many of the chosen rows have no time.
    sequences
        How many rows got another sequence.
    """

    act: str
    delta: timedelta
    rows: int
    untimed: int
    sequences: int

    @property
    def by(self) -> str:
        """What was added, in words, such as +1 day, 3:00:00."""
        return f"+{self.delta}" if self.delta > timedelta() else f"-{-self.delta}"


def make_sequences(storage: Storage, gap: float | None = None) -> Sequenced:
    """Write the sequence of each row into its column `sequence`, in one commit; a person's sequence stays.

    `deployment` is filled from `deploymentID` or `deployment_id` where it is empty.

    Parameters
    ----------
    storage
        The collection.
    gap
        In seconds (default: that of the last time, else 60).

    Raises
    ------
    ConfigError
        The gap is negative or not a number.
    CollectionError
        Another process is writing, or a column `sequence` of the user's holds something else than text.
    """
    if gap is not None and not 0 <= gap < float("inf"):
        raise ConfigError(f"The gap must be 0 seconds or more, not {gap}.")
    storage.see_latest()  # with the labels that people gave
    with storage.writing():
        times = read_times(storage.path)
        gap = gap if gap is not None else times.gap if times.gap is not None else GAP
        storage.add_own_columns()
        if not pa.types.is_string(storage.columns["sequence"]):
            raise CollectionError(
                f"The column sequence of {storage.path} holds {storage.columns['sequence']}, not text: it is the "
                "user's own. Embed the images into another collection, without this column."
            )
        rows = read_timed_rows(storage)
        table = rows.table
        ids = _with_words(storage, table["id"], sequence_ids(table, gap))
        other = _differs(ids, table["sequence"])
        change = other | (rows.filled if pa.types.is_string(storage.columns[DEPLOYMENT[0]]) else False)
        if change.any():
            mask = pa.array(change)
            columns = {"id": table["id"].filter(mask), "sequence": ids.filter(mask)}
            if (rows.filled & change).any():
                columns["deployment"] = table["deployment"].filter(mask)
            storage.update(pa.table(columns))
        if times.gap != gap:
            with storing(storage.path):
                write_times(storage.path, replace(read_times(storage.path), gap=gap))
    return Sequenced(gap, int(other.sum()), table["taken_at"].null_count)


def sequences_follow(storage: Storage) -> Sequenced | None:
    """Make sequences after images were embedded: where times are known, and the sequences are not a table's."""
    names = storage.columns
    if TIME_OF_IMAGE not in names or not storage.count(f"{TIME_OF_IMAGE} IS NOT NULL"):
        return None
    if read_times(storage.path).gap is None and "sequence" in names and storage.count("sequence IS NOT NULL"):
        return None
    return make_sequences(storage)


def shift_time(
    storage: Storage, delta: timedelta, where: str | Filter | None = None, *, by: str | None = None
) -> Shifted:
    """Add a duration to the times of rows; their sequences, if there are any, follow in the same commit.

    Parameters
    ----------
    storage
        The collection.
    delta
        What to add.
    where
        A filter: only these rows.
    by
        Who does it.

    Raises
    ------
    ConfigError
        The duration is 0, or leads out of the years 1 to 9999.
    CollectionError
        No such row has a time, or another process is writing. Nothing is changed then.
    """
    if not delta:
        raise ConfigError("A shift by 0 changes nothing: say how far the clock was wrong.")
    by = None if by is None else checked_name(by)
    storage.see_latest()
    filter = as_filter(where, storage.columns)
    with storage.running(), storage.writing():
        if TIME_OF_IMAGE not in storage.columns or not pa.types.is_timestamp(storage.columns[TIME_OF_IMAGE]):
            raise CollectionError(f"{storage.path} has no times: there is no column {TIME_OF_IMAGE} with them.")
        chosen = [id_ for batch in storage.scan(["id"], where=filter) for id_ in batch["id"].to_pylist()]
        times = read_times(storage.path)
        rows = _current(storage, times)
        table = rows.table
        mine = pc.is_in(table["id"], pa.array(chosen, pa.string())).to_numpy()
        timed = pc.is_valid(table["taken_at"]).to_numpy()
        moving = mine & timed
        if not moving.any():
            raise CollectionError(
                f"Nothing was changed: of {counted(int(mine.sum()), 'row that matches', 'rows that match')}, none has "
                "a time. Check the filter."
            )
        micros = delta // timedelta(microseconds=1)
        before = _micros(table)
        after = np.where(moving, before + micros, before)
        if not (after[moving].min() >= _FIRST and after[moving].max() <= _LAST):
            raise ConfigError(f"Nothing was changed: a shift by {delta} leads out of the years 1 to 9999.")
        shift = Shift(
            str(uuid.uuid4()),
            now(),
            by,
            None if filter is None else filter.text,
            micros,
            int(moving.sum()),
            storage.version,
        )
        sequences = _shift(storage, times, shift, rows, after, moving)
    return Shifted(shift.act, delta, shift.rows, int((mine & ~timed).sum()), sequences)


def is_shift(storage: Storage, act: str) -> bool:
    """Whether an id is that of a shift."""
    return read_times(storage.path).shift(act) is not None


def undo_shift(storage: Storage, act: str, *, by: str | None = None) -> Undone:
    """Give the rows of a shift their former times again; rows whose time has changed since stay as they are.

    Raises
    ------
    CollectionError
        The shift is unknown or has been undone, or its file is missing.
    """
    storage.see_latest()
    with storage.running(), storage.writing():
        times = read_times(storage.path)
        done = times.shift(act)
        if done is None or done.undoes is not None:
            raise CollectionError(f"There is no shift {act!r} that could be undone.")
        if any(shift.undoes == act for shift in times.shifts):
            raise CollectionError(f"The shift {act} has already been undone.")
        former = shifted_rows(storage.path, act)
        former = former.filter(pc.not_equal(former["was"], former["taken_at"]))
        rows = _current(storage, times)
        place = pc.index_in(rows.table["id"], former["id"].combine_chunks()).fill_null(-1).to_numpy()
        there = np.flatnonzero(place >= 0)
        then = place[there]
        was, became = (former[name].cast(pa.int64()).to_numpy() for name in ("was", "taken_at"))
        before = _micros(rows.table)
        timed = pc.is_valid(rows.table["taken_at"]).to_numpy()
        same = timed[there] & (before[there] == became[then])
        after = before.copy()
        after[there[same]] = was[then[same]]
        moving = np.zeros(len(before), bool)
        moving[there[same]] = True
        shift = Shift(
            str(uuid.uuid4()), now(), by, done.where, -done.microseconds, int(same.sum()), storage.version, act
        )
        _shift(storage, times, shift, rows, after, moving)
    return Undone(act, shift.rows, done.rows - shift.rows)


def duration(text: str) -> timedelta:
    """A duration as it is written on the command line: +1h, -2d3h, 90s, +00:30:00; weeks, days, h, m and s.

    Raises
    ------
    ConfigError
        It is not one.
    """
    plain = text.strip().replace("\u2212", "-")
    sign = -1 if plain.startswith("-") else 1
    plain = plain[1:] if plain[:1] in ("+", "-") else plain
    try:
        if found := _CLOCK.fullmatch(plain):
            hours, minutes, seconds = found.groups()
            return sign * timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds or 0))
        parts = _PARTS.findall(plain)
        if parts and "".join(number + unit for number, unit in parts) == plain:
            units = [unit for _, unit in parts]
            if units == sorted(set(units), key="wdhms".index):
                return sign * timedelta(**{_UNITS[unit]: float(number) for number, unit in parts})
    except OverflowError:
        pass
    raise ConfigError(f"{text!r} is not a duration: write it as +1h, -2d3h, 90s or +00:30:00.")


def clock_error(true: datetime | str, shown: datetime | str) -> timedelta:
    """How far a clock was behind: the true time of an image, less the time that the camera gave it.

    Raises
    ------
    ConfigError
        One of them is not a time, or only one of them has a zone.
    """
    moments = []
    for moment in (true, shown):
        try:
            moments.append(moment if isinstance(moment, datetime) else datetime.fromisoformat(moment.strip()))
        except ValueError as error:
            raise ConfigError(
                f"{moment!r} is not a time: write it as 2024-05-01T12:00 or 2024-05-01T12:00:30."
            ) from error
    if (moments[0].tzinfo is None) != (moments[1].tzinfo is None):
        raise ConfigError("Give both times without a zone: times of images have none.")
    return moments[0] - moments[1]


def _current(storage: Storage, times: Times) -> TimedRows:
    """The rows as they are, with all columns that a shift writes."""
    if times.gap is not None:
        storage.add_own_columns()
    return read_timed_rows(storage)


def _shift(
    storage: Storage, times: Times, shift: Shift, rows: TimedRows, after: np.ndarray[Any, Any], moving: Any
) -> int:
    """Make a shift whose new times are known, microseconds (N,), and let the sequences follow.

    Returns
    -------
    How many rows got another sequence.
    """
    table = rows.table
    timed = pc.is_valid(table["taken_at"]).to_numpy()
    moments = pa.array(after, pa.int64(), mask=~timed).cast(pa.timestamp("us"))
    new = table.set_column(table.schema.get_field_index("taken_at"), "taken_at", moments)
    change, other = moving.copy(), np.zeros(len(after), bool)
    columns = {"id": table["id"], "was": table["taken_at"], "taken_at": new["taken_at"]}
    if times.gap is not None:
        ids = _with_words(storage, table["id"], sequence_ids(new, times.gap))
        other = _differs(ids, table["sequence"])
        change |= other
        columns["sequence"] = ids
    make_shift(storage, shift, pa.table(columns).filter(pa.array(change)))
    return int(other.sum())


def _micros(table: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    return table["taken_at"].cast(pa.int64()).fill_null(0).to_numpy()  # type: ignore[no-any-return]


def _differs(new: pa.Array, old: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    same = pc.equal(new, old.combine_chunks() if isinstance(old, pa.ChunkedArray) else old).fill_null(False)
    return ~same.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _with_words(storage: Storage, ids: pa.ChunkedArray, sequences: pa.Array) -> pa.Array:
    """Sequences, with what people wrote in their place."""
    journal = storage.journal
    with journal.lock:
        journal.read()
        said = {id_: word.value for id_ in journal.given.get("sequence", {}) if (word := journal.word("sequence", id_))}
    if not said:
        return sequences
    return pa.array(
        [said.get(id_, computed) for id_, computed in zip(ids.to_pylist(), sequences.to_pylist(), strict=True)],
        pa.string(),
    )
