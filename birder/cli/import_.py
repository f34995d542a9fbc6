"""`birder import`: embeddings that others made into a collection."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from birder.cli.output import note


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet, with embeddings as lists of floats.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The collection, made if it is not there.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="What made the embeddings; not needed for files that birder export wrote."),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option("--embedding", metavar="COLUMN", help="Where the embeddings are, if its name does not tell."),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option("--uri", metavar="COLUMN", help="What says where each photograph is, if its name does not tell."),
    ] = None,
) -> None:
    """Bring in embeddings that others made. Rows that are there already are left alone.

    Example: birder import tol200m.parquet --to tol200m.birder --model imageomics/bioclip-2
    """
    from birder.exchange.read import import_embeddings

    last = time.perf_counter()

    def show(done: int, total: int) -> None:
        nonlocal last
        if time.perf_counter() - last >= 10.0 and done < total:
            last = time.perf_counter()
            note(f"Read {done:,} of {total:,} rows.")

    done = import_embeddings(file, to, model=model, embedding=embedding, uri=uri, on_progress=show)
    card = done.collection.model
    changed = f", {done.changed:,} changed" if done.changed else ""
    there = f", {done.there:,} already there" if done.there else ""
    note(f"{done.new:,} new rows{changed}{there}; {card.embedding_size} numbers each, made by {card.name}.")
    if done.failed:
        note(f"{done.failed:,} rows have no embedding that can be used; see: birder failures {to}")
