"""`birder import`: embeddings that others made into a collection."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from birder.cli.output import note


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Embeddings: Parquet or a folder of it, an array (.npy), the JSON of `bioclip embed`. Or predictions: "
            "SpeciesNet's predictions.json, the CSV of `bioclip predict`.",
        ),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The collection, made if it is not there.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="What made the embeddings or predictions; not needed for files that say it."),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option("--embedding", metavar="COLUMN", help="Where the embeddings are, if its name does not tell."),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option("--uri", metavar="COLUMN", help="What says where each photograph is, if its name does not tell."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--table", metavar="FILE", help="Of an array: a CSV or Parquet file with a line for each row."),
    ] = None,
) -> None:
    """Bring in embeddings that others made, or predictions for photographs that are there.

    Rows that are there already are left alone; predictions go into columns predicted_..., never into labels.

    Examples: birder import tol200m.parquet --to tol200m.birder --model imageomics/bioclip-2

    birder import features.npy --table photos.csv --to photos.birder --model imageomics/bioclip

    birder import predictions.json --to trap.birder
    """
    from birder.formats.import_predictions import has_predictions

    if has_predictions(file):
        if embedding is not None or uri is not None or table is not None:
            raise typer.BadParameter(f"{file} holds predictions: leave out --embedding, --uri and --table.")
        _import_predictions(file, to, model)
        return
    from birder.formats.import_embeddings import import_embeddings

    last = time.perf_counter()

    def show(done: int, total: int) -> None:
        nonlocal last
        if time.perf_counter() - last >= 10.0 and done < total:
            last = time.perf_counter()
            note(f"Read {done:,} of {total:,} rows.")

    done = import_embeddings(file, to, model=model, embedding=embedding, uri=uri, table=table, on_progress=show)
    card = done.collection.model
    changed = f", {done.changed:,} changed" if done.changed else ""
    there = f", {done.unchanged:,} already there" if done.unchanged else ""
    note(f"{done.new:,} new rows{changed}{there}; {card.embedding_size} numbers each, made by {card.name}.")
    if done.off_earth:
        note(f"{done.off_earth:,} rows came with a place that is not on the earth: it is left empty.")
    if done.failed:
        note(f"{done.failed:,} rows have no embedding that can be used; see: birder failures {to}")


def _import_predictions(file: Path, to: Path, model: str | None) -> None:
    from birder.collection.storage import Storage
    from birder.formats.import_predictions import import_predictions

    done = import_predictions(file, Storage.open(to), model=model)
    note(f"{done.rows:,} rows of {to} have a prediction now, in columns predicted_...")
    if done.unnamed:
        note(f"{done.unnamed:,} photographs have no prediction in {file}.")
    if done.unmatched:
        note(f"{done.unmatched:,} photographs in {file} are not in {to}.")
