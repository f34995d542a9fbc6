"""Names of a rank by labelled examples: in the column of that rank, under what the examples have above it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import birder
from birder.collection.storage import Storage
from tests.factory import collection_of_vectors

OWL = {"class": "Aves", "family": "Strigidae", "genus": "Strix", "species": "Strix aluco", "label": "owl"}
EAGLE_OWL = OWL | {"genus": "Bubo", "species": "Bubo bubo"}
FOX = {"class": "Mammalia", "family": "Canidae", "genus": "Vulpes", "species": "Vulpes vulpes", "label": "fox"}
TAXA = [OWL, EAGLE_OWL, FOX]


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    """Six examples of each of three species, one of them under a family with a slip, and three rows without a name."""
    centres = np.eye(3, 8, dtype="f4") * 4
    random = np.random.default_rng(0)
    number = np.arange(21) % 3
    vectors = centres[number] + random.normal(size=(21, 8)).astype("f4") * 0.2
    taxa: list[dict[str, Any]] = [TAXA[each] if i < 18 else {} for i, each in enumerate(number)]
    taxa[0] = OWL | {"family": "Strigdae", "class": None}
    columns = {name: [each.get(name) for each in taxa] for name in OWL}
    collection_of_vectors(tmp_path / "c.birder", vectors, columns=columns)
    return Storage.open(tmp_path / "c.birder")


def predicted(collection: Storage) -> list[dict[str, Any]]:
    """The predictions of the rows without a name, without what is empty."""
    rows = Storage.open(collection.path).to_arrow().sort_by("uri").to_pylist()[18:]
    return [
        {
            name.removeprefix("predicted_"): value
            for name, value in row.items()
            if name.startswith("predicted_") and value
        }
        for row in rows
    ]


def test_a_species_and_a_genus_have_columns_of_their_own_under_the_examples_lineage(collection: Storage) -> None:
    opened = birder.open_collection(collection.path)
    found = opened.predict(column="species", k=1, save=True)
    assert found.columns == ("class", "family", "genus", "species") and found.name_column == "species"
    assert "predicted_label" not in found.saved
    ranks = ("class", "family", "genus", "species")
    for row, taxon in zip(predicted(collection), TAXA, strict=True):
        assert {rank: row[rank] for rank in ranks} == {rank: taxon[rank] for rank in ranks}
        assert "label" not in row and row["by"] == "SimpleShot on species, tiny" and row["score"] > 0.8
    opened.predict(column="genus", k=1, save=True)
    for row, taxon in zip(predicted(collection), TAXA, strict=True):
        assert (row["family"], row["genus"]) == (taxon["family"], taxon["genus"])
        assert "species" not in row and "label" not in row  # of the run before
    opened.predict(column="label", k=1, save=True)
    assert [row["label"] for row in predicted(collection)] == ["owl", "owl", "fox"]
    assert not any("genus" in row for row in predicted(collection))


def test_the_lineage_is_that_of_most_examples_and_is_told_for_sequences_too(collection: Storage) -> None:
    with collection.writing():
        table = collection.to_arrow().select(["uri"]).sort_by("uri")
        sequences = [f"s{i % 3}" for i in range(21)]
        collection.update(table.append_column("sequence", [sequences]))
    opened = birder.open_collection(collection.path)
    found = opened.predict(column="species", k=1, by="sequence", save=True)
    assert [tuple(row[rank] for rank in found.columns) for row in found] == [tuple(each.values())[:4] for each in TAXA]
    owl = predicted(collection)[0]
    assert (owl["sequence_class"], owl["sequence_family"]) == ("Aves", "Strigidae")
    slip = [row for row in opened.predict(column="family", k=3).to_list() if row["family"] == "Strigdae"]
    assert slip and all(row["class"] is None for row in slip)  # nothing is known above it
