"""The taxa that TreeOfLife's text embeddings have names for, as a table of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from birder.errors import ConfigError
from birder.files import replacing
from birder.naming.label_sets import group_by_rank, subset_mask
from birder.naming.tree_of_life import fetch_taxa

CSV = pyarrow.csv.WriteOptions(quoting_style="needed")


def list_taxa(model: str, rank: str | None, subset: Path | Mapping[str, Sequence[str]] | None) -> pa.Table:
    """Taxa of a model's label set, with a column for each rank; of a rank each taxon once (default: species)."""
    table = fetch_taxa(model)
    if subset is not None:
        table = table.filter(pa.array(subset_mask(table, subset)))
    return table if rank in (None, "species") else group_by_rank(table, str(rank)).names


def write_taxa(table: pa.Table, to: Path) -> None:
    """Write taxa as .csv or .parquet.

    Raises
    ------
    ConfigError
        Another ending, or the file cannot be written.
    """
    if to.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"{to} must end in .csv or .parquet.")
    with replacing(to) as draft:
        if to.suffix.lower() == ".csv":
            pyarrow.csv.write_csv(table, draft, CSV)
        else:
            pq.write_table(table, draft, compression="zstd")
