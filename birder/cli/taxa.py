"""`birder taxa`: what TreeOfLife's text embeddings have names for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birder.taxonomy import Rank

if TYPE_CHECKING:
    import pyarrow as pa


def taxa(
    model: Annotated[
        str, typer.Option("--model", help="Whose taxa: imageomics/bioclip or imageomics/bioclip-2.")
    ] = "imageomics/bioclip-2",
    rank: Annotated[
        Rank | None, typer.Option("--rank", help="Each taxon of this rank once (default: species).")
    ] = None,
    subset: Annotated[
        Path | None,
        typer.Option("--subset", metavar="TABLE", help="Only these taxa: one column, named by its rank."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help=".csv or .parquet (default: CSV to standard output).")
    ] = None,
) -> None:
    """List the taxa that birder predict chooses from, as CSV with a column for each rank.

    Example: birder taxa --rank family > families.csv
    """
    import pyarrow.csv
    import pyarrow.parquet as pq

    from birder.errors import ConfigError
    from birder.files import replacing

    if to is not None and to.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"{to} ends in no form: name it .csv or .parquet.")
    table = _taxa(model, rank, subset)
    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    if to is None:
        pyarrow.csv.write_csv(table, sys.stdout.buffer, options)
        return
    with replacing(to) as draft:
        if to.suffix.lower() == ".csv":
            pyarrow.csv.write_csv(table, draft, options)
        else:
            pq.write_table(table, draft, compression="zstd")


def _taxa(model: str, rank: Rank | None, subset: Path | None) -> pa.Table:
    import pyarrow as pa

    from birder.naming.label_sets import group_by_rank, subset_mask
    from birder.naming.tree_of_life import fetch_taxa

    table = fetch_taxa(model)
    if subset is not None:
        table = table.filter(pa.array(subset_mask(table, subset)))
    return table if rank in (None, Rank.species) else group_by_rank(table, rank.value).names
