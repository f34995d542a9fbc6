"""Copies of the columns that a search shows, in Arrow files beside the table, from which ten rows are read at once.

Each file has columns of the rows of some fragments, by their address, and says in its metadata what held each column of
each of them (`birder.collection.manifest.column_files`); what it does not name is null in it. A column is read from
here only as long as the table names the same; another one LanceDB reads, until a file has it again. So a label that is
written into the rows costs a file of the columns that it changed, not one of all. Deleted rows stay in a file; nobody
asks for them.

Where there would be too many files, the new one takes in what the smallest ones have (tiered merging, as in
log-structured storage: O'Neil et al. 1996, doi:10.1007/s002360050048). So the columns of a million rows are not written
anew because a few rows were added or one column was labelled, however often that happens.
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
"""So many files there are at most."""
_MERGED = 3
"""The smallest files, which the ninth takes in: at most 3/8 of all cells, mostly few. A thousand additions of one size
copy each row 34 times then; taking in one, two or five files copies more."""
_BY_ADDRESS = 8  # one row in so many, or fewer, are read by their addresses; of more, all rows are gone through
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
    """Write what the files lack of a version of the table into another: new rows, and columns that were written anew.

    It takes in the smallest files where there would be too many. Memory: two batches of `_ROWS_IN_A_BATCH` rows.

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
    The names of the files to keep: those that have something that still fits, and the new one.
    """
    names = [
        field.name for field in images.schema if field.name not in VECTORS and not pa.types.is_dictionary(field.type)
    ]
    fragment_of = (living >> np.uint64(32)).astype(np.int64)
    rows_of = dict(zip(*np.unique(fragment_of, return_counts=True), strict=True))
    files = list(former.files) if former is not None else []
    kept = [file for file in files if _worth(file, rows_of)]
    cells = _cells(kept, held, rows_of)
    kept = [file for file in kept if cells[file.name]]
    lacks = _lacks(kept, held, names, rows_of)
    if lacks and len(kept) >= _FILES:
        kept = sorted(kept, key=lambda file: cells[file.name])[_MERGED:]
        lacks = _lacks(kept, held, names, rows_of)
    parts = {
        columns: living[np.isin(fragment_of, np.array(fragments, np.int64))] for columns, fragments in lacks.items()
    }
    told = {fragment: columns for columns, fragments in lacks.items() for fragment in fragments}
    new = [_write(folder, images, held, parts, told)] if parts else []
    return [*(file.name for file in kept), *new]


def _worth(file: _File, rows_of: Mapping[int, int]) -> bool:
    """Whether so many of a file's rows are still there that it is not written anew."""
    there = sum(int(rows_of.get(fragment, 0)) for fragment in file.held)
    return there * _WASTE >= len(file.addresses)


def _cells(files: Sequence[_File], held: Held, rows_of: Mapping[int, int]) -> dict[str, int]:
    """File -> the values that are read from it: what it would cost to write them into another."""
    found = dict.fromkeys((file.name for file in files), 0)
    for of in _serving(files, held).values():
        for fragment, n in of.items():
            found[files[n].name] += int(rows_of.get(fragment, 0))
    return found


def _lacks(
    files: Sequence[_File], held: Held, names: Sequence[str], rows_of: Mapping[int, int]
) -> dict[tuple[str, ...], list[int]]:
    """Columns -> the fragments with rows of which no file has just these."""
    serving = _serving(files, held)
    found: dict[tuple[str, ...], list[int]] = {}
    for fragment, of in held.items():
        lacking = tuple(name for name in names if name in of and fragment not in serving.get(name, {}))
        if lacking and rows_of.get(fragment):
            found.setdefault(lacking, []).append(fragment)
    return found


def _write(
    folder: Path,
    images: Table,
    held: Held,
    parts: Mapping[tuple[str, ...], Addresses],
    columns_of: Mapping[int, Sequence[str]],
) -> str:
    """A file of columns of some rows, of each fragment its own; its name.

    A column that is not wanted of a fragment is null there.
    """
    name = f"rows-{secrets.token_hex(4)}.arrow"
    wanted = {column for columns in parts for column in columns}
    fields = [pa.field(field.name, field.type) for field in images.schema if field.name in wanted]
    told = {str(fragment): {name: held[fragment][name] for name in columns} for fragment, columns in columns_of.items()}
    schema = pa.schema([*fields, pa.field(_ADDRESS, pa.uint64())], {_ABOUT: json.dumps(told).encode()})
    with (
        replacing(folder / name, durable=True) as draft,
        pa.OSFile(str(draft), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for columns, rows in parts.items():
            for batch in _joined(rows_at(images, rows, columns)):
                arrays = [
                    batch[field.name] if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
                    for field in schema
                ]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return name


def rows_at(
    images: Table, addresses: Addresses, columns: Sequence[str], at_once: int = _ROWS_AT_ONCE
) -> Iterator[pa.Table]:
    """Columns of rows and their address, `_rowid`; a block at a time, in no promised order.

    Parameters
    ----------
    images
        The table.
    addresses
        Which rows, ascending.
    columns
        Which columns.
    at_once
        Rows of a block, of which LanceDB reads some ahead.
    """
    if len(addresses) <= max(2 * _ROWS_AT_ONCE, int(images.count_rows()) // _BY_ADDRESS):
        for start in range(0, len(addresses), at_once):
            some = addresses[start : start + at_once]
            yield images.take_row_ids(some.tolist()).select(list(columns)).with_row_id().to_arrow()
        return
    for batch in images.search().select(list(columns)).with_row_id(True).to_batches(at_once):
        found = batch[_ADDRESS].to_numpy()
        wanted = addresses[np.minimum(np.searchsorted(addresses, found), len(addresses) - 1)] == found
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
