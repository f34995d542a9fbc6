from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.errors import BirderError, ConfigError, HubError, UnknownNameError, WeightsError
from birder.naming.label_files import read_bins, read_label_list, read_taxa
from birder.naming.label_sets import (
    Labels,
    group_by_bins,
    group_by_rank,
    label_names,
    subset_mask,
)
from birder.naming.prompts import OPENAI_TEMPLATES, TextType, check_templates, fill, taxon_text
from birder.naming.tree_of_life import fetch_tree_of_life, read_tree_of_life
from birder.taxonomy import RANKS

MAGPIE = {
    "kingdom": "Animalia",
    "phylum": "Chordata",
    "class": "Aves",
    "order": "Passeriformes",
    "family": "Corvidae",
    "genus": "Pica",
    "species": "Pica hudsonia",
    "common_name": "black-billed magpie",
}
TAXA = [
    [["Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "hudsonia"], "black-billed magpie"],
    [["Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "pica"], "Eurasian magpie"],
    [["Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Picidae", "Pica", "alba"], ""],
    [["Plantae", "Tracheophyta", "Magnoliopsida", "Fagales", "Fagaceae", "Quercus", "robur"], "oak"],
]


@pytest.fixture
def tree(tmp_path: Path) -> Labels:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((8, len(TAXA))).astype(np.float32)
    np.save(tmp_path / "e.npy", matrix / np.linalg.norm(matrix, axis=0))
    (tmp_path / "n.json").write_text(json.dumps(TAXA))
    return read_tree_of_life(tmp_path / "e.npy", tmp_path / "n.json")


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("text_type", "expected"),  # the examples of BioCLIP's paper
    [
        (TextType.common, "black-billed magpie"),
        (TextType.scientific, "Pica hudsonia"),
        (TextType.taxonomic, "Animalia Chordata Aves Passeriformes Corvidae Pica hudsonia"),
        (TextType.scientific_common, "Pica hudsonia with common name black-billed magpie"),
        (
            TextType.taxonomic_common,
            "Animalia Chordata Aves Passeriformes Corvidae Pica hudsonia with common name black-billed magpie",
        ),
    ],
)
def test_text_types_are_bioclips(text_type: TextType, expected: str) -> None:
    assert taxon_text(MAGPIE, text_type) == expected


def test_text_types_of_a_taxon_with_unknown_ranks() -> None:
    genus = {"class": "Aves", "genus": "Pica", "species": "", "common_name": ""}
    assert taxon_text(genus, TextType.scientific) == "Pica"
    assert taxon_text(genus, TextType.taxonomic_common) == "Aves Pica"
    with pytest.raises(UnknownNameError, match="No common name of Aves, Pica"):
        taxon_text(genus, TextType.common)
    with pytest.raises(UnknownNameError, match="no name at any rank"):
        taxon_text({"common_name": "bird"}, TextType.scientific)


def test_the_default_templates_are_eighty_different_ones_with_one_place() -> None:
    check_templates(OPENAI_TEMPLATES)
    assert len(set(OPENAI_TEMPLATES)) == 80
    assert fill(["a {}.", "the {}!"], "{odd}") == ["a {odd}.", "the {odd}!"]


@pytest.mark.parametrize("templates", [[], ["a photo"], ["{} and {}"]])
def test_bad_templates_are_refused(templates: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"\{\}"):
        check_templates(templates)


def test_label_lists_are_read_from_every_form(tmp_path: Path) -> None:
    names = write(tmp_path / "names.txt", "\ufeffowl\n\n  tawny owl, juvenile \r\nÉlan\n")
    assert read_label_list(str(names)) == ["owl", "tawny owl, juvenile", "Élan"]
    assert read_label_list(" owl, crow ,, elk") == ["owl", "crow", "elk"]
    assert read_label_list(",".join(["owl"] * 2000)) == ["owl"] * 2000
    with pytest.raises(ConfigError, match="Cannot read"):
        read_label_list(str(tmp_path / "missing.txt"))
    (tmp_path / "latin.txt").write_bytes("Élan".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        read_label_list(str(tmp_path / "latin.txt"))


@pytest.mark.parametrize(
    ("labels", "message"), [([], "at least one"), (["a", " "], "none of them empty"), (["a", "a "], "twice")]
)
def test_bad_label_lists_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        label_names(labels)


def test_labels_are_grouped_into_bins(tmp_path: Path) -> None:
    path = write(tmp_path / "bins.csv", 'classes,bin\nowl,bird\n"fox, red",mammal\ncrow,bird\nowl,bird\n')
    bins = read_bins(path)
    assert bins == {"owl": "bird", "fox, red": "mammal", "crow": "bird"}
    groups = group_by_bins(label_names(list(bins)), bins)
    assert groups.names.to_pylist() == [{"label": "bird"}, {"label": "mammal"}]
    assert groups.codes.tolist() == [0, 1, 0]


def test_quoted_na_is_a_name(tmp_path: Path) -> None:
    text = 'label,bin\n"NA",Africa\n"nan", "NA" \n"the ""NA"" bird",Africa\nNamib,Africa\n'
    expected = {"NA": "Africa", "nan": "NA", 'the "NA" bird': "Africa", "Namib": "Africa"}
    assert read_bins(write(tmp_path / "bins.csv", text)) == expected
    assert read_label_list("NA, NZ,nan") == ["NA", "NZ", "nan"]
    missing = pa.table({"label": ["a", "NA"], "bin": pa.array([1.0, float("nan")])})
    pq.write_table(missing, tmp_path / "bins.parquet")
    with pytest.raises(ConfigError, match="'NA' has no bin"):
        read_bins(tmp_path / "bins.parquet")


def test_bins_without_a_header_lose_no_label(tmp_path: Path) -> None:
    assert read_bins(write(tmp_path / "a.csv", "hen,bird\nowl,bird\nfox,mammal\n")) == {
        "hen": "bird",
        "owl": "bird",
        "fox": "mammal",
    }
    assert read_bins(write(tmp_path / "b.csv", "what,BIN\nhen,bird\n")) == {"hen": "bird"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label\nowl\n", "two columns"),
        ("label,bin\n", "two columns"),
        ("", "is empty"),
        ("label,bin\nowl,\n", "'owl' has no bin"),
        ("label,bin\nowl,bird\nowl,night\n", "'owl' is in the bin 'bird' and in 'night'"),
        ("label,bin\nfox, red,mammal\n", "row 2"),
        ("label,label\nowl,bird\n", "two columns of the same name"),
        ("label,bin\nowl,NA\n", "'owl' has no bin"),
        ("label,bin\nowl, nan\n", "'owl' has no bin"),
        ('label,bin\nowl,""\n', "'owl' has no bin"),
        ("label,bin\nowl,bird\nN/A,bird\n", "row 2 has no label"),
        ("label,bin\nnull,bird\n", "row 1 has no label"),
        ("hen,bird\nfox,mammal\n", "put a line label,bin before it"),
    ],
)
def test_bad_bins_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_bins(write(tmp_path / "bins.csv", text))


def test_taxa_from_csv_and_parquet(tmp_path: Path) -> None:
    lines = ["note,Genus,Species,Class,common_name", "x,Pica,hudsonia,Aves,magpie", "y,Strix,Strix aluco,Aves,"]
    text = "\n".join([*lines, "z,Turdus,,Aves,"])
    taxa = read_taxa(write(tmp_path / "taxa.csv", text))
    assert taxa.column_names == ["class", "genus", "species", "common_name"]
    assert taxa.column("species").to_pylist() == ["Pica hudsonia", "Strix aluco", ""]
    pq.write_table(pa.table({"genus": ["Pica", None], "species": ["hudsonia", None]}), tmp_path / "taxa.parquet")
    parquet = read_taxa(tmp_path / "taxa.parquet")
    assert parquet.to_pylist() == [
        {"genus": "Pica", "species": "Pica hudsonia", "common_name": ""},
        {"genus": "", "species": "", "common_name": ""},
    ]


@pytest.mark.parametrize(("text", "message"), [("name\nPica\n", "has no column of taxa"), ("genus\n", "no row")])
def test_bad_taxa_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_taxa(write(tmp_path / "taxa.csv", text))
    (tmp_path / "taxa.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConfigError, match="Cannot read"):
        read_taxa(tmp_path / "taxa.parquet")


def test_tree_of_life_is_mapped_not_copied(tree: Labels) -> None:
    assert isinstance(tree.matrix, np.memmap)
    assert tree.names.column_names == [*RANKS, "common_name"]
    assert tree.names.to_pylist()[0] == MAGPIE
    assert tree.names.column("common_name").to_pylist()[2] == ""


@pytest.mark.parametrize("damage", ["pickle", "shape", "json", "short", "missing", "double"])
def test_damaged_tree_of_life_is_refused(tmp_path: Path, tree: Labels, damage: str) -> None:
    embeddings, names = tmp_path / "e.npy", tmp_path / "n.json"
    if damage == "pickle":
        np.save(embeddings, np.array([{"run": "code"}], dtype=object), allow_pickle=True)
    elif damage == "shape":
        np.save(embeddings, np.zeros((8, 3), np.float32))
    elif damage == "double":
        np.save(embeddings, np.zeros((8, 4)))
    elif damage == "json":
        names.write_text("[[")
    elif damage == "short":
        names.write_text(json.dumps([[taxon[:6], common] for taxon, common in TAXA]))
    else:
        names.unlink()
    with pytest.raises(WeightsError, match="again"):
        read_tree_of_life(embeddings, names)


def test_names_are_parsed_once_for_each_content(tree: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIRDER_CACHE", str(tmp_path / "cache"))
    embeddings, names = tmp_path / "e.npy", tmp_path / "n.json"
    parsed: list[int] = []
    loads = json.loads

    def counting(data: bytes) -> object:
        parsed.append(1)
        return loads(data)

    monkeypatch.setattr(json, "loads", counting)
    assert read_tree_of_life(embeddings, names).names.equals(tree.names)
    assert read_tree_of_life(embeddings, names).names.equals(tree.names)
    assert len(parsed) == 1
    (cached,) = (tmp_path / "cache" / "taxa").iterdir()
    cached.write_bytes(cached.read_bytes()[:100])
    assert read_tree_of_life(embeddings, names).names.equals(tree.names)
    names.write_text(json.dumps([[taxon, "new"] for taxon, _ in TAXA]))
    assert read_tree_of_life(embeddings, names).names.column("common_name").to_pylist() == ["new"] * 4
    assert len(parsed) == 3


def test_a_cache_that_cannot_be_written_is_a_warning(
    tree: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BIRDER_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="Set BIRDER_CACHE"):
        again = read_tree_of_life(tmp_path / "e.npy", tmp_path / "n.json")
    assert again.names.equals(tree.names)


def test_a_model_without_tree_of_life_embeddings_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"imageomics/bioclip, imageomics/bioclip-2.*--labels"):
        fetch_tree_of_life("imageomics/bioclip-0")


def test_tree_of_life_out_of_reach_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"txt_emb_species.json of imageomics/TreeOfLife-10M"):
        fetch_tree_of_life("imageomics/bioclip")


def test_groups_follow_the_whole_lineage(tree: Labels) -> None:
    genera = group_by_rank(tree.names, "genus")
    assert genera.codes[0] == genera.codes[1]
    assert len(set(genera.codes.tolist())) == genera.names.num_rows == 3  # the two genera Pica are not one
    assert genera.names.column_names == list(RANKS[:6])
    assert [genera.names.to_pylist()[code]["family"] for code in genera.codes] == [t[0][4] for t in TAXA]
    assert group_by_rank(tree.names, "kingdom").names.column("kingdom").to_pylist() == ["Animalia", "Plantae"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[st.sampled_from(["", "a", "b", "ab", "b a"])] * 3), min_size=1, max_size=40))
def test_groups_are_the_distinct_lineages(lineages: list[tuple[str, str, str]]) -> None:
    table = pa.table({rank: [line[i] for line in lineages] for i, rank in enumerate(("kingdom", "order", "genus"))})
    groups = group_by_rank(table, "genus")
    rows = [tuple(row.values()) for row in groups.names.to_pylist()]
    assert sorted(rows) == sorted(set(lineages))
    assert [rows[code] for code in groups.codes] == lineages


def test_unknown_and_impossible_ranks_are_refused(tree: Labels) -> None:
    with pytest.raises(UnknownNameError, match="genus"):
        group_by_rank(tree.names, "genu")
    with pytest.raises(UnknownNameError, match="plain names"):
        group_by_rank(label_names(["owl"]), "genus")


def test_a_subset_keeps_only_its_taxa(tree: Labels, tmp_path: Path) -> None:
    mask = subset_mask(tree.names, write(tmp_path / "s.csv", "Genus,x\nQuercus,1\n"))
    assert mask.tolist() == [False, False, False, True]
    kept = tree.take(subset_mask(tree.names, write(tmp_path / "s.csv", "species\nPica pica\nQuercus robur\n")))
    assert kept.names.column("species").to_pylist() == ["Pica pica", "Quercus robur"]
    np.testing.assert_array_equal(kept.matrix, tree.matrix[:, [1, 3]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("genus\nPica\nPicta\n", r"no genus 'Picta'"),
        ("genus\n" + "\n".join(f"G{i}" for i in range(12)), "'G9' and 2 more"),
        ("genera\nPica\n", "Unknown rank 'genera'"),
        ("genus\n", "lists no genus"),
    ],
)
def test_bad_subsets_are_refused(tree: Labels, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BirderError, match=message):
        subset_mask(tree.names, write(tmp_path / "s.csv", text))


def test_labels_that_do_not_fit_their_matrix_are_refused() -> None:
    with pytest.raises(ConfigError, match="do not match"):
        Labels(label_names(["a", "b"]), np.zeros((4, 3), np.float32))
    with pytest.raises(ConfigError, match="float32"):
        Labels(label_names(["a", "b"]), np.zeros((4, 2)))  # type: ignore[arg-type]
