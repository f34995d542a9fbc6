"""TreeOfLife's texts, against what Imageomics' own naming code gave; tests/data/SOURCES.md says how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.errors import ConfigError
from birder.naming.taxon_texts import TEXTS, clean_taxon, taxon_texts
from birder.taxonomy import RANKS

DATA = Path(__file__).parents[1] / "data" / "tree-of-life-texts.json"
NAMES = st.sampled_from(["pica", "vulpes", "hudsonia", "aves", "quercus", "varia", "subsp", "unknownia", "ssp", "l"])
TAXA = st.lists(NAMES, min_size=7, max_size=7).map(
    lambda names: dict(zip(RANKS, [*map(str.capitalize, names[:-1]), names[-1]], strict=True))
)
FEW = settings(max_examples=50, deadline=None)


def published() -> list[tuple[dict[str, str], str, dict[str, str] | None]]:
    """Taxa by rank, common names, and their published texts; None where the published code refuses."""
    found: list[dict[str, Any]] = json.loads(DATA.read_text("utf-8"))
    return [
        ({"class" if k == "cls" else k: v for k, v in row["taxon"].items()}, row["taxon"]["common"], row["texts"])
        for row in found
    ]


def test_texts_are_those_of_the_published_code() -> None:
    for taxon, common, texts in published():
        if texts is None:
            assert clean_taxon(taxon) == {}
            with pytest.raises(ConfigError, match="no name at any rank"):
                taxon_texts(taxon, common)
        else:
            assert taxon_texts(taxon, common) == texts, taxon
            assert set(texts) == set(TEXTS)


@FEW
@given(TAXA)
def test_plain_names_stay_as_they_are(taxon: dict[str, str]) -> None:
    assert clean_taxon(taxon) == taxon
    assert taxon_texts(taxon)["taxonomic_name"] == " ".join(taxon.values())


@FEW
@given(
    TAXA,
    st.sampled_from(["{}", "<i>{}</i>", "<i><b>{}</b></i>", "{}<sup></sup>"]),
    st.sampled_from(
        ["", " L.", " Linnaeus, 1758", " Jordan & Evermann 1896", " (Bates 1864)", " var. alba", " <br> x"]
    ),
    st.booleans(),
    st.booleans(),
)
def test_what_surrounds_a_name_does_not_matter(
    taxon: dict[str, str], html: str, author: str, with_genus: bool, genus_known: bool
) -> None:
    epithet, genus = taxon["species"], taxon["genus"]
    whole = f"{genus} {epithet}" if with_genus or not genus_known else epithet
    other = taxon | {"species": html.format(whole) + author, "genus": html.format(genus) if genus_known else ""}
    other["family"] = html.format(taxon["family"].upper())
    assert taxon_texts(other, "a name") == taxon_texts(taxon, "a name")


@FEW
@given(
    TAXA, st.sets(st.sampled_from(RANKS), min_size=1, max_size=6), st.sampled_from(["unknown", "(Unidentified)", ""])
)
def test_an_unknown_name_is_none(taxon: dict[str, str], ranks: set[str], unknown: str) -> None:
    known = {rank: name for rank, name in taxon.items() if rank not in ranks}
    assert taxon_texts(taxon | dict.fromkeys(ranks, unknown)) == taxon_texts(known)


@pytest.mark.parametrize("other, ours", [("Metazoa", "Animalia"), ("Archaeplastida", "Plantae"), ("FUNGI", "Fungi")])
def test_kingdoms_of_other_trees(other: str, ours: str) -> None:
    assert clean_taxon({"kingdom": other}) == {"kingdom": ours}


def test_a_name_full_of_tags_takes_no_time() -> None:
    """Cut short by the runner's limit, if cleaning took a time that grows with the cube of the length."""
    for name in ("<" * 20_000, "<i>" * 5_000 + "x" + "</i>" * 5_000, "<>" * 10_000 + "</"):
        assert len(clean_taxon({"genus": name}).get("genus", "")) <= len(name)
