from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from birder import registry
from birder.cli.convert import convert
from birder.cli.embed import embed
from birder.cli.output import image_name
from birder.cli.predict import predict
from birder.cli.search import search
from birder.cli.similar import similar
from birder.collection.storage import Storage
from birder.errors import (
    BirderError,
    CollectionError,
    ConfigError,
    NoTextEncoderError,
    UnknownNameError,
    WrongModelError,
)
from birder.formats.import_embeddings import import_embeddings
from birder.registry import register_weights
from birder.weights.clip import load_clip

DATA = Path(__file__).parents[1] / "data"
CLIP = DATA / "openclip"
EXACT = ("--engine", "torch", "--precision", "fp32")  # the arithmetic of the whole model, to compare with it
app = typer.Typer()
app.command()(predict)
app.command()(embed)
app.command()(search)
app.command()(similar)


def run(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """What a command writes to standard output and standard error."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def name(*arguments: str | Path, code: int = 0) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("predict", *arguments, "--format", "json", code=code)[0])
    return rows


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and the collection of them by the image encoder of the tiny CLIP."""
    home = tmp_path_factory.mktemp("home")
    source = Image.open(DATA / "chelsea.png").convert("RGB")
    for i in range(8):
        folder = home / "photos" / ("cats" if i % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        source.crop((20 * i, 10 * i, 20 * i + 224, 10 * i + 224)).save(folder / f"{i}.png")
    convert(str(CLIP), home / "vit_s16_pn_tiny.pt")
    run("embed", home / "photos", "--in", home / "c.birder", "--model", home / "vit_s16_pn_tiny.pt", *EXACT)
    return home


@pytest.fixture
def own_registry() -> Iterator[None]:
    """Weights that a test registers are forgotten after it."""
    yield
    registry._tables.cache_clear()


@pytest.fixture
def collection(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home / "c.birder", tmp_path / "c.birder"))


@pytest.fixture(scope="module")
def tree(home: Path) -> Path:
    """A table like TreeOfLife's, for the tiny CLIP."""
    taxa = [["Animalia", "Chordata", f"C{i % 2}", f"O{i % 4}", f"F{i % 8}", f"G{i % 16}", f"s{i}"] for i in range(48)]
    (home / "txt_emb_species.json").write_text(json.dumps([[taxon, f"common {i}"] for i, taxon in enumerate(taxa)]))
    matrix = np.random.default_rng(0).standard_normal((32, 48)).astype(np.float32)
    np.save(home / "txt_emb_species.npy", matrix / np.linalg.norm(matrix, axis=0))
    return home / "txt_emb_species.npy"


def test_probabilities_are_those_of_the_reference(tmp_path: Path) -> None:
    texts = json.loads((CLIP / "texts.json").read_text())
    kept = [i for i, text in enumerate(texts) if text]
    (tmp_path / "names.txt").write_text("\n".join(texts[i] for i in kept))
    arguments = ("--model", CLIP, "--labels", tmp_path / "names.txt", "--template", "{}", "-k", "9")
    # The reference resized the whole image to the input, as Birder does; OpenCLIP's default would crop it.
    rows = name(DATA / "chelsea.png", *arguments)
    reference = np.load(CLIP / "reference.npz")["probabilities"][0]
    expected = {texts[i]: reference[i] / reference[kept].sum() for i in kept}
    assert {row["label"] for row in rows} == set(expected)
    for row in rows:
        assert row["score"] == pytest.approx(expected[row["label"]], abs=1e-5)
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)


def test_a_collection_is_named_without_its_image_files(home: Path, tree: Path, tmp_path: Path) -> None:
    arguments = ("--model", CLIP, "--labels", tree, "--rank", "genus", "-k", "3")
    from_photos = name(home / "photos", *arguments)
    assert len(from_photos) == 8 * 3
    os.rename(home / "photos", home / "away")  # noqa: PTH104
    try:
        stored = name("--in", home / "c.birder", *arguments)
    finally:
        os.rename(home / "away", home / "photos")  # noqa: PTH104
    key = lambda row: (row["path"], -row["score"])  # noqa: E731
    for a, b in zip(sorted(from_photos, key=key), sorted(stored, key=key), strict=True):
        assert a | {"score": 0} == b | {"score": 0}
        assert a["score"] == pytest.approx(b["score"], abs=1e-5)


