"""`birder import`: embeddings and predictions by other tools into a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.errors import FAILED
from birder.cli.output import note
from birder.cli.progress import stage_progress
from birder.words import counted


def import_(
    collection: options.Collection,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Embeddings: Parquet or a folder of it, CSV, NumPy's .npz or .npy, the JSON of `bioclip embed`. Or "
            "predictions: SpeciesNet's predictions.json, those of pybioclip as CSV or JSON.",
        ),
    ],
    model: Annotated[str | None, options.model_option("the model that FILE names")] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            "--embedding",
            metavar="COLUMN",
            help="Column with the embeddings, or what their columns have in front of their number (default: recognised "
            "by its name).",
        ),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(
            "--uri", metavar="COLUMN", help="Column with the images' locations (default: recognised by its name)."
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--table", metavar="FILE", help="For an array: a CSV or Parquet file with one line per row."),
    ] = None,
) -> None:
    """Import embeddings that others computed, or predictions for images of the collection.

    The collection is created if it does not exist. Existing rows are kept as they are; predictions go into columns
    predicted_..., never into labels.

    For example:

    birder import tol200m.birder tol200m.parquet --model imageomics/bioclip-2

    birder import theirs.birder theirs.npy --table theirs.csv --model imageomics/bioclip

    birder import photos.birder predictions.json
    """
    import birder

    done = birder.import_file(
        file, collection, model=model, embedding=embedding, uri=uri, table=table, progress=stage_progress()
    )
    if done.predicted is not None:
        note(
            f"{counted(done.predicted, 'row')} of {collection} now {'has' if done.predicted == 1 else 'have'} a "
            "prediction, in columns predicted_..."
        )
        if done.nameless:
            note(f"{counted(done.nameless, 'image has', 'images have')} no prediction in {file}.")
        if done.unknown:
            note(
                f"{counted(done.unknown, 'image')} in {file} {'is' if done.unknown == 1 else 'are'} not in "
                f"{collection}."
            )
        return
    card = done.collection.model
    changed = f", {done.changed:,} changed" if done.changed else ""
    there = f", {done.already:,} already there" if done.already else ""
    note(
        f"{counted(done.new, 'new row')}{changed}{there}; {card.embedding_size}-dimensional embeddings of {card.name}."
    )
    for each in done.notes:
        note(f"birder: {each}")
    if done.off_earth:
        note(f"{counted(done.off_earth, 'row has', 'rows have')} invalid coordinates, which are left empty.")
    if done.failed:
        note(f"{counted(done.failed, 'row has', 'rows have')} no usable embedding; see: birder failures {collection}")
        raise typer.Exit(FAILED)
