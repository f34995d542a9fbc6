"""The published rows of benchmarks: which images they are, in which order, and the text of each one's class.

`benchmark_rows.parquet` holds them: what the repositories of BioCLIP, BioCLIP 2 and BioCAP (Imageomics, MIT) have as
annotations, without those of NABirds, whose own lists give the same rows. The order matters: the published few-shot
protocols draw their folds from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from birder.evaluation.benchmarks import TextType
from birder.taxonomy import RANKS

_ABOVE = tuple({"class": "cls"}.get(rank, str(rank)) for rank in RANKS[: RANKS.index("genus")])


class Row(NamedTuple):
    """A published row: the image's path in the published folder, and the text of its class."""

    path: str
    text: str


def published_rows(name: str, text_type: TextType) -> list[Row]:
    """The rows of a benchmark in their published order; none where they are not in the table."""
    table = _table()
    rows = table.filter(pc.equal(table["benchmark"], name)).to_pylist()
    return [Row(row["filepath"], row["class"] if text_type == "asis" else taxon_com(row)) for row in rows]


def taxon_com(taxon: Mapping[str, str]) -> str:
    """A taxon as it is written in BioCLIP's evaluations: its ranks from the kingdom down, then its common name.

    What is odd there is odd here, because the text of a class is also what makes it one: an unknown rank leaves its
    space behind. A tokenizer of CLIP does not see that.
    """
    below = [taxon["genus"].capitalize(), taxon["species"].lower()]
    above = [taxon[rank].capitalize() for rank in _ABOVE] if taxon["kingdom"] else []
    name = " ".join([*above, *below])
    return f"{name} with common name {taxon['common_name']}" if taxon["common_name"] else name


@cache
def _table() -> pa.Table:
    return pq.read_table(Path(__file__).with_name("benchmark_rows.parquet"))
