"""`birder taxa`: the taxa that TreeOfLife's text embeddings have names for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.options import Format
from birder.cli.output import write_rows, write_table
from birder.taxonomy import Rank


def taxa(
    model: Annotated[str, options.model_option()] = "imageomics/bioclip-2",
    rank: Annotated[
        Rank | None,
        typer.Option("--rank", metavar="RANK", help="List each taxon of this rank once (default: species)."),
    ] = None,
    subset: Annotated[
        Path | None,
        typer.Option(
            "--subset", metavar="TABLE", help="List only these taxa: a table with one column, named by its rank."
        ),
    ] = None,
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
) -> None:
    """List the taxa that birder predict chooses from, with a column for each rank; as CSV without --to and --format.

    For example:

    birder taxa --model imageomics/bioclip --rank family --to families.csv
    """
    form = Format.csv if format is None and to is None else options.format_of(format, to)
    options.check_to(to, force)
    import birder

    table = birder.list_taxa(model, rank=rank, subset=subset)
    if form in (Format.csv, Format.parquet):
        write_table(table, form, to)
    else:
        write_rows(table.to_pylist(), form, to)