@pytest.mark.usefixtures("own_registry")
def test_registered_weights_bring_their_text_encoder(home: Path, tree: Path, tmp_path: Path) -> None:
    # What the hub would give for vit_b16_pn_bioclip-v1, from this machine: the checkpoint, and the whole model.
    path = home / "vit_s16_pn_tiny.pt"
    (tmp_path / "w.toml").write_text(
        f'[weights.tiny_bioclip]\nnetwork = "vit_s16_pn"\npath = "{path}"\nopenclip = "{CLIP}"\n'
    )
    register_weights(tmp_path / "w.toml")
    shutil.copy(DATA / "chelsea.png", tmp_path / "wide.png")
    run("embed", tmp_path / "wide.png", "--in", tmp_path / "c.birder", "--model", "tiny_bioclip", *EXACT)
    (stored,) = name("--in", tmp_path / "c.birder", "--labels", tree, "-k", "1")
    (fresh,) = name(tmp_path / "wide.png", "--model", "tiny_bioclip", "--labels", tree, "-k", "1")
    assert fresh["species"] == stored["species"]
    assert fresh["score"] == pytest.approx(stored["score"], abs=1e-5)


@pytest.mark.slow
def test_ranks_subset_and_bins(home: Path, tree: Path, tmp_path: Path) -> None:
    photo = home / "photos" / "cats" / "1.png"
    species = name(photo, "--model", CLIP, "--labels", tree, "-k", "48")
    assert sum(row["score"] for row in species) == pytest.approx(1.0, abs=1e-5)
    for rank in ("genus", "order", "class"):
        for row in name(photo, "--model", CLIP, "--labels", tree, "--rank", rank, "-k", "48"):
            parts = [each["score"] for each in species if each[rank] == row[rank]]
            assert row["score"] == pytest.approx(sum(parts), abs=1e-5)
            assert "species" not in row
    (tmp_path / "s.csv").write_text("order\nO1\nO3\n")
    some = name(photo, "--model", CLIP, "--labels", tree, "--subset", tmp_path / "s.csv", "-k", "48")
    allowed = [row for row in species if row["order"] in ("O1", "O3")]
    assert [row["species"] for row in some] == [row["species"] for row in allowed]
    total = sum(row["score"] for row in allowed)
    np.testing.assert_allclose([r["score"] for r in some], [r["score"] / total for r in allowed], atol=1e-5)
    (tmp_path / "s.csv").write_text("order\nO1\nO77\n")
    with pytest.raises(UnknownNameError, match="'O77'"):
        run("predict", photo, "--model", CLIP, "--labels", tree, "--subset", tmp_path / "s.csv")

    (tmp_path / "bins.csv").write_text("label,bin\nowl,bird\nfox,mammal\ncrow,bird\n")
    each = {r["label"]: r["score"] for r in name(photo, "--model", CLIP, "--labels", "owl,fox,crow")}
    binned = {r["label"]: r["score"] for r in name(photo, "--model", CLIP, "--bins", tmp_path / "bins.csv")}
    assert binned == pytest.approx({"bird": each["owl"] + each["crow"], "mammal": each["fox"]}, abs=1e-5)


def test_a_table_of_taxa_is_written_as_its_text_type_says(home: Path, tmp_path: Path) -> None:
    photo = home / "photos" / "cats" / "1.png"
    (tmp_path / "t.csv").write_text(
        "genus,species,common_name\nPica,hudsonia,magpie\nStrix,aluco,tawny owl\nPica,pica,\n"
    )
    for text_type, texts in {
        "scientific": ["Pica hudsonia", "Strix aluco", "Pica pica"],
        "taxonomic+common": [
            "Pica hudsonia with common name magpie",
            "Strix aluco with common name tawny owl",
            "Pica pica",
        ],
    }.items():
        arguments = ("--labels", tmp_path / "t.csv", "--text-type", text_type)
        taxa = name(photo, "--model", CLIP, *arguments)
        (tmp_path / "names.txt").write_text("\n".join(texts))
        plain = name(photo, "--model", CLIP, "--labels", tmp_path / "names.txt")
        assert [row["score"] for row in taxa] == pytest.approx([row["score"] for row in plain], abs=1e-6)
        assert [row["species"] for row in taxa] == [row["label"].partition(" with")[0] for row in plain]
    genera = name(photo, "--model", CLIP, "--labels", tmp_path / "t.csv", "--rank", "genus")
    assert {row["genus"] for row in genera} == {"Pica", "Strix"}
    with pytest.raises(UnknownNameError, match="common name of Pica, Pica pica"):
        run("predict", photo, "--model", CLIP, "--labels", tmp_path / "t.csv", "--text-type", "common")
    with pytest.raises(UnknownNameError, match="scientific"):
        run("predict", photo, "--model", CLIP, "--labels", tmp_path / "t.csv", "--text-type", "scientifc")


