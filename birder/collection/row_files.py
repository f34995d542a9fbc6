"""Copies of the columns that a search shows, in Arrow files beside the table, from which ten rows are read at once.

Each file has columns of the rows of some fragments, by their address, and says in its metadata what held each column of
each of them (`birder.collection.manifest.column_files`). A column is read from here only as long as the table names the
same; another one LanceDB reads, until a file has it again. So a label that is written into the rows costs a file of the
columns that it changed, not one of all. Deleted rows stay in a file; nobody asks for them.
"""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.schema import VECTORS
from birder.files import replacing

if TYPE_CHECKING:
    from lancedb.table import Table

_ADDRESS = "_rowid"
_ABOUT = b"birder"
_ROWS_IN_A_BATCH = 1 << 18  # a row is read from one batch of a file: the fewer there are, the faster
_ROWS_AT_ONCE = 16_384
_FEW = 64
"""Rows that are put together one by one: up to here, Arrow's `take` from each batch costs more."""
_FILES = 8
"""So many files there are at most; one more, and all are written anew as one."""
_WASTE = 3  # a file of which less than one row in so many is still there is written anew

Addresses = npt.NDArray[np.uint64]
Held = Mapping[int, Mapping[str, str]]
"""What `birder.collection.manifest.column_files` gives."""


@dataclass(frozen=True)
class _File:
    """A file, memory-mapped.

    Attributes
    ----------
    batches, starts
        Its rows, and the number of each batch's first.
    addresses
        Of all rows, ascending.
    order
        The numbers of the rows in that order; None if they have it.
    """

    name: str
    batches: list[pa.RecordBatch]
    starts: npt.NDArray[np.int64]
    addresses: Addresses
    order: npt.NDArray[np.int64] | None
    held: Held

    @functools.cached_property
    def columns(self) -> dict[str, list[pa.Array]]:
        """Each column's part in each batch."""
        return {name: [batch.column(name) for batch in self.batches] for name in self.batches[0].schema.names}

    def places(self, addresses: Addresses) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The numbers of the batches that have rows, and each row's number in its batch."""
        rows = np.searchsorted(self.addresses, addresses)
        rows = rows if self.order is None else self.order[rows]
        batch_of = np.searchsorted(self.starts, rows, side="right") - 1
        return batch_of, rows - self.starts[batch_of]

    def take(self, addresses: Addresses, columns: Sequence[str]) -> pa.Table:
        """Rows, in any order, with their address."""
        batch_of, rows = self.places(addresses)
        parts = []
        for number in np.unique(batch_of):
            batch = self.batches[number].select([_ADDRESS, *columns])
            parts.append(batch.take(pa.array(rows[batch_of == number])))
        return pa.Table.from_batches(parts)


