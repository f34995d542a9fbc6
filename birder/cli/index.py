"""`birder index`: the indexes that make a large collection fast to search."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import note, write_rows
from birder.words import counted


def index(
    collection: options.Collection,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="COLUMN",
            help="Index this column for --where; repeatable (default: all).",
        ),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Only report the state of the indexes.")] = False,
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
) -> None:
    """Build the index of a collection's embeddings, and those of the columns that filters use; existing ones anew.

    Collections of 20,000 rows and more get it automatically. Without an index, a search compares all rows.

    For example:

    birder index photos.birder --status
    """
    form = options.format_of(format, to)
    options.check_to(to, force)

    import birder

    opened = birder.open_collection(collection)
    if status:
        now = opened.index_status()
    else:
        note(f"Indexing {counted(len(opened), 'row')} of {collection}.")
        begun = time.perf_counter()
        now = opened.index(column or ())
        note(f"Done in {time.perf_counter() - begun:.1f} s.")
    rows: list[dict[str, object]]
    rows = [] if now.indexed is None else [{"column": "embedding", "kind": now.kind, "rows": now.indexed}]
    rows += [{"column": name, "kind": kind, "rows": count} for name, (kind, count) in now.columns.items()]
    write_rows(rows, form, to)
    if now.indexed is None:
        note(f"The embeddings have no index: all {now.rows:,} are compared. To build it: birder index {collection}")
    elif now.indexed < now.rows:
        note(f"{counted(now.rows - now.indexed, 'row is', 'rows are')} not in it yet, and compared one by one.")
