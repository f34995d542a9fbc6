"""What users of pybioclip's commands find here: the default model, features, taxa, a log, subsets as lists."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from birder.cli.features import features
from birder.cli.predict import predict
from birder.cli.taxa import taxa
from birder.collection.storage import Storage
from birder.errors import ConfigError, FileExistsError, HubError, UnknownNameError
from birder.formats.import_embeddings import import_embeddings
from birder.naming.by_texts import name_by_texts
from birder.naming.label_sets import subset_mask, taxa_mask
from birder.naming.tree_of_life import fetch_taxa, fetch_tree_of_life
from birder.weights.clip import load_clip

DATA = Path(__file__).parents[1] / "data"
CLIP = DATA / "openclip"
TAXA = [
    [["Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "pica"], "Eurasian magpie"],
    [["Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Corvus", "corax"], "raven, common"],
    [["Plantae", "Tracheophyta", "Magnoliopsida", "Fagales", "Fagaceae", "Quercus", "robur"], ""],
]
app = typer.Typer()
for command in (predict, features, taxa):
    app.command()(command)


def run(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def in_cache(cache: Path, kind: str, repository: str, files: dict[str, Path]) -> None:
    """Files of a repository as the hub's client keeps them."""
    folder = cache / f"{kind}--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c" * 40)
    for name, file in files.items():
        to = folder / "snapshots" / ("c" * 40) / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, to)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("BIRDER_CACHE", str(tmp_path / "birder-cache"))
    return tmp_path / "hub"


@pytest.fixture
def with_bioclip2(cache: Path, tmp_path: Path) -> None:
    """The tiny CLIP in BioCLIP 2's place, with text embeddings of three taxa."""
    (tmp_path / "names.json").write_text(json.dumps(TAXA))
    matrix = np.random.default_rng(0).normal(size=(32, len(TAXA))).astype(np.float32)
    np.save(tmp_path / "matrix.npy", matrix / np.linalg.norm(matrix, axis=0))
    in_cache(cache, "models", "imageomics/bioclip-2", {file.name: file for file in CLIP.glob("open_clip_*")})
    tree = {"embeddings/txt_emb_species.npy": tmp_path / "matrix.npy"}
    tree["embeddings/txt_emb_species.json"] = tmp_path / "names.json"
    in_cache(cache, "datasets", "imageomics/TreeOfLife-200M", tree)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    shutil.copy(DATA / "chelsea.png", tmp_path / "chelsea.png")
    return tmp_path / "chelsea.png"


def test_without_a_model_predict_says_which_and_how_to_fetch_it(cache: Path, photo: Path) -> None:
    with pytest.raises(ConfigError, match=r"bioclip-2, is not on this machine.*--model imageomics/bioclip-2.*--like"):
        run("predict", photo)


@pytest.mark.usefixtures("with_bioclip2")
def test_without_a_model_predict_takes_bioclip_2_where_it_is(photo: Path) -> None:
    out, said = run("predict", photo, "-k", "3", "--format", "json")
    assert "Named 1 image with vit_l14_pn_bioclip-v2 among 3 labels" in said
    assert {row["species"] for row in json.loads(out)} == {"Pica pica", "Corvus corax", "Quercus robur"}
    assert out == run("predict", photo, "-k", "3", "--format", "json", "--model", "hf-hub:imageomics/bioclip-2")[0]


@pytest.mark.usefixtures("with_bioclip2")
def test_taxa_are_listed(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("taxa", "--model", "hf-hub:imageomics/bioclip-2")[0])))
    assert [row["species"] for row in rows] == ["Pica pica", "Corvus corax", "Quercus robur"]
    assert rows[1]["common_name"] == "raven, common" and rows[0]["family"] == "Corvidae"
    families = list(csv.DictReader(io.StringIO(run("taxa", "--rank", "family")[0])))
    assert sorted(row["family"] for row in families) == ["Corvidae", "Fagaceae"]
    (tmp_path / "s.csv").write_text("genus\nPica\n")
    run("taxa", "--subset", tmp_path / "s.csv", "--to", tmp_path / "taxa.parquet")
    assert pq.read_table(tmp_path / "taxa.parquet")["species"].to_pylist() == ["Pica pica"]
    with pytest.raises(UnknownNameError, match="No TreeOfLife text embeddings are published for efficientnet"):
        run("taxa", "--model", "efficientnet_lite0_in1k")


def test_taxa_out_of_reach_are_no_traceback(cache: Path) -> None:
    with pytest.raises(HubError, match="TreeOfLife-10M"):
        run("taxa", "--model", "vit_b16_pn_bioclip-v1")