def test_predictions_are_the_same_in_every_format(home: Path, tmp_path: Path) -> None:
    arguments = ("predict", home / "photos" / "cats", "--model", CLIP, "--labels", "owl,fox,crow", "-k", "2")
    rows = json.loads(run(*arguments, "--format", "json")[0])
    text = list(csv.DictReader(io.StringIO(run(*arguments, "--format", "csv")[0])))
    assert [row | {"score": float(row["score"])} for row in text] == rows
    for ending in ("parquet", "csv", "json"):
        out, _ = run(*arguments, "--to", tmp_path / f"names.{ending}")
        assert out == ""
    assert pq.read_table(tmp_path / "names.parquet").to_pylist() == rows
    assert json.loads((tmp_path / "names.json").read_text()) == rows
    table, _ = run(*arguments)
    assert all(row["label"] in table for row in rows)


def test_a_broken_image_is_reported_and_the_others_are_named(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "photos" / "cats" / "1.png", tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "clip.MP4").write_bytes(b"")  # what is in a folder is never left out silently
    arguments = ("predict", tmp_path, "--format", "json", "--model", CLIP, "--labels", "owl,fox")
    out, notes = run(*arguments, code=1)
    assert {Path(row["path"]).name for row in json.loads(out)} == {"good.png"}
    assert "bad.png" in notes
    assert "2 of 3 could not be read" in notes
    assert "clip.MP4: it is a video: embed it into a collection (birder embed)" in notes
    out, notes = run("predict", tmp_path, "--format", "json", "--like", home / "c.birder", code=1)
    assert {Path(row["path"]).name for row in json.loads(out)} == {"good.png"}
    assert "2 of 3 could not be read" in notes


def test_names_below_the_minimum_score_are_counted(home: Path) -> None:
    arguments = ("--model", CLIP, "--labels", "owl,fox,crow", "--min-score", "0.9")
    out, notes = run("predict", home / "photos", *arguments, "--format", "json")
    assert json.loads(out) == []
    assert "8 of 8 images have no name with a score of at least 0.9" in notes


def test_best_names_are_saved_beside_the_rows(collection: Path, tree: Path) -> None:
    before = Storage.open(collection).to_arrow().sort_by("uri")
    arguments = ("--in", collection, "--model", CLIP, "--labels", tree)
    rows = name(*arguments, "--rank", "genus", "-k", "1")
    out, notes = run("predict", *arguments, "--rank", "genus", "--save")
    assert out == ""
    assert "predicted_genus" in notes
    after = Storage.open(collection).to_arrow().sort_by("uri")
    assert after.select(before.column_names).equals(before)
    saved = after.column("predicted_genus").to_pylist()
    assert saved == [row["genus"] for row in sorted(rows, key=lambda row: row["path"])]
    assert after.column("predicted_score").to_pylist() == pytest.approx(
        [row["score"] for row in sorted(rows, key=lambda row: row["path"])]
    )
    assert set(after.column("predicted_by").to_pylist()) == {str(CLIP)}
    age = datetime.now(UTC) - min(after.column("predicted_at").to_pylist())
    assert timedelta() < age < timedelta(minutes=10)
    # By other names: what the ranks were is no longer what was predicted.
    run("predict", "--in", collection, "--model", CLIP, "--labels", "cat,dog", "--save")
    other = Storage.open(collection).to_arrow()
    assert set(other.column("predicted_label").to_pylist()) <= {"cat", "dog"}
    assert other.column("predicted_genus").null_count == 8
    # Once more, with no name good enough: what no longer holds goes.
    run("predict", *arguments, "--rank", "genus", "--save", "--min-score", "1.0")
    assert Storage.open(collection).to_arrow().column("predicted_genus").to_pylist() == [None] * 8


