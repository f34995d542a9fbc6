"""How commands print: results on standard output or in a file, for people or other tools; notes on standard error."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from birder.cli.options import Format

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

Row = Mapping[str, Any]


_CONTROL_CHARACTERS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text that is safe in a terminal: escape sequences and changes of text direction are escaped.

    File names are untrusted: one may move the cursor, set the title or hide the rest of a line. Newlines and tabs are
    kept.
    """
    return _CONTROL_CHARACTERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Text as `printable` returns it, with newlines escaped too: for names within a line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def note(message: str) -> None:
    """Print a note about the work to standard error; a closed stream does not stop the work."""
    try:
        typer.echo(printable(message), err=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def say(message: str) -> None:
    """Print a result in words, on standard output."""
    typer.echo(printable(message))


def prepare_streams() -> None:
    """Let both streams accept any text: what they cannot encode is escaped, and a closed stream discards it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def image_name(uri: str) -> str:
    """The uri or path of an image as people read it."""
    from birder.sources import readable_path

    return readable_path(uri)


def console_err() -> Console:
    """The console for progress, on standard error."""
    from rich.console import Console

    return Console(stderr=True)


def write_rows(
    rows: Sequence[Row],
    format: Format,
    to: Path | None = None,
    *,
    columns: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Write rows that share their columns, as a table, CSV, JSON or Parquet, to standard output or to a file.

    `columns` names the columns where there may be no rows: CSV and Parquet then have these, and no rows.
    """
    if format == Format.parquet:
        import pyarrow as pa

        empty = pa.schema([(name, pa.null()) for name in columns]).empty_table()
        write_table(pa.Table.from_pylist([dict(row) for row in rows]) if rows else empty, format, to)
    elif format == Format.table and to is None:
        _print_table(rows, title)
    else:
        text = _json(rows) if format == Format.json else _csv(rows, _columns(rows) or columns)
        if to is None:
            sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
        else:
            write_file(to, text.encode("utf-8", "surrogateescape"))


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if row.get(c) is None else _plain(row.get(c)) for c in columns] for row in rows)
    return text.getvalue()


def _json(rows: Sequence[Row]) -> str:
    return _escaped(json.dumps([{k: _plain(v) for k, v in row.items()} for row in rows], indent=2, ensure_ascii=False))


def _escaped(text: str) -> str:
    return _CONTROL_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def write_value(value: Mapping[str, Any], to: Path | None = None) -> None:
    """Write what is no row but one nested value, as JSON, to standard output or to a file."""
    text = _escaped(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))
    if to is None:
        sys.stdout.write(text)
    else:
        write_file(to, text.encode("utf-8", "surrogateescape"))


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
    columns = _columns(rows)
    for column in columns:
        numeric = all(isinstance(row.get(column), int | float | None) for row in rows)
        # Of names and their values, the names are not broken.
        is_name = column == columns[0] and len(columns) == 2 and max(len(_cell(row.get(column))) for row in rows) < 30
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(Text(one_line(column)), justify=justify, overflow="fold", no_wrap=is_name)
    for row in rows:
        table.add_row(*(Text(one_line(_cell(row.get(column)))) for column in columns))
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


def write_table(table: pa.Table, format: Format, to: Path | None = None) -> None:
    """Write a table of many rows as CSV or Parquet, without making Python's rows of it."""
    import pyarrow.csv
    import pyarrow.parquet as pq

    if to is None:
        pyarrow.csv.write_csv(table, sys.stdout.buffer, pyarrow.csv.WriteOptions(quoting_style="needed"))
        return
    buffer = io.BytesIO()
    if format == Format.parquet:
        pq.write_table(table, buffer, compression="zstd")
    else:
        pyarrow.csv.write_csv(table, buffer, pyarrow.csv.WriteOptions(quoting_style="needed"))
    write_file(to, buffer.getvalue())


def size(count: float) -> str:
    """A number of bytes in a readable unit."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"


def write_file(to: Path, data: bytes) -> None:
    """Write a file atomically, and print its name."""
    from birder.files import replacing

    with replacing(to) as draft:
        draft.write_bytes(data)
    note(f"Wrote {to}.")
