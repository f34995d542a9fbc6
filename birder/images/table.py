"""The user's own table: a CSV with a column of file names, joined to the photographs that it names."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from birder.errors import ConfigError
from birder.images.sources import Source

NAME_COLUMNS = ("file_name", "filename", "file", "path", "filepath", "image")
"""Columns that hold the file's name, the first that is there."""


@dataclass(frozen=True)
class PhotoTable:
    """A table as read: columns of one type each (int, float, bool, datetime or str; None where empty)."""

    path: Path
    names: list[str]
    columns: dict[str, list[Any]]


@dataclass(frozen=True)
class Join:
    """How a table met the photographs: how many got its columns, and the names that did not fit."""

    matched: int
    without_row: list[str]
    without_file: list[str]
    ambiguous: list[str]


def read_table(path: str | Path) -> PhotoTable:
    """Read a CSV; a column has the type that all of its values have.

    Characters in a column's name other than letters, digits and _ become _, so that filters need no quoting.

    Raises
    ------
    ConfigError
        It cannot be read, has no column of file names (`NAME_COLUMNS`), or names a file twice.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file, strict=True) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"Cannot read the table {path}: {error}. It must be a CSV file in UTF-8.") from error
    if not lines:
        raise ConfigError(f"The table {path} is empty; its first line must name the columns.")
    header = [re.sub(r"\W", "_", name.strip()) for name in lines[0]]
    if "" in header or len(set(header)) != len(header):
        raise ConfigError(f"The table {path} needs a distinct name for each column, not: {', '.join(lines[0])}.")
    key = next((name for name in NAME_COLUMNS if name in header), None)
    if key is None:
        raise ConfigError(
            f"The table {path} has no column of file names: call it {NAME_COLUMNS[0]}. It has: {', '.join(header)}."
        )
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise ConfigError(f"The table {path}, row {number}: {len(line)} values for {len(header)} columns.")
    values = {name: [line[i].strip() for line in lines[1:]] for i, name in enumerate(header)}
    names = [_normal(name) for name in values.pop(key)]
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=2):
        if first.setdefault(name, number) != number:
            raise ConfigError(f"The table {path} names {name} twice, in rows {first[name]} and {number}: keep one.")
    return PhotoTable(path, names, {name: typed(column) for name, column in values.items()})


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
    return os.path.normpath(name.replace("\\", "/")) if name else ""


def join_table(sources: list[Source], table: PhotoTable) -> Join:
    """Give each photograph the columns of the row that names it.

    A name is looked for beside the table first; otherwise it fits every file whose path ends in it. A name that fits
    several files is ambiguous and is given to none.
    """
    by_path = {source.path: source for source in sources}
    by_name: dict[str, list[Source]] = {}
    folder = os.path.abspath(table.path.parent)  # noqa: PTH100 - as the sources' paths are made
    chosen: dict[str, int] = {}
    unplaced: dict[str, int] = {}
    for row, name in enumerate(table.names):
        beside = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
        if name and beside in by_path:
            chosen[beside] = row
        else:
            unplaced[name] = row
    wanted = set(unplaced)
    for source in sources if wanted else ():
        for name in _endings(source.path):
            if name in wanted and source.path not in chosen:
                by_name.setdefault(name, []).append(source)
                break  # the longest name that fits is the one meant
    for name, fitting in by_name.items():
        if len(fitting) == 1:
            chosen[fitting[0].path] = unplaced[name]
    for path, row in chosen.items():
        source = by_path[path]
        source.columns |= {name: values[row] for name, values in table.columns.items()}
    return Join(
        matched=len(chosen),
        without_row=[source.path for source in sources if source.path not in chosen],
        without_file=[name for name in unplaced if name not in by_name],
        ambiguous=[name for name, fitting in by_name.items() if len(fitting) > 1],
    )


def _endings(path: str) -> list[str]:
    """`a/b/c.jpg, b/c.jpg, c.jpg` of /a/b/c.jpg."""
    parts = path.lstrip("/").split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]