def test_unlabelled_rows_are_named_by_the_labelled_ones(collection: Path) -> None:
    opened = Storage.open(collection)
    rows = opened.to_arrow().select(["uri", "label"]).to_pylist()
    unknown = [row["uri"] for row in rows if row["uri"].endswith(("6.png", "7.png"))]
    opened.write_columns(pa.table({"uri": unknown, "label": pa.nulls(2, pa.string())}))
    named = name("--in", collection, "--like", collection, "-k", "1")
    assert {Path(row["path"]).name for row in named} == {"6.png", "7.png"}
    with pytest.raises(CollectionError, match="--hold-out"):
        run("predict", "--in", collection, "--like", collection, "--column", "uri")


def test_images_are_named_by_examples_as_rows_are(home: Path, collection: Path, tmp_path: Path) -> None:
    from_photos = {row["path"]: row for row in name(home / "photos", "--like", home / "c.birder", "-k", "1")}
    stored = {row["path"]: row for row in name("--in", collection, "--like", home / "c.birder", "-k", "1")}
    assert from_photos.keys() == stored.keys()
    for image, row in stored.items():
        assert from_photos[image]["label"] == row["label"]
        assert from_photos[image]["score"] == pytest.approx(row["score"], abs=1e-5)


def test_accuracy_counts_the_held_out_images(home: Path) -> None:
    out, notes = run("predict", "--like", home / "c.birder", "--hold-out", "0.5", "--format", "json", "-k", "1")
    rows = json.loads(out)
    assert len(rows) == 4  # two of each class
    right = sum(row["is"] == row["label"] for row in rows)
    assert f"Right: {right} of 4" in notes
    assert "with SimpleShot on label, vit_s16_pn_tiny among 2 classes with 4 examples" in notes


def test_another_model_is_refused(home: Path, tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "vit_b16_pn_other.pt"
    shutil.copy(DATA / "birder" / "vit_tiny_p16_pn_test.pt", other)
    run("embed", home / "photos", "--in", tmp_path / "other.birder", "--model", other, *EXACT)
    with pytest.raises(WrongModelError, match="not the model of"):
        run("predict", "--in", tmp_path / "other.birder", "--model", CLIP, "--labels", tree)
    with pytest.raises(CollectionError, match="two models cannot be compared"):
        run("predict", "--in", tmp_path / "other.birder", "--like", home / "c.birder")
    with pytest.raises(NoTextEncoderError, match="an image encoder alone.*--like"):
        run("predict", "--in", home / "c.birder", "--labels", tree)


def test_a_model_without_a_text_encoder_is_refused_with_those_that_have_one(home: Path) -> None:
    with pytest.raises(NoTextEncoderError, match=r"efficientnet_lite0_in1k has no text encoder.*bioclip-v1.*--like"):
        run("predict", home / "photos", "--rank", "genus", "--model", "efficientnet_lite0_in1k")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "a,b", "--rank", "genus"], "Plain labels have no ranks"),
        (["--labels", "a,b", "--text-type", "common"], "needs a table of taxa"),
        (["--labels", "a,a"], "'a' occurs twice"),
        (["--labels", "a,b", "--template", "photo"], "needs {} once"),
        (["--labels", "a,b", "--bins", "b.csv"], "either labels or bins"),
        ([], "No TreeOfLife text embeddings are published for"),
        (["--labels", "missing.csv"], "Cannot read missing.csv"),
    ],
)
def test_options_that_do_not_fit_are_errors(home: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(BirderError, match=message):
        run("predict", home / "photos", "--model", CLIP, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name images, or a collection"),
        (["a.jpg", "--in", "c"], "Name images, or a collection"),
        (["a.jpg", "--like", "c", "--labels", "a,b"], "leave out --labels"),
        (["a.jpg", "--column", "label"], "need --like"),
        (["a.jpg", "--save"], "name it with --in"),
        (["a.jpg", "--format", "parquet"], "needs a file"),
        (["a.jpg", "--like", "c", "--hold-out", "0.5"], "leave out IMAGE"),
    ],
)
def test_contradictory_options_are_explained(arguments: list[str], message: str) -> None:
    _, notes = run("predict", *arguments, code=2)
    assert message in " ".join(notes.replace("│", " ").split())


