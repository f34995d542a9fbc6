"""The user's own table: a CSV or Parquet file with a column of file names, joined to the images that it names."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from birder.errors import ConfigError
from birder.sources.columns import plain_table, without_odd_places
from birder.sources.darwin_core import with_birders_names, with_ranks
from birder.sources.lines import csv_lines
from birder.sources.parquet import read_rows
from birder.sources.source import RESERVED, Source, TableRow

NAME_COLUMNS = ("file_name", "filename", "file", "path", "filepath", "image", "image_path")
"""Columns of file names, in order of preference."""
URL_COLUMNS = ("url", "uri", "image_url", "image_uri", "file_path", "identifier")
"""Columns that may name the images of a manifest as well."""
LAST_COLUMNS = ("sample",)
"""The published birder's name for the path, which may be anything elsewhere: used if none of those exists."""


class TableWarning(UserWarning):
    """A table that was read otherwise than it should have been written."""


@dataclass(frozen=True)
class PhotoTable:
    """A table that was read: file names, and the other columns (int64, float64, bool, timestamp or string).

    Of a table of a collection's rows, `names` are their uris, `ids` their ids ("" for none), and columns of a CSV are
    still texts: the collection knows their types.
    """

    path: str
    names: list[str]
    columns: pa.Table
    ids: list[str] | None = None


@dataclass(frozen=True)
class Join:
    """Result of joining a table: how many images got its columns, and the names that matched no image.

    `rows` are those of the collection that a table of rows names; None for a table of file names.
    """

    matched: int
    without_row: list[str]
    without_file: list[str]
    ambiguous: list[str]
    rows: int | None = None


def read_table(
    path: str | Path, keys: Sequence[str] = NAME_COLUMNS + LAST_COLUMNS, *, rows: bool = False
) -> PhotoTable:
    """Read a CSV, TSV or Parquet file (or URL); a column of text has the type that all of its values have.

    Characters in a column's name other than letters, digits and _ become _, so that filters need no quoting.

    Parameters
    ----------
    path
        The file.
    keys
        What the column of file names may be called; the first that exists is used.
    rows
        The table may also be of rows of a collection, as `birder export` writes it: with `id` and `uri`, or with one of
        them and no file names. Columns that only Birder fills are then left out.

    Raises
    ------
    ConfigError
        It cannot be read, has no column of file names, or names a file twice.
    """
    path = os.fspath(path)
    columns = _read_parquet(path) if path.lower().endswith(".parquet") else _read_csv(path)
    key = next((name for name in keys if name in columns), None)
    if rows and ({"id", "uri"} <= columns.keys() or (key is None and {"id", "uri"} & columns.keys())):
        return _of_rows(path, columns)
    if key is None:
        raise ConfigError(
            f"The table {path} has no column of file names: call it {keys[0]}. It has: {', '.join(columns)}."
        )
    names = [_normal(str(name or "")) for name in columns.pop(key)]
    _refuse_twice(names, path)
    arrays = with_birders_names({name: _as_array(values) for name, values in with_ranks(columns).items()})
    table = pa.table(arrays) if arrays else pa.table({"": pa.nulls(len(names))}).select([])
    return PhotoTable(path, names, without_odd_places(table, path))


def _refuse_twice(names: Sequence[str], path: str) -> None:
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=2):
        if first.setdefault(name, number) != number:
            raise ConfigError(
                f"The table {path} names {name} twice, in rows {first[name]} and {number}. Keep one of them."
            )


def _of_rows(path: str, columns: dict[str, Any]) -> PhotoTable:
    """A table of rows of a collection."""
    count = len(next(iter(columns.values())))
    uris, ids = (
        [str(value or "") for value in _values(columns[name])] if name in columns else [""] * count
        for name in ("uri", "id")
    )
    if count and not any(uris) and not any(ids):
        raise ConfigError(f"The table {path} does not name its rows: its columns id and uri are empty.")
    _refuse_twice([uri or f"id {id_}" for uri, id_ in zip(uris, ids, strict=True) if uri or id_], path)
    arrays = {
        name: values
        if isinstance(values, pa.ChunkedArray)
        else pa.array([value or None for value in values], pa.string())
        for name, values in columns.items()
        if name not in RESERVED
    }
    table = pa.table(arrays) if arrays else pa.table({"": pa.nulls(count)}).select([])
    return PhotoTable(path, uris, table, ids)


def _values(column: Any) -> list[Any]:
    return column.to_pylist() if isinstance(column, pa.ChunkedArray) else list(column)