class RowFiles:
    """The files of a collection, open for reading; several threads may use them.

    Parameters
    ----------
    folder
        The folder that has them.
    names
        Their names.

    Raises
    ------
    OSError, ValueError, KeyError
        A file is missing or damaged.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.files = [_open(folder, name) for name in names]

    def fitting(self, held: Held) -> FittingRows:
        """What fits a version of the table."""
        return FittingRows(self.files, held)


class FittingRows:
    """The columns in the files that a version of the table has too.

    Attributes
    ----------
    complete
        Whether every column but the vectors can be read from the files.
    """

    def __init__(self, files: Sequence[_File], held: Held) -> None:
        self._files = files
        self._file_of = _serving(files, held)
        self._stale: dict[str, set[int]] = {}
        for fragment, columns in held.items():
            for name in columns:
                if fragment not in self._file_of.get(name, {}):
                    self._stale.setdefault(name, set()).add(fragment)
        self._known = {name for columns in held.values() for name in columns}
        numbers = {name: set(of.values()) for name, of in self._file_of.items() if name not in self._stale}
        self._alone = {name: next(iter(each)) for name, each in numbers.items() if len(each) == 1}
        self.complete = not set(self._stale) - set(VECTORS)

    def take(self, addresses: Addresses, columns: Sequence[str]) -> tuple[pa.Table, list[str]]:
        """Read rows.

        Parameters
        ----------
        addresses
            Which (N,), all of them in the table.
        columns
            Which columns.

        Returns
        -------
        The columns that the files have for all these rows, in the order of `addresses`; and those that they have not.
        """
        fragments = (addresses >> np.uint64(32)).astype(np.int64).tolist()
        wanted = set(fragments)
        here = [name for name in columns if name in self._known and wanted.isdisjoint(self._stale.get(name, ()))]
        if not here or not len(addresses):
            return pa.table({}), list(columns)
        together: dict[tuple[int, ...], list[str]] = {}  # columns by the files that have them
        for name in here:
            alone, of = self._alone.get(name), self._file_of[name]
            files = tuple(of[each] for each in fragments) if alone is None else (alone,) * len(fragments)
            together.setdefault(files, []).append(name)
        found: dict[str, pa.ChunkedArray | pa.Array] = {}
        for files, names in together.items():
            if len(addresses) <= _FEW:
                found |= self._few(addresses, files, names)
                continue
            file_of = np.array(files)
            parts = [self._files[n].take(addresses[file_of == n], names) for n in sorted(set(files))]
            rows = in_order(pa.concat_tables(parts), addresses)
            found |= {name: rows[name] for name in names}
        taken = pa.Table.from_arrays([found[name] for name in here], here)
        return taken, [] if len(here) == len(columns) else [name for name in columns if name not in here]

    def _few(self, addresses: Addresses, files: tuple[int, ...], columns: Sequence[str]) -> dict[str, pa.Array]:
        """Columns of rows, of which each is in a file, put together row by row."""
        places: list[tuple[dict[str, list[pa.Array]], int, int]] = [({}, 0, 0)] * len(addresses)
        for number in set(files):
            file = self._files[number]
            own = [n for n, each in enumerate(files) if each == number]
            batches, rows = file.places(addresses[own])
            for n, batch, row in zip(own, batches.tolist(), rows.tolist(), strict=True):
                places[n] = file.columns, batch, row
        return {
            name: pa.concat_arrays([parts[name][batch].slice(row, 1) for parts, batch, row in places])
            for name in columns
        }


def _serving(files: Sequence[_File], held: Held) -> dict[str, dict[int, int]]:
    """Column -> fragment -> the number of the file that has it as the table does; of several, the last."""
    found: dict[str, dict[int, int]] = {}
    for n, file in enumerate(files):
        for fragment, own in file.held.items():
            now = held.get(fragment, {})
            for name, text in own.items():
                if now.get(name) == text:
                    found.setdefault(name, {})[fragment] = n
    return found


def in_order(rows: pa.Table, addresses: Addresses) -> pa.Table:
    """Rows that have their address as `_rowid`, in the order of `addresses`, which are all there."""
    found = rows[_ADDRESS].to_numpy()
    if np.array_equal(found, addresses):
        return rows
    order = np.argsort(found)
    return rows.take(pa.array(order[np.searchsorted(found[order], addresses)]))


def write_row_files(folder: Path, former: RowFiles | None, images: Table, held: Held, living: Addresses) -> list[str]:
    """Write what the files lack of a version of the table into others: new rows, and columns that were written anew.

    Memory: two batches of `_ROWS_IN_A_BATCH` rows.

    Parameters
    ----------
    folder
        The folder of the files.
    former
        Those that are there; they stay as they are.
    images
        The table, at that version.
    held
        What holds its columns.
    living
        The addresses of all its rows, ascending.

    Returns
    -------
    The names of the files to keep: those that have something that still fits, and the new ones.
    """
    names = [
        field.name for field in images.schema if field.name not in VECTORS and not pa.types.is_dictionary(field.type)
    ]
    fragment_of = (living >> np.uint64(32)).astype(np.int64)
    rows_of = dict(zip(*np.unique(fragment_of, return_counts=True), strict=True))
    files = list(former.files) if former is not None else []
    kept = [file for file in files if _worth(file, rows_of)]
    serving = _serving(kept, held)
    kept = [file for n, file in enumerate(kept) if any(n in of.values() for of in serving.values())]
    lacks = _lacks(kept, held, names)
    if len(kept) + len(lacks) > _FILES:
        kept, lacks = [], _lacks([], held, names)
    result = [file.name for file in kept]
    for columns, fragments in lacks.items():
        missing = living[np.isin(fragment_of, np.array(fragments, np.int64))]
        if len(missing):
            result.append(_write(folder, images, held, missing, fragments, columns))
    return result


def _worth(file: _File, rows_of: Mapping[int, int]) -> bool:
    """Whether so many of a file's rows are still there that it is not written anew."""
    there = sum(int(rows_of.get(fragment, 0)) for fragment in file.held)
    return there * _WASTE >= len(file.addresses)


