"""Taxonomic ranks: their names, their order, and how tables hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any


class Rank(StrEnum):
    """A rank, from the widest to the narrowest."""

    kingdom = "kingdom"
    phylum = "phylum"
    class_ = "class"
    order = "order"
    family = "family"
    genus = "genus"
    species = "species"


RANKS: tuple[str, ...] = tuple(rank.value for rank in Rank)
"""The names of the ranks, from the widest; they are the names of the columns that hold taxa."""
COMMON_NAME = "common_name"
"""The column for a taxon's common name."""


def is_rank(name: str) -> bool:
    """Whether a column's name is that of a rank."""
    return name in RANKS


def ranks_down_to(rank: str) -> tuple[str, ...]:
    """The ranks from the widest down to this one, which is the last."""
    return RANKS[: RANKS.index(rank) + 1]


def ranks_in(columns: Iterable[str]) -> list[str]:
    """The ranks that a table has columns for, from the widest."""
    present = set(columns)
    return [rank for rank in RANKS if rank in present]


def taxon_of(row: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The names by rank that a row tells, from the widest; `prefix` stands before the ranks in its columns' names."""
    return {rank: str(row[prefix + rank]) for rank in RANKS if row.get(prefix + rank)}


def lowest_name(taxon: Mapping[str, str]) -> str | None:
    """The name at the lowest rank that is known; None if none is."""
    return next((taxon[rank] for rank in reversed(RANKS) if taxon.get(rank)), None)


def species_name(genus: str, species: str) -> str:
    """The name of a species with its genus: "Pica hudsonia", also from the epithet alone.

    Empty where the species is not known; the epithet alone where the genus is not.
    """
    if not genus or not species or " " in species:
        return species
    return f"{genus} {species}"