@pytest.mark.usefixtures("with_bioclip2")
def test_a_subset_may_be_lists(photo: Path) -> None:
    names = fetch_taxa("imageomics/bioclip-2")
    assert taxa_mask(names, "family", ["Corvidae"]).tolist() == [True, True, False]
    assert subset_mask(names, {"family": ["Corvidae"], "genus": ["Pica", "Quercus"]}).tolist() == [True, False, False]
    clip = load_clip(CLIP)
    tree = fetch_tree_of_life("imageomics/bioclip-2")
    assert tree.take(taxa_mask(tree.names, "genus", ["Quercus"])).names["species"].to_pylist() == ["Quercus robur"]
    (photo.parent / "taxa.csv").write_text("genus,species\nPica,pica\nCorvus,corax\n")
    kept = name_by_texts(clip, source=str(photo.parent / "taxa.csv"), subset={"genus": ["Corvus"]}, templates=["{}"])
    assert kept.labels.names["species"].to_pylist() == ["Corvus corax"]
    with pytest.raises(UnknownNameError, match="no genus 'Picus'"):
        subset_mask(names, {"genus": ["Picus"]})
    empty: tuple[dict[str, list[str]], ...] = ({}, {"genus": []})
    for nothing in empty:
        with pytest.raises(ConfigError):
            subset_mask(names, nothing)


@pytest.mark.parametrize("ending", ["csv", "json", "npy", "parquet"])
def test_features_are_written_and_can_be_imported(photo: Path, tmp_path: Path, ending: str) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    Image.open(photo).rotate(90).save(tmp_path / "turned.png")
    clip = load_clip(CLIP)
    good = [photo, tmp_path / "turned.png"]
    inputs = [clip.whole_image_transform(Image.open(path)) for path in good]
    expected = [clip.encode_image(each[None]).numpy()[0] for each in inputs]
    file = tmp_path / f"f.{ending}"
    images = (photo, tmp_path / "bad.png", tmp_path / "turned.png")
    _, said = run("features", *images, "--model", CLIP, "--to", file, "--batch-size", "1", code=1)
    assert "2 features, 32-dimensional" in said and "1 of 3 could not be read" in said
    if ending == "csv":
        rows = list(csv.reader(io.StringIO(file.read_text())))
        assert rows[0][:2] == ["path", "0"] and [row[0] for row in rows[1:]] == [
            str(photo),
            str(tmp_path / "turned.png"),
        ]
        found = np.array([row[1:] for row in rows[1:]], float)
    else:
        table = tmp_path / "f.csv" if ending == "npy" else None
        model = None if ending == "json" else "mine"
        done = import_embeddings(file, tmp_path / "c.birder", model=model, table=table)
        rows_there: list[dict[str, Any]] = Storage.open(done.collection.path).to_arrow().to_pylist()
        assert [row["uri"] for row in rows_there] == [path.as_uri() for path in good]
        found = np.array([row["embedding"] for row in rows_there])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(FileExistsError, match="already exists"):
        run("features", photo, "--model", CLIP, "--to", file)


def test_features_of_a_collection_need_no_image_files(photo: Path, tmp_path: Path) -> None:
    clip = load_clip(CLIP)
    vector = clip.encode_image(clip.transform(Image.open(photo))[None]).numpy()[0]
    theirs = pa.table({"path": ["gone.jpg"], "emb": [vector.tolist()]})
    pq.write_table(theirs, tmp_path / "theirs.parquet")
    import_embeddings(tmp_path / "theirs.parquet", tmp_path / "c.birder", model=str(CLIP))
    run("features", "--in", tmp_path / "c.birder", "--to", tmp_path / "f.npy")
    np.testing.assert_allclose(np.load(tmp_path / "f.npy")[0], vector, atol=1e-6)
    with pytest.raises(ConfigError, match="ends in no form"):
        run("features", "--in", tmp_path / "c.birder", "--to", tmp_path / "f.txt")


def test_a_log_records_the_model_the_options_and_the_names(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    arguments = ("predict", photo, tmp_path / "bad.png", "--model", CLIP, "--labels", "cat,dog", "--template", "{}")
    run(*arguments, "--log", tmp_path / "log.json", code=1)
    told = json.loads((tmp_path / "log.json").read_text())
    assert told["model"] == str(CLIP) and len(told["sha256"]) == 64 and told["started"] <= told["ended"]
    assert told["settings"]["--labels"] == "cat,dog" and told["settings"]["--template"] == ["{}"]
    assert (told["images"], told["unreadable"]) == ([str(photo)], [str(tmp_path / "bad.png")])
    with pytest.raises(ConfigError, match="there already"):
        run(*arguments, "--log", tmp_path / "log.json")
    for _ in range(2):
        run(*arguments, "--log", tmp_path / "log.txt", code=1)
    assert (tmp_path / "log.txt").read_text().count(f"\nmodel: {CLIP}\n") == 2
    with pytest.raises(ConfigError, match="Cannot write"):
        run(*arguments, "--log", tmp_path / "none" / "log.txt")


@pytest.mark.parametrize("size", ["1", "2", "7"])
def test_batches_change_no_name(photo: Path, tmp_path: Path, size: str) -> None:
    for turn in range(3):
        Image.open(photo).rotate(90 * turn).save(tmp_path / f"{turn}.png")
    arguments = ("predict", tmp_path / "*.png", "--model", CLIP, "--labels", "cat,dog", "--template", "{}")
    one = json.loads(run(*arguments, "--format", "json")[0])
    other = json.loads(run(*arguments, "--format", "json", "--batch-size", size)[0])
    assert [(row["path"], row["label"]) for row in one] == [(row["path"], row["label"]) for row in other]
    np.testing.assert_allclose([row["score"] for row in one], [row["score"] for row in other], atol=1e-5)
