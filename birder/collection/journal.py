"""The journal of labels: a file of lines of JSON, `labels.jsonl`, to which each change of labels is appended.

A change is durable once its line is; the rows get it later, many changes in one commit, by `labels.fold`. Until then it
is pending, and readers apply the pending values to the rows. There are three kinds of lines:

    {"act", "at", "by", "changes": [{"change", "column", "value", "was": [[former value, [id, ...]], ...]}, ...]}
    {"undo": act, "at", "by", "changes": [{"change", "column", "to": [[restored value, [id, ...]], ...]}, ...]}
    {"fold": offset, "version", "since"}    what precedes that offset is in the rows, from that version of `images` on;
                                            since another, which may be absent, they have changed in labels alone

The file only grows, so a reader goes on where it stopped. Writers take turns by the lock `labels.lock`, which is held
for milliseconds and is not the one that guards the rows: labels can be given while others embed. An incomplete last
line is from a writer that died; the next writer removes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from birder.collection.disk import has_table, lock_handle, storing
from birder.collection.old_journal import read_table, remove_table
from birder.errors import CollectionBusyError, CollectionError
from birder.files import replacing

FILE = "labels.jsonl"
FEW_IDS = 8
"""The ids of an act that are kept in memory; the others are read again."""

_MOST_FORMER = 50  # different values whose counts a change keeps in memory
_PATIENCE = 20.0  # seconds that a writer waits for the others
_TAIL = 4096

Cells = dict[str, dict[str, str | None]]
"""Column -> id -> value."""
Line = dict[str, Any]


@dataclass
class Change:
    """One label for some rows of one column.

    Attributes
    ----------
    change, act
        Its id, and that of the act it is a part of.
    at
        When.
    by
        The name of the author; None if none was given.
    column, value
        What was written; None removed a label.
    count
        How many rows it changed.
    former
        The former values, and how many rows had each.
    some
        The first ids.
    undone
        Whether it was undone.
    """

    change: str
    act: str
    at: datetime
    by: str | None
    column: str
    value: str | None
    count: int
    former: dict[str | None, int]
    some: list[str]
    place: tuple[int, int]
    undone: bool = False


@dataclass
class Act:
    """Changes that a person made at once, such as accepting a page of suggestions."""

    act: str
    at: datetime
    by: str | None
    changes: list[int] = field(default_factory=list)


class Journal:
    """The journal of one collection; threads may share it.

    Attributes
    ----------
    changes
        All changes, the oldest first, as of the last `read`.
    acts
        Their acts, in the order of each one's first change.
    given
        Column -> id -> numbers of the changes that wrote a person's label; the last one is what the row has.
    offset
        The bytes that have been read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / FILE
        self.lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self.offset = 0
        self.changes: list[Change] = []
        self.acts: list[Act] = []
        self.given: dict[str, dict[str, tuple[int, ...]]] = {}
        self._folds: list[tuple[int, int, int]] = []
        self._folds_until = 0
        self._change_of: dict[str, int] = {}
        self._act_of: dict[str, int] = {}
        self._before: bytes | None = None  # the labels of a former version's table, as lines of this file

    def read(self) -> None:
        """Read what has been appended since."""
        with self.lock:
            lines, end = self._lines(self.offset)
            for offset, line in lines:
                self._take(offset, line)
            self.offset = end

    def lines(self, since: int) -> tuple[list[Line], int]:
        """The whole lines from an offset on, and where they end."""
        with self.lock:
            lines, end = self._lines(since)
            return [line for _, line in lines], end

    def line_of(self, change: Change) -> Line:
        """What the file says of a change: `was` has all its ids."""
        offset, number = change.place
        with self.lock:
            _, data = self._read_from(offset, whole=False)
        line: Line = json.loads(data[: data.index(b"\n")])
        return dict(line["changes"][number])

    def change(self, change: str) -> Change | None:
        """The change of an id."""
        number = self._change_of.get(change)
        return None if number is None else self.changes[number]

    def act(self, act: str) -> Act | None:
        """The act of an id."""
        number = self._act_of.get(act)
        return None if number is None else self.acts[number]

    def of(self, act: Act) -> list[Change]:
        """The changes of an act, the oldest first."""
        return [self.changes[number] for number in act.changes]

    def word(self, column: str, id_: str) -> Change | None:
        """The change that wrote a person's label into a cell (its value may be None); None without a person's label."""
        numbers = self.given.get(column, {}).get(id_)
        return self.changes[numbers[-1]] if numbers else None

    def words(self, ids: Sequence[str], columns: Iterable[str]) -> dict[str, dict[str, str | None]]:
        """The labels given by people: id -> column -> value, for the rows and columns that have any."""
        with self.lock:
            self.read()
            said: dict[str, dict[str, str | None]] = {}
            for column in self.given.keys() & set(columns):
                cells = self.given[column]
                for id_ in ids:
                    if numbers := cells.get(id_):
                        said.setdefault(id_, {})[column] = self.changes[numbers[-1]].value
        return said

    def only_labels(self, former: int, version: int) -> bool:
        """Whether a version of the rows differs from a former one in labels alone."""
        with self.lock:
            self._read_folds()
            began: dict[int, int] = {}
            for _, until, since in self._folds:
                began[until] = min(since, began.get(until, until))
            while former < version > began.get(version, version):
                version = began[version]
            return version == former

    def pending(self, version: int) -> tuple[Cells, int]:
        """The labels that a version of the rows does not have yet, and the offset up to which they were read."""
        with self.lock:
            if (end := self._folded_until(version)) is not None:
                return {}, end
            self._read_folds()
            return self.since(next((offset for offset, at, _ in reversed(self._folds) if at <= version), 0))

    def is_folded(self, until: int, version: int) -> bool:
        """Whether a version of the rows has all labels up to an offset; labels taken back again change no row."""
        with self.lock:
            self._read_folds()
            return any(offset >= until and at <= version for offset, at, _ in self._folds)

    def _read_folds(self) -> None:
        """Read what has been folded, without keeping who labelled what: that takes memory."""
        lines, self._folds_until = self._lines(self._folds_until)
        for _, line in lines:
            if "fold" in line:
                self._folds = [each for each in self._folds if each[0] <= line["fold"]]
                self._folds.append(
                    (line["fold"], line["version"], line["since"] if "since" in line else line["version"])
                )

    def size(self) -> int:
        """The size in bytes, including a last line that is being written."""
        try:
            return self.file.stat().st_size
        except OSError:
            return len(self._before or b"")

    def since(self, offset: int) -> tuple[Cells, int]:
        """What labels were given from an offset on, and up to which offset."""
        lines, end = self.lines(offset)
        cells: Cells = {}
        for line in lines:
            for column, ids, value in effects(line):
                cells.setdefault(column, {}).update(dict.fromkeys(ids, value))
        return cells, end

    def _folded_until(self, version: int) -> int | None:
        """Where the file ends if its last line says that all before it is in the rows: then no other need be read."""
        try:
            with self.file.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                start = file.seek(max(0, size - _TAIL))
                tail = file.read()
        except OSError:
            return None
        if not tail.endswith(b"\n"):
            return None
        begin = tail.rfind(b"\n", 0, -1) + 1
        line = _parsed(tail[begin:]) or {}
        is_folded = line.get("fold") == start + begin and line.get("version", version + 1) <= version
        return size if is_folded else None

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[Line], None]]:
        """Hold the right to append, after reading everything; what the function is given is appended at the end.

        All lines are appended together, and are on disk when this ends; after an error, none of them are.

        Raises
        ------
        CollectionError
            The disk is full or cannot be written to, or other processes do not release the lock.
        """
        with self.lock, self._locked():
            self._settle_file()
            self.read()
            new: list[bytes] = []
            place = self.offset

            def append(line: Line) -> None:
                nonlocal place
                data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                new.append(data)
                self._take(place, line)
                place += len(data)

            try:
                yield append
                if new:
                    self._append(b"".join(new))
                    self.offset = place
            except BaseException:
                if new:
                    self._forget()  # and read again: what was added above is not in the file
                raise

    def folded(self, offset: int, version: int, since: int) -> None:
        """Note that everything before an offset is in the rows from a version on, which are else as of `since`."""
        with self.writing() as append:
            append({"fold": offset, "version": version, "since": since})

    def unfold(self) -> None:
        """Note that the rows have been restored to an earlier state: all labels must be checked again."""
        if self.exists():
            self.folded(0, 0, 0)

    def exists(self) -> bool:
        """Whether labels have been given."""
        return self.file.exists() or has_table(self.path, "labels")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with storing(self.path):
            handle = (self.path / "labels.lock").open("a")
        with handle:
            end = time.monotonic() + _PATIENCE
            while True:
                try:
                    lock_handle(handle.fileno())
                    break
                except OSError as error:
                    if time.monotonic() > end:
                        raise CollectionBusyError(
                            f"Another process has been writing labels to {self.path} for {_PATIENCE:.0f} seconds. "
                            "Try again, or end that process."
                        ) from error
                time.sleep(0.002)
            yield

    def _settle_file(self) -> None:
        """Cut off a torn last line; create a missing file, from a former version's table if there is one."""
        with storing(self.path):
            if self.file.exists():
                with self.file.open("rb+") as file:
                    size = file.seek(0, os.SEEK_END)
                    if size and (end := _end_of_last_line(file, size)) < size:
                        file.truncate(end)
                        os.fsync(file.fileno())
                return
            with replacing(self.file, durable=True) as draft:
                draft.write_bytes(read_table(self.path))
            remove_table(self.path)

    def _append(self, data: bytes) -> None:
        with storing(self.path), self.file.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise

    def _lines(self, start: int) -> tuple[list[tuple[int, Line]], int]:
        """Whole lines from an offset on, which is the end of one, with their offsets; and where they end."""
        start, data = self._read_from(start)
        end = data.rfind(b"\n") + 1
        found = []
        at = 0
        while at < end:
            stop = data.index(b"\n", at) + 1
            if (line := _parsed(data[at:stop])) is not None:
                found.append((start + at, line))
            else:
                warnings.warn(
                    f"{self.file} is damaged: the line at byte {start + at:,} cannot be read and is left out. "
                    "The rows are safe; restore the file from a copy to have its history back.",
                    stacklevel=4,
                )
            at = stop
        return found, start + end

    def _read_from(self, start: int, *, whole: bool = True) -> tuple[int, bytes]:
        """The bytes from an offset on, or of one line; and the offset, 0 if everything must be read again."""
        try:
            with self.file.open("rb") as file:
                if whole and start and os.fstat(file.fileno()).st_size < start:
                    self._forget()  # it was replaced by an older copy
                    start = 0
                file.seek(start)
                return start, file.read() if whole else file.readline()
        except FileNotFoundError:
            if self._before is None:
                self._before = read_table(self.path)
            return start, self._before[start:]
        except OSError as error:
            raise CollectionError(f"Cannot read {self.file}: {error.strerror}. Make it readable.") from error

    def _take(self, offset: int, line: Line) -> None:
        if "undo" in line:
            for part in line["changes"]:
                number = self._change_of[part["change"]]
                self.changes[number].undone = True
                for value, ids in part["to"]:
                    self._take_back(number, value, ids)
        elif "changes" in line:
            for place, part in enumerate(line["changes"]):
                self._add(line, part, (offset, place))

    def _add(self, line: Line, part: Line, place: tuple[int, int]) -> None:
        number = len(self.changes)
        was: list[tuple[str | None, list[str]]] = part["was"]
        former = Counter({value: len(ids) for value, ids in was})
        change = Change(
            part["change"],
            line["act"],
            datetime.fromisoformat(line["at"]),
            line.get("by"),
            part["column"],
            part["value"],
            former.total(),
            dict(former.most_common(_MOST_FORMER)),
            [id_ for _, ids in was for id_ in ids[:FEW_IDS]][:FEW_IDS],
            place,
        )
        self.changes.append(change)
        self._change_of[change.change] = number
        if not change.count:
            return  # kept to answer a client that sends it again
        if change.act not in self._act_of:
            self._act_of[change.act] = len(self.acts)
            self.acts.append(Act(change.act, change.at, change.by))
        act = self.acts[self._act_of[change.act]]
        act.changes.append(number)
        act.at = change.at
        cells = self.given.setdefault(change.column, {})
        for _, ids in was:
            for id_ in ids:
                cells[id_] = (*cells.get(id_, ()), number)

    def _take_back(self, number: int, value: str | None, ids: Iterable[str]) -> None:
        """Cells have a former value again; earlier changes tell who gave it."""
        cells = self.given[self.changes[number].column]
        for id_ in ids:
            left = [each for each in cells.get(id_, ()) if each != number]
            while left and self.changes[left[-1]].value != value:
                left.pop()
            if left:
                cells[id_] = tuple(left)
            else:
                cells.pop(id_, None)


def effects(line: Line) -> Iterator[tuple[str, Sequence[str], str | None]]:
    """What a line does to the rows: columns, ids, the value that these have then."""
    if "undo" in line:
        for part in line["changes"]:
            for value, ids in part["to"]:
                yield part["column"], ids, value
    else:
        for part in line.get("changes", ()):
            for _, ids in part["was"]:
                yield part["column"], ids, part["value"]


def grouped(former: Mapping[str, str | None]) -> list[tuple[str | None, list[str]]]:
    """Ids by the value that each has."""
    groups: dict[str | None, list[str]] = {}
    for id_, value in former.items():
        groups.setdefault(value, []).append(id_)
    return list(groups.items())


def now() -> str:
    """The time, as lines have it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _parsed(data: bytes) -> Line | None:
    try:
        line = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _end_of_last_line(file: Any, size: int) -> int:
    """Where the last whole line ends, in bytes."""
    end = size
    while end:
        start = max(0, end - (1 << 16))
        file.seek(start)
        place = file.read(end - start).rfind(b"\n")
        if place >= 0:
            return int(start + place + 1)
        end = start
    return 0
