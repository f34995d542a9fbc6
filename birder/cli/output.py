"""How commands print: results on standard output, for people or for other tools; notes on standard error."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from birder.errors import BirderError

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]


class Format(StrEnum):
    """Forms of output that are text."""

    table = "table"
    csv = "csv"
    json = "json"


_OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey: escape sequences and turns of direction are spelt out.

    File names hold what somebody else wrote; one may move the cursor, set the title or hide the rest of a line. Lines
    and tabs stay.
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Text as `printable` gives it, with the ends of its lines spelt out too: a name in a line of ours."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def note(message: str) -> None:
    """Say something about the work, on standard error."""
    typer.echo(printable(message), err=True)


def say(message: str) -> None:
    """Print a result in words, on standard output."""
    typer.echo(printable(message))


def console_err() -> Console:
    """The console for progress, on standard error."""
    from rich.console import Console

    return Console(stderr=True)


def write_rows(rows: Sequence[Row], format: str = "table", *, to: Path | None = None, title: str | None = None) -> None:
    """Write rows that share their columns, as a table, CSV, JSON or Parquet, to standard output or to a file."""
    if format == "parquet":
        _write_parquet(rows, to)
    elif format == "table" and to is None:
        _print_table(rows, title)
    else:
        text = _json(rows) if format == "json" else _csv(rows)
        if to is None:
            sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
        else:
            _write_file(to, text.encode("utf-8", "surrogateescape"))


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = _columns(rows)
    writer.writerow(columns)
    writer.writerows(["" if row.get(c) is None else _plain(row.get(c)) for c in columns] for row in rows)
    return text.getvalue()


def _json(rows: Sequence[Row]) -> str:
    text = json.dumps([{k: _plain(v) for k, v in row.items()} for row in rows], indent=2, ensure_ascii=False) + "\n"
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _print_table(rows: Sequence[Row], title: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        note("Nothing to show.")
        return
    table = Table(
        title=None if title is None else Text(one_line(title)),
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for column in _columns(rows):
        numeric = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(Text(one_line(column)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(_cell(row.get(column)))) for column in _columns(rows)))
    # A pipe has no width: let the longest line decide instead of folding at 80 characters.
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    console.print(table)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) <= 1 else f"{value:.6g}"  # scores line up; 86.2 stays 86.2
    return str(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def _write_parquet(rows: Sequence[Row], to: Path | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if to is None:
        raise BirderError("Parquet is no text: name a file for it with --to FILE.")
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), buffer, compression="zstd")
    _write_file(to, buffer.getvalue())


def _write_file(to: Path, data: bytes) -> None:
    from birder.files import replacing

    with replacing(to) as draft:
        draft.write_bytes(data)
    note(f"Wrote {to}.")
