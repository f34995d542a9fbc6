"""Shifted times: what `birder shift-time` changed, so that an interrupted shift can be finished, and every one undone.

`times.json` beside the tables lists the shifts, and the gap by which sequences were made; `times/ACT.parquet` has the
rows that one changed, with their times before and after. A shift is written down before its commit, and finished by the
next writer if it was interrupted. Times and sequences of all rows change in one commit, so that readers see either the
old ones or the new ones.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from birder.collection.disk import storing
from birder.errors import CollectionError
from birder.files import replacing

FILE = "times.json"
FOLDER = "times"


@dataclass(frozen=True)
class Shift:
    """Rows that got other times.

    Attributes
    ----------
    act, at, by
        Its id, the time (ISO 8601, UTC), and the name of its author, if given.
    where
        The filter that chose the rows; None for all.
    microseconds
        What was added to their times.
    rows
        How many rows got another time.
    version
        The version of the table of rows before the shift; later versions include it.
    undoes
        The act that this one undid; None for a shift.
    """

    act: str
    at: str
    by: str | None
    where: str | None
    microseconds: int
    rows: int
    version: int
    undoes: str | None = None


@dataclass(frozen=True)
class Times:
    """The gap of sequences in seconds (None: never made), the shifts as they were made, and one not finished."""

    gap: float | None = None
    shifts: tuple[Shift, ...] = ()
    pending: Shift | None = None

    def shift(self, act: str) -> Shift | None:
        """The shift of an id."""
        return next((shift for shift in self.shifts if shift.act == act), None)


class Shiftable(Protocol):
    """What a shift needs of `birder.collection.storage.Storage`, which finishes shifts itself."""

    path: Path

    @property
    def version(self) -> int:
        """The version of the rows."""

    def update(self, rows: pa.Table) -> None:
        """Change columns of existing rows, in one commit."""


def read_times(path: Path) -> Times:
    """The gap and the shifts of the collection in a folder; the defaults if it has no such file.

    Raises
    ------
    CollectionError
        The file is damaged.
    """
    try:
        stored: dict[str, Any] = json.loads((path / FILE).read_bytes())
        pending = stored["pending"]
        shifts = tuple(Shift(**each) for each in stored["shifts"])
        return Times(stored["gap"], shifts, None if pending is None else Shift(**pending))
    except FileNotFoundError:
        return Times()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CollectionError(
            f"{path / FILE} cannot be read ({error}). Restore it from a copy; without it, shifted times stay as they "
            "are, but cannot be shifted back."
        ) from error


def write_times(path: Path, times: Times) -> None:
    """Replace the shifts of a collection, atomically and durably; within `writing` only."""
    with replacing(path / FILE, durable=True) as draft:
        draft.write_text(json.dumps(asdict(times)), encoding="utf-8")


def make_shift(storage: Shiftable, shift: Shift, rows: pa.Table) -> None:
    """Write down a shift and make it; within `writing` only.

    Parameters
    ----------
    storage
        The collection, with all columns that `rows` has.
    shift
        What is done.
    rows
        The rows that change: id, was (the time before), taken_at, and sequence if there are sequences.
    """
    with storing(storage.path):
        with replacing(_file(storage.path, shift.act), durable=True) as draft:
            pq.write_table(rows, draft, compression="zstd")
        write_times(storage.path, replace(read_times(storage.path), pending=shift))
    finish_shift(storage)


def finish_shift(storage: Shiftable) -> None:
    """Finish a shift that was begun; within `writing` only, before anything else is committed."""
    times = read_times(storage.path)
    shift = times.pending
    if shift is None:
        return
    with storing(storage.path):
        rows = shifted_rows(storage.path, shift.act)
        if rows.num_rows and storage.version == shift.version:  # else the rows have their new times
            storage.update(rows.drop_columns(["was"]))
        write_times(storage.path, replace(times, shifts=(*times.shifts, shift), pending=None))


def shifted_rows(path: Path, act: str) -> pa.Table:
    """The rows that a shift changed, as `make_shift` got them.

    Raises
    ------
    CollectionError
        The file is missing or damaged.
    """
    file = _file(path, act)
    try:
        return pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise CollectionError(f"{file} cannot be read ({error}). Restore it from a copy.") from error


def _file(path: Path, act: str) -> Path:
    return path / FOLDER / f"{act}.parquet"
