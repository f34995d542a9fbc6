"""`birder failures`: the files that a collection could not take, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli.output import Format, note, write_rows


def failures(
    collection: Annotated[Path, typer.Argument(metavar="DIR", help="The collection.")],
    format: Annotated[Format, typer.Option("--format", help="How to print them.")] = Format.table,
) -> None:
    """List the files that could not be read, each with the reason; birder embed --retry-failed tries them again.

    Example: birder failures photos.birder --format csv
    """
    from birder.collection.storage import Storage
    from birder.sources import uri_to_name

    rows = [
        {"file": uri_to_name(row["uri"]), "reason": row["reason"], "failed_at": row["failed_at"]}
        for row in Storage.open(collection).failures()
    ]
    if format == Format.table:
        note(f"{len(rows):,} failed in {collection}.")
    if rows or format != Format.table:
        write_rows(rows, format)
