"""The arguments and options that commands share: one name, one meaning and one help text each.

The grammar of the command line, which CONTRIBUTING.md explains and tests/cli/test_grammar.py holds:

    birder COMMAND COLLECTION ... [--to FILE] [--format FORMAT]     commands on a collection
    birder COMMAND IMAGE... --in COLLECTION                         commands that take images
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeAlias

import typer

from birder.errors import file_exists
from birder.files import check_writable

_SPREADSHEETS = ("xlsx", "xlsm", "xls", "ods")


class Format(StrEnum):
    """How rows are printed, or written to a file: parquet and html, a page that shows the images, only to a file."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"
    html = "html"


Collection: TypeAlias = Annotated[Path, typer.Argument(metavar="COLLECTION", help="The collection, a folder.")]
MaybeCollection: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="COLLECTION", help="The collection, a folder.", show_default=False)
]
In: TypeAlias = Annotated[Path, typer.Option("--in", metavar="COLLECTION", help="The collection, a folder.")]
MaybeIn: TypeAlias = Annotated[
    Path | None, typer.Option("--in", metavar="COLLECTION", help="The collection, a folder.")
]
Images: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="IMAGE", help="Image files, folders (searched recursively), or patterns.")
]
Where: TypeAlias = Annotated[
    str | None,
    typer.Option("--where", metavar="FILTER", help="Only rows that match this SQL filter: \"label = 'owl'\"."),
]
JudgedSplit: TypeAlias = Annotated[
    Literal["groups", "random"],
    typer.Option("--split", metavar="SPLIT", help="groups; or random, which takes all images for independent."),
]
GroupBy: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        metavar="COLUMN[,COLUMN]",
        help="Images with the same values here are never on both sides of a split: specimen, site, sequence, ... "
        "(default: the deployment, else images taken within a minute of each other, else near-duplicates).",
    ),
]
Taxonomy: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--taxonomy",
        metavar="TABLE",
        help="Ranks above the classes: a .csv or .parquet with the column and columns named by rank "
        "(default: the collection's columns of ranks).",
    ),
]
K: TypeAlias = Annotated[
    int, typer.Option("-k", min=1, metavar="N", help="Number of results (per image, if several are given).")
]
Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]
Device: TypeAlias = Annotated[
    str | None,
    typer.Option("--device", metavar="DEVICE", help="Device to run on: cpu, cuda, mps, ... (default: best available)."),
]
BatchSize: TypeAlias = Annotated[
    int, typer.Option("--batch-size", min=1, metavar="N", help="Number of images that the network takes at once.")
]


def format_option(choices: str) -> Any:
    """`--format`, with what the command offers."""
    return typer.Option(
        "--format", metavar="FORMAT", help=f"Format of the output: {choices} (default: from the extension of --to)."
    )


def to_option(endings: str) -> Any:
    """`--to`, with what the command writes."""
    return typer.Option("--to", metavar="FILE", help=f"Write to this file: {endings}.")


FormatOption: TypeAlias = Annotated[
    Literal["table", "csv", "json", "parquet"] | None, format_option("table, csv, json or parquet")
]
PageFormatOption: TypeAlias = Annotated[
    Literal["table", "csv", "json", "parquet", "html"] | None, format_option("table, csv, json, parquet or html")
]
ToRows: TypeAlias = Annotated[Path | None, to_option(".csv, .json or .parquet")]
ToPage: TypeAlias = Annotated[Path | None, to_option(".html for a page of images, or .csv, .json, .parquet")]


def model_option(default: str = "") -> Any:
    """`--model`, with what the command takes without it."""
    known = "Model: a registered name, a hub repository, a folder or a checkpoint file"
    return typer.Option("--model", metavar="MODEL", help=f"{known}{f' (default: {default})' if default else ''}.")


def format_of(format: str | None, to: Path | None, *, page: bool = False, drawn: Sequence[str] = ()) -> Format:
    """The format that was asked for, else the one that the ending of the file tells, else a table to read.

    Parameters
    ----------
    format, to
        What was given as --format and --to.
    page
        Whether the command writes pages of images.
    drawn
        Endings of files that the command draws itself, for the message.
    """
    told = "" if to is None else to.suffix.lower().removeprefix(".")
    if told in _SPREADSHEETS:
        wrong_use(f"{to} would be a spreadsheet, which Birder does not write: use .csv, which spreadsheets open.")
    if format is None:
        if to is None:
            return Format.table
        format = told
        endings = [".csv", ".json", ".parquet", *([".html"] if page else [])]
        if f".{format}" not in endings:
            wrong_use(f"{to} has no known extension: use {', '.join([*drawn, *endings])}, or give a --format.")
    elif told in set(Format) - {format}:
        wrong_use(f"{to} ends like {told}, but --format is {format}: leave out --format, or name it .{format}.")
    elif format in (Format.parquet, Format.html) and to is None:
        wrong_use(f"--format {format} needs a file: --to FILE.{format}")
    return Format(format)


def check_to(to: Path | None, force: bool) -> None:
    """Refuse a destination that exists or cannot be written, before any work is done for it.

    Raises
    ------
    FileExistsError
        There is such a file, and `force` is not set.
    WriteError
        No file can be made there.
    """
    if to is None:
        return
    if not force and to.exists():
        raise file_exists(to)
    check_writable(to)


def check_where(where: str | None, collection: Path | None) -> None:
    """Refuse --where in a command that was given images instead of a collection."""
    if where is not None and collection is None:
        wrong_use("--where is about the rows of a collection: name it with --in.")


def names_in(text: str | None) -> tuple[str, ...]:
    """The names in an option that takes several, separated by commas."""
    return () if text is None else tuple(name for part in text.split(",") if (name := part.strip()))


def wrong_use(message: str) -> NoReturn:
    """End the command with exit code 2, the message, the command's usage and its example."""
    raise _WrongUse(message)


class _WrongUse(typer.BadParameter):
    """Options or arguments that exclude each other."""

    def format_message(self) -> str:
        return self.message
