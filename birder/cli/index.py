"""`birder index`: the indexes that make a large collection quick to search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli.output import Format, note, write_rows


def index(
    collection: Annotated[Path, typer.Argument(metavar="DIR", help="The collection.")],
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", help="A column that --where will ask for; may be repeated. All that are filled without it."
        ),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Only tell how the indexes stand.")] = False,
    format: Annotated[Format, typer.Option("--format", help="How to print them.")] = Format.table,
) -> None:
    """Make the index of a collection's embeddings, and those of columns that filters use; anew if they are there.

    Collections of 50,000 rows and more get it by themselves. Nothing needs it: without it all rows are compared.

    Example: birder index photos.birder
    """
    from birder.collection.index import index_status, make_index
    from birder.collection.storage import Storage

    opened = Storage.open(collection)
    if not status:
        note(f"Indexing {opened.count():,} rows of {collection}.")
        report = make_index(opened, columns=column or ())
        note(f"Done in {report.seconds:.1f} s.")
    now = index_status(opened)
    rows: list[dict[str, object]]
    rows = [] if now.indexed is None else [{"column": "embedding", "kind": now.kind, "rows": now.indexed}]
    rows += [{"column": name, "kind": kind, "rows": count} for name, (kind, count) in now.columns.items()]
    write_rows(rows, format)
    if now.indexed is None:
        note(f"There is no index of the embeddings: all {now.rows:,} are compared. Make it: birder index {collection}")
    elif now.indexed < now.rows:
        note(f"{now.rows - now.indexed:,} rows are not in it yet; they are compared one by one.")