def _read_csv(path: str) -> dict[str, Any]:
    try:
        try:
            delimiter, lines = _lines(path, "utf-8-sig")
        except UnicodeDecodeError:
            delimiter, lines = _lines(path, "cp1252")
            warnings.warn(f"{path} is not in UTF-8: read as Windows-1252 (Latin-1).", TableWarning, stacklevel=4)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"Cannot read the table {path}: {error}. It must be a CSV file in UTF-8.") from error
    if not lines:
        raise ConfigError(f"The table {path} is empty; its first line must name the columns.")
    header = [re.sub(r"\W", "_", name.strip()) for name in lines[0]]
    if "" in header or len(set(header)) != len(header):
        raise ConfigError(f"The table {path} needs a distinct name for each column, not: {', '.join(lines[0])}.")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            apart = {",": "commas", ";": "semicolons", "\t": "tabs"}[delimiter]
            raise ConfigError(
                f"The table {path}, row {number}: {len(line)} values for {len(header)} columns, which {apart} separate."
            )
    columns = {name: [line[i].strip() for line in lines[1:]] for i, name in enumerate(header)}
    if delimiter == ";":  # which spreadsheets write where the comma is the decimal point
        columns = {name: with_points(values) for name, values in columns.items()}
    return columns


def _lines(path: str, encoding: str) -> tuple[str, list[list[str]]]:
    """What separates the columns, which the line of their names tells, and the lines."""
    if path.lower().endswith(".tsv"):
        return "\t", list(csv_lines(path, delimiter="\t", strict=True, encoding=encoding))
    delimiter = delimiter_of(path, encoding)
    return delimiter, list(csv_lines(path, delimiter=delimiter, strict=True, encoding=encoding))


def delimiter_of(path: str, encoding: str) -> str:
    """What separates the columns of a CSV file: of comma, semicolon and tab, what its first line has most of."""
    first = next(iter(csv_lines(path, delimiter="\0", encoding=encoding)), [""])[0]
    return max(",;\t", key=re.sub(r'"[^"]*"', "", first).count)


def with_points(values: list[str]) -> list[str]:
    """Texts whose decimal point is a comma, where all of them are numbers, with a point."""
    numbers = all(re.fullmatch(r"-?\d+(,\d+)?", value, re.ASCII) for value in values if value)
    return [value.replace(",", ".") for value in values] if numbers else values


def _read_parquet(path: str) -> dict[str, Any]:
    table = plain_table(read_rows(path))
    return {
        name: column.to_pylist() if name in NAME_COLUMNS + URL_COLUMNS + LAST_COLUMNS else column
        for name, column in zip(table.schema.names, table.columns, strict=True)
    }


def _as_array(values: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.ChunkedArray):
        return values
    array = pa.array(typed([str(value or "") for value in values]))
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def typed(values: Sequence[str]) -> list[Any]:
    """Texts as the narrowest of bool, int, float, datetime that fits all; empty ones are None; else they stay texts."""
    texts = [value or None for value in values]
    present = [value for value in texts if value is not None]
    for convert in (_bool, _int, _float, _time) if present else ():
        try:
            return [None if value is None else convert(value) for value in texts]
        except ValueError:
            continue
    return texts


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else _refuse(text)


def _int(text: str) -> int:
    # 007 is a name, not a number, and what does not fit into 64 bits is one too
    return int(text) if re.fullmatch(r"0|-?[1-9]\d{0,17}", text, re.ASCII) else _refuse(text)


def _float(text: str) -> float:
    return float(text) if re.fullmatch(r"-?(0|[1-9]\d*)?(\.\d+)?([eE][+-]?\d+)?", text, re.ASCII) else _refuse(text)


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text) if len(text) >= 10 else _refuse(text)
    return moment if moment.tzinfo is None else _refuse(text)


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _normal(name: str) -> str:
    return os.path.normpath(name.replace("\\", "/")) if name and "://" not in name else name


def join_table(sources: list[Source], table: PhotoTable, there: Set[str] = frozenset()) -> Join:
    """Give each source the columns of the row that names it; those whose uri is in `there` have got them already.

    A name is looked for beside the table first; otherwise it matches every file whose path ends in it. A name that
    matches several files is ambiguous, and is not used.
    """
    by_path: dict[str, list[Source]] = {}  # boxes of one image share their path
    for source in sources:
        by_path.setdefault(source.path, []).append(source)
    by_name: dict[str, list[str]] = {}
    folder = os.path.dirname(os.path.abspath(table.path))  # noqa: PTH100, PTH120 - as the sources' paths are made
    chosen: dict[str, int] = {}
    unplaced: dict[str, int] = {}
    for row, name in enumerate(table.names):
        beside = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
        if name and beside in by_path:
            chosen[beside] = row
        else:
            unplaced[name] = row
    wanted = set(unplaced)
    for path in by_path if wanted else ():
        for name in _endings(path):
            if name in wanted and path not in chosen:
                by_name.setdefault(name, []).append(path)
                break  # the longest name that matches is the one meant
    for name, fitting in by_name.items():
        if len(fitting) == 1:
            chosen[fitting[0]] = unplaced[name]
    for path, row in chosen.items():
        mine = TableRow(table.columns, row)
        for source in by_path[path]:
            source.describe(mine)
    return Join(
        matched=sum(len(by_path[path]) for path in chosen),
        without_row=[source.path for source in sources if source.path not in chosen and source.uri not in there],
        without_file=[name for name in unplaced if name not in by_name],
        ambiguous=[name for name, fitting in by_name.items() if len(fitting) > 1],
    )


def _endings(path: str) -> list[str]:
    """`a/b/c.jpg, b/c.jpg, c.jpg` of /a/b/c.jpg."""
    parts = path.lstrip("/").split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]