def test_examples_without_labels_or_images_are_refused(home: Path, collection: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="column 'labl'"):
        run("predict", home / "photos", "--like", collection, "--column", "labl")
    with pytest.raises(CollectionError, match="No rows of .* have a value in kingdom"):
        run("predict", home / "photos", "--like", collection, "--column", "kingdom")
    with pytest.raises(ConfigError, match="no images in"):
        (tmp_path / "none").mkdir()
        run("predict", tmp_path / "none", "--like", collection)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("file:///a/b%20c%23.jpg", "/a/b c#.jpg"),
        ("file:///a/shard.tar#b%20c.jpg", "/a/shard.tar#b c.jpg"),
        ("https://example.org/a.jpg", "https://example.org/a.jpg"),
        ("/a/b.jpg", "/a/b.jpg"),
    ],
)
def test_files_are_shown_by_their_path(key: str, shown: str) -> None:
    assert image_name(key) == shown


def test_naming_a_collection_runs_only_the_projection(home: Path) -> None:
    clip = load_clip(CLIP)
    opened = Storage.open(home / "c.birder")
    (batch, embeddings), *_ = opened.embedding_batches()
    weight = clip.net.image.get_parameter("classifier.weight").numpy()
    np.testing.assert_allclose(clip.project(torch.from_numpy(embeddings.copy())), embeddings @ weight.T, atol=1e-5)
    assert batch.num_rows == 8


@pytest.mark.slow
def test_imported_embeddings_are_named_and_searched_by_the_model_the_user_names(
    home: Path, tree: Path, tmp_path: Path
) -> None:
    clip = load_clip(CLIP)
    files = sorted((home / "photos").rglob("*.png"))
    features = np.stack([clip.encode_image(clip.transform(Image.open(file))[None]).numpy()[0] for file in files])
    pq.write_table(
        pa.table({"path": [str(file) for file in files], "emb": list(features)}), tmp_path / "theirs.parquet"
    )
    import_embeddings(tmp_path / "theirs.parquet", tmp_path / "c.birder", model=str(CLIP))
    import_embeddings(tmp_path / "theirs.parquet", tmp_path / "hub.birder", model="imageomics/bioclip-2")
    fresh = name(*files, "--model", CLIP, "--labels", tree, "-k", "1")
    out, said = run("predict", "--in", tmp_path / "c.birder", "--labels", tree, "-k", "1", "--format", "json")
    assert "were made elsewhere" in said
    # On the hub's name too, where the user has the model in a folder; another name on the hub is another model.
    others = name("--in", tmp_path / "hub.birder", "--model", CLIP, "--labels", tree, "-k", "1")
    for rows in (json.loads(out), others):
        assert [row["species"] for row in rows] == [row["species"] for row in fresh]
        assert [row["score"] for row in rows] == pytest.approx([row["score"] for row in fresh], abs=1e-5)
    with pytest.raises(CollectionError, match="embeddings by imageomics/bioclip-2, not hf-hub:imageomics/b"):
        run("predict", "--in", tmp_path / "hub.birder", "--model", "hf-hub:imageomics/bioclip", "--labels", tree)
    out, said = run("similar", files[3], "--in", tmp_path / "c.birder", "--format", "json")
    assert "were made elsewhere" in said and len(json.loads(out)) == len(files) - 1
    out, said = run("search", "--image", files[3], tmp_path / "hub.birder", "--model", CLIP, "--format", "json")
    assert "were made elsewhere" in said and len(json.loads(out)) == len(files) - 1
    found = run("search", "--text", "a cat", tmp_path / "c.birder", "--format", "json")[0]
    words = clip.encode_text(["a cat"], normalize=True).numpy()[0]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert json.loads(found)[0]["path"] == str(files[int(np.argmax(unit @ words))])
    narrow = pa.table({"path": ["a.jpg"], "emb": pa.array([[1.0, 2.0]], pa.list_(pa.float32()))})
    pq.write_table(narrow, tmp_path / "narrow.parquet")
    import_embeddings(tmp_path / "narrow.parquet", tmp_path / "n.birder", model=str(CLIP))
    with pytest.raises(CollectionError, match="holds 2-dimensional embeddings"):
        run("predict", "--in", tmp_path / "n.birder", "--labels", tree)