def _lacks(files: Sequence[_File], held: Held, names: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
    """Columns -> the fragments of which no file has them: those that have nothing, and those that have a part."""
    serving = _serving(files, held)
    missing = {
        fragment: [name for name in names if name in of and fragment not in serving.get(name, {})]
        for fragment, of in held.items()
    }
    new = [fragment for fragment, of in held.items() if len(missing[fragment]) == sum(name in of for name in names)]
    partly = [fragment for fragment in held if missing[fragment] and fragment not in set(new)]
    found: dict[tuple[str, ...], list[int]] = {}
    for fragments in (new, partly):
        lacking = {name for fragment in fragments for name in missing[fragment]}
        if lacking:
            found.setdefault(tuple(name for name in names if name in lacking), []).extend(fragments)
    return found


def _write(
    folder: Path, images: Table, held: Held, rows: Addresses, fragments: Sequence[int], columns: Sequence[str]
) -> str:
    """A file of columns of some rows; its name."""
    name = f"rows-{secrets.token_hex(4)}.arrow"
    batches = _joined(rows_at(images, rows, columns))
    first = next(batches)
    told = {str(fragment): {name: held[fragment][name] for name in columns} for fragment in fragments}
    about = {_ABOUT: json.dumps(told).encode()}
    schema = first.schema.remove_metadata().with_metadata(about)
    with (
        replacing(folder / name, durable=True) as draft,
        pa.OSFile(str(draft), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        writer.write_batch(first.replace_schema_metadata(about))
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(about))
    return name


def rows_at(images: Table, addresses: Addresses, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of rows and their address, `_rowid`; a block at a time, in no promised order.

    Parameters
    ----------
    images
        The table.
    addresses
        Which rows, ascending.
    columns
        Which columns.
    """
    if len(addresses) <= 2 * _ROWS_AT_ONCE:
        for start in range(0, len(addresses), _ROWS_AT_ONCE):
            some = addresses[start : start + _ROWS_AT_ONCE]
            yield images.take_row_ids(some.tolist()).select(list(columns)).with_row_id().to_arrow()
        return
    for batch in images.search().select(list(columns)).with_row_id(True).to_batches(_ROWS_AT_ONCE):
        wanted = np.isin(batch[_ADDRESS].to_numpy(), addresses)
        if wanted.all():
            yield pa.Table.from_batches([batch])
        elif wanted.any():
            yield pa.Table.from_batches([batch]).filter(pa.array(wanted))


def _joined(parts: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
    """The same rows in large batches."""
    waiting: list[pa.Table] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += part.num_rows
        if count >= _ROWS_IN_A_BATCH:
            yield _batch(waiting)
            waiting, count = [], 0
    if waiting:
        yield _batch(waiting)


def _batch(parts: list[pa.Table]) -> pa.RecordBatch:
    (batch,) = pa.concat_tables(parts).combine_chunks().to_batches()
    return batch


def _open(folder: Path, name: str) -> _File:
    reader: Any = pa.ipc.open_file(pa.memory_map(str(folder / name)))
    batches = [reader.get_batch(n) for n in range(reader.num_record_batches)]
    told = json.loads(reader.schema.metadata[_ABOUT])
    addresses = np.concatenate([batch[_ADDRESS].to_numpy() for batch in batches])
    order = None
    if (np.diff(addresses.astype(np.int64)) < 0).any():  # fragments that were joined keep their place in the table
        order = np.argsort(addresses)
        addresses = addresses[order]
    starts = np.cumsum([0, *(batch.num_rows for batch in batches[:-1])])
    return _File(name, batches, starts, addresses, order, {int(fragment): of for fragment, of in told.items()})
