"""Ranks: one list, in one place."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from birder.taxonomy import (
    RANKS,
    Rank,
    is_rank,
    lowest_name,
    ranks_down_to,
    ranks_in,
    species_name,
    taxon_of,
)

MAGPIE = {
    "class": "Aves",
    "family": "Corvidae",
    "genus": "Pica",
    "species": "Pica pica",
    "label": "magpie",
    "order": "",
}


def test_ranks_are_ordered_from_the_widest() -> None:
    assert RANKS == ("kingdom", "phylum", "class", "order", "family", "genus", "species")
    assert tuple(Rank) == RANKS
    assert ranks_down_to("class") == ("kingdom", "phylum", "class")
    assert is_rank("genus") and not is_rank("label")


def test_the_ranks_of_a_table_come_in_their_order_whatever_that_of_its_columns() -> None:
    assert ranks_in(["species", "x", "kingdom", "Family"]) == ["kingdom", "species"]


def test_a_taxon_is_read_from_the_columns_of_a_row() -> None:
    taxon = taxon_of(MAGPIE)
    assert list(taxon.items()) == [
        ("class", "Aves"),
        ("family", "Corvidae"),
        ("genus", "Pica"),
        ("species", "Pica pica"),
    ]
    assert lowest_name(taxon) == "Pica pica"
    assert lowest_name(taxon_of({"predicted_genus": "Pica", "genus": "Corvus"}, "predicted_")) == "Pica"
    assert lowest_name({}) is None


def test_a_species_is_named_with_its_genus_once() -> None:
    assert species_name("Pica", "hudsonia") == species_name("Pica", "Pica hudsonia") == "Pica hudsonia"
    assert species_name("", "hudsonia") == "hudsonia"
    assert species_name("Pica", "") == ""


def test_no_other_module_lists_the_ranks() -> None:
    package = Path(__file__).parent.parent / "birder"
    listed = re.compile(r'"phylum",?\s+"class",?\s+"order"|"kingdom",?\s+"phylum"')
    assert [file.name for file in package.rglob("*.py") if listed.search(file.read_text("utf-8"))] == []


def test_importing_the_taxonomy_loads_nothing_else() -> None:
    script = "import sys, birder.taxonomy; print(*sorted(n for n in sys.modules if n.startswith('birder.')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["birder.taxonomy", "birder.version"]
