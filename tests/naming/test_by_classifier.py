"""Names by a classifier from a file: on stored embeddings nothing is encoded, and other backbones are refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import birder
from birder.collection import backbone as of_collection
from birder.collection.backbone import backbone_sha256_of, check_backbone, describe_backbone, load_backbone
from birder.collection.storage import Storage
from birder.errors import BirderError, CollectionError, ConfigError, NoTextEncoderError, WeightsError, WrongModelError
from birder.inference.classifier import Classifier
from birder.naming.by_classifier import backbone_told, is_classifier, names_by_classifier
from birder.weights.checkpoint import read_checkpoint, write_checkpoint
from birder.weights.head import save_head
from birder.weights.resolve import Weights, resolve
from tests.classifiers import CLASSES, SMALL, adaptation_of, head_of, network_file

DATA = Path(__file__).parents[1] / "data"
EXACT: dict[str, Any] = {"engine": "torch", "precision": "fp32", "exact": True}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, images, their collection, and a classifier as checkpoint (both kinds) and detached."""
    home = tmp_path_factory.mktemp("home")
    model = resolve(network_file(home / "vit_b16_pn_tiny.pt")).load_image_encoder()
    source = Image.open(DATA / "chelsea.png").convert("RGB")
    (home / "photos").mkdir()
    for i in range(6):
        source.crop((40 * i, 20 * i, 40 * i + 64, 20 * i + 64)).save(home / "photos" / f"{i}.png")
    collection, _ = birder.embed(home / "photos", home / "c.birder", str(home / "vit_b16_pn_tiny.pt"), **EXACT)
    adaptation = adaptation_of(model)
    vectors = collection.to_arrow(["embedding"])["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 32)
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    examples = np.rint(vectors[:2] / largest[:2] * 127).astype(np.int8)
    adaptation["unknown"] |= {"k": 1, "threshold": 1e-3}
    head = head_of(model, adaptation=adaptation, examples=examples)
    for name in ("owls.pt", "owls.safetensors"):
        save_head(home / name, head, model=model)
    save_head(home / "owls.safetensors", head, model=None)
    return home


@pytest.fixture
def collection(home: Path, tmp_path: Path) -> birder.Collection:
    return birder.open_collection(shutil.copytree(home / "c.birder", tmp_path / "c.birder"))


def embeddings(collection: birder.Collection) -> tuple[list[str], npt.NDArray[np.float32]]:
    table = collection.to_arrow(["uri", "embedding"]).sort_by("uri")
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 32)
    return table["uri"].to_pylist(), vectors


def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would encode an image, or load a network for it, fails."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a network is loaded, or an image decoded")

    for place in (
        "birder.naming.inputs.open_image",  # imported here, before what it takes over is replaced
        "birder.collection.model.open_engine",
        "birder.collection.model.open_image",
        "birder.weights.resolve.Weights.load",
        "birder.images.open.open_image",
    ):
        monkeypatch.setattr(place, fail)


@pytest.mark.parametrize("name", ["owls.pt", "owls.safetensors", "owls.head.safetensors"])
def test_rows_are_named_by_their_stored_embeddings(
    home: Path, collection: birder.Collection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(home / "photos", home / "away")  # the images need not even be there
    try:
        no_engine(monkeypatch)
        found = collection.predict(model=home / name, k=2, deepest=0.95, save=True)
        with pytest.raises(AssertionError, match="a network is loaded"):
            collection.predict(home / "away", model=home / name)
    finally:
        shutil.move(home / "away", home / "photos")
    uris, vectors = embeddings(collection)
    classifier = Classifier.load(home / name)
    indices, scores = classifier.top(vectors, 2)
    expected = {uri: [CLASSES[i] for i in row] for uri, row in zip(uris, indices, strict=True)}
    got: dict[str, list[str]] = {}
    for row in found:
        got.setdefault(row["uri"], []).append(row["label"])
    assert got == expected
    by_uri = {row["uri"]: row for row in found.ranked() if row["rank"] == 1}
    np.testing.assert_allclose([by_uri[uri]["score"] for uri in uris], scores[:, 0], rtol=1e-6)
    np.testing.assert_allclose([by_uri[uri]["unknown_score"] for uri in uris], classifier.unknown_score(vectors))
    assert [by_uri[uri]["unknown"] for uri in uris] == classifier.is_unknown(vectors).tolist()
    assert 0 < sum(row["unknown"] for row in by_uri.values()) < len(uris)
    assert [tuple(by_uri[uri]["set"]) for uri in uris] == classifier.sets(vectors)
    assert {(row["deepest"], row["deepest_rank"]) for row in by_uri.values()} == {("Strigiformes", "order")}
    assert found.table.schema.field("unknown").type == pa.bool_()
    assert (found.model, found.images, found.nameless) == (name, len(uris), 0)
    assert "3 classes (cross-validated accuracy 80.0%)" in found.choice
    # ... and in the rows
    saved = collection.to_arrow([*found.saved, "uri", "label"]).sort_by("uri").to_pylist()
    for row in saved:
        first = by_uri[row["uri"]]
        assert row["predicted_label"] == first["label"]
        assert row["predicted_unknown"] == first["unknown"]
        assert row["predicted_set"] == "; ".join(first["set"])
        assert (row["predicted_order"], row["predicted_species"]) == ("Strigiformes", None)
        assert (row["predicted_by"], row["predicted_sha256"]) == (name, found.sha256)
        assert row["predicted_at"] is not None
    assert collection.count("predicted_unknown = true") == sum(row["unknown"] for row in by_uri.values())


def test_a_later_run_takes_away_what_a_former_one_said(home: Path, collection: birder.Collection) -> None:
    collection.predict(model=home / "owls.pt", deepest=0.95, save=True)
    named = write_named(home, collection.path.parent)
    saved = collection.predict(model=named, save=True).saved
    assert "predicted_unknown" not in saved
    table = collection.to_arrow(["predicted_unknown", "predicted_order", "predicted_set", "predicted_by"])
    for name in ("predicted_unknown", "predicted_order", "predicted_set"):
        assert table[name].null_count == len(table)
    assert set(table["predicted_by"].to_pylist()) == {named.name}


def write_named(home: Path, folder: Path) -> Path:
    """The collection's network with class names, as another program would write it."""
    checkpoint = read_checkpoint(home / "vit_b16_pn_tiny.pt")
    names = {f"class {i}": i for i in range(5)}
    return write_checkpoint(folder / "vit_b16_pn_named.pt", replace(checkpoint, class_to_idx=names))


def test_any_checkpoint_with_class_names_on_the_same_backbone_will_do(
    home: Path, collection: birder.Collection, tmp_path: Path
) -> None:
    named = write_named(home, tmp_path)
    found = collection.predict(model=named, k=1)
    loaded = resolve(named).load_image_encoder()
    uris, vectors = embeddings(collection)
    with torch.inference_mode():
        expected = loaded.net.classify(torch.from_numpy(vectors.copy())).softmax(1).max(dim=1)
    by_uri = {row["uri"]: row for row in found}
    assert [by_uri[uri]["label"] for uri in uris] == [f"class {int(i)}" for i in expected.indices]
    np.testing.assert_allclose([by_uri[u]["score"] for u in uris], expected.values.numpy(), rtol=1e-5)
    assert set(found.table.column_names) == {"path", "uri", "label", "score"}


@pytest.mark.parametrize("name", ["owls.pt", "owls.safetensors"])
def test_images_are_named_as_the_rows_are(home: Path, collection: birder.Collection, name: str) -> None:
    rows = {row["uri"]: row for row in collection.predict(model=home / name, k=1)}
    for found in (
        birder.predict(home / "photos", model=home / name, k=1),
        collection.predict(home / "photos", model=home / name, k=1),
    ):
        assert len(found) == len(rows)
        for row in found:
            assert row["label"] == rows[row["uri"]]["label"]
            assert row["score"] == pytest.approx(rows[row["uri"]]["score"], abs=1e-4)
            assert row["unknown_score"] == pytest.approx(rows[row["uri"]]["unknown_score"], abs=1e-4)
    classes = birder.classify(sorted((home / "photos").iterdir()), model=str(home / name), k=1)
    assert [row["label"] for row in classes] == [rows[row["uri"]]["label"] for row in classes]


def test_a_detached_head_names_images_through_a_collection(home: Path, collection: birder.Collection) -> None:
    head = home / "owls.head.safetensors"
    found = collection.predict(home / "photos", model=head, k=1)
    assert len(found) == 6
    with pytest.raises(WeightsError, match="is not a model that Birder finds by this name"):
        birder.predict(home / "photos", model=head)
    with pytest.raises(WeightsError, match="is not a model that Birder finds by this name"):
        birder.classify([home / "photos" / "0.png"], model=str(head))


def test_another_backbone_is_refused_and_both_are_named(
    home: Path, collection: birder.Collection, tmp_path: Path
) -> None:
    other = resolve(network_file(tmp_path / "vit_b16_pn_other.pt", seed=9)).load_image_encoder()
    path = save_head(tmp_path / "others.safetensors", head_of(other), model=other)
    with pytest.raises(WrongModelError, match=r"others\.safetensors.*vit_b16_pn_other.*vit_b16_pn_tiny"):
        collection.predict(model=path)
    with pytest.raises(WrongModelError, match=r"vit_b16_pn_other.*vit_b16_pn_tiny"):
        collection.predict(home / "photos", model=path)
    wide = network_file(tmp_path / "vit_b16_pn_wide.pt", config=SMALL | {"hidden_dim": 64})
    model = resolve(wide).load_image_encoder()
    path = save_head(tmp_path / "wide.safetensors", head_of(model), model=model)
    with pytest.raises(WrongModelError, match="64-dimensional.*32-dimensional"):
        collection.predict(model=path)


def test_the_same_tensors_in_another_arithmetic_are_another_backbone(home: Path, collection: birder.Collection) -> None:
    told = describe_backbone(collection._storage)
    assert told["network"] == "vit_b16_pn"
    check_backbone(collection._storage, told | {"weights_sha256": None}, "owls")
    with pytest.raises(WrongModelError, match="owls was made for"):
        check_backbone(collection._storage, told | {"weights_sha256": None, "network": "vit_b16_pn_quick_gelu"}, "owls")


def test_collections_know_their_backbone(home: Path, collection: birder.Collection, tmp_path: Path) -> None:
    card = collection.model
    model = load_backbone(collection._storage)
    assert card.backbone_sha256 == adaptation_of(model)["backbone"]["sha256"]
    assert describe_backbone(collection._storage) == adaptation_of(model)["backbone"]
    # One that was made before the card had it: computed when it is needed.
    older = replace(card, backbone_sha256=None)
    assert older == card
    assert backbone_sha256_of(older) == card.backbone_sha256
    assert backbone_told(names_by_classifier(write_named(home, tmp_path)))["sha256"] == card.backbone_sha256


def test_an_older_collection_whose_weights_are_gone(
    home: Path, collection: birder.Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = collection._storage
    monkeypatch.setattr(of_collection, "resolved", lambda word: None)
    told = describe_backbone(storage)
    assert (told["network"], told["weights_sha256"]) == (None, storage.model.sha256)
    object.__setattr__(storage.model, "backbone_sha256", None)
    assert describe_backbone(storage)["sha256"] is None
    assert check_backbone(storage, told, "owls") == ()  # the file of weights is the same
    with pytest.raises(WrongModelError, match="Nothing shows that owls"):
        check_backbone(storage, told | {"weights_sha256": None}, "owls")
    with pytest.raises(CollectionError, match="--detached"):
        load_backbone(storage)


def test_a_replaced_file_of_weights_is_not_the_collections(
    home: Path, collection: birder.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Weights.__init__

    def other(self: Weights, *args: Any, **more: Any) -> None:
        real(self, *args, **more)
        object.__setattr__(self, "sha256", "f" * 64)

    monkeypatch.setattr(Weights, "__init__", other)
    with pytest.raises(CollectionError, match="not on this machine as"):
        load_backbone(collection._storage)


def test_imported_embeddings_are_told_by_the_name_of_their_model(home: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors = pa.FixedSizeListArray.from_arrays(random.normal(size=4 * 32).astype(np.float32), 32)
    pq.write_table(pa.table({"uri": [f"{n}.jpg" for n in range(4)], "embedding": vectors}), tmp_path / "e.parquet")
    imported = birder.import_file(tmp_path / "e.parquet", tmp_path / "i.birder", model="someone/model").collection
    storage = imported._storage
    told = describe_backbone(storage)
    assert (told["name"], told["sha256"], told["weights_sha256"]) == ("someone/model", None, None)
    with pytest.raises(CollectionError, match="were made elsewhere.*--detached"):
        load_backbone(storage)
    model = resolve(home / "vit_b16_pn_tiny.pt").load_image_encoder()
    head = head_of(model, adaptation=adaptation_of(model) | {"backbone": told})
    path = save_head(tmp_path / "theirs.safetensors", head, model=None)
    found = imported.predict(model=path, k=1)
    assert len(found) == 4
    assert "made elsewhere, with someone/model" in found.notes[0]
    with pytest.raises(WrongModelError, match=r"someone/model.*vit_b16_pn_tiny"):
        birder.open_collection(home / "c.birder").predict(model=path)
    with pytest.raises(WrongModelError, match=r"vit_b16_pn_tiny.*someone/model"):
        imported.predict(model=home / "owls.pt")


def test_options_that_do_not_go_with_a_classifier(home: Path, collection: birder.Collection, tmp_path: Path) -> None:
    path = home / "owls.pt"
    for refused, match in (
        ({"labels": ["owl"], "rank": "genus"}, "classes of its own: leave out labels"),
        ({"rank": "genus"}, "leave out rank"),
        ({"column": "label"}, "leave out model"),
        ({"deepest": 0.2}, "between 0.5 and 0.999"),
    ):
        with pytest.raises(ConfigError, match=match):
            collection.predict(model=path, **refused)
    with pytest.raises(ConfigError, match="name its file as the model"):
        collection.predict(deepest=0.9)
    with pytest.raises(ConfigError, match="name its file as the model"):
        birder.predict(home / "photos", deepest=0.9)
    with pytest.raises(ConfigError, match="leave out templates"):
        birder.predict(home / "photos", model=path, templates=["{}"])
    with pytest.raises(ConfigError, match="no ranks above its classes"):
        collection.predict(model=write_named(home, tmp_path), deepest=0.9)
    with pytest.raises(NoTextEncoderError):  # a checkpoint without class names is an image encoder, as before
        collection.predict(model=home / "vit_b16_pn_tiny.pt", labels=["owl"])


def test_what_is_a_classifier(home: Path, tmp_path: Path) -> None:
    assert is_classifier(home / "owls.pt")
    assert is_classifier(home / "owls.head.safetensors")
    assert is_classifier(write_named(home, tmp_path))
    assert not is_classifier(home / "vit_b16_pn_tiny.pt")
    assert not is_classifier(None)
    assert not is_classifier("efficientnet_lite0_in1k")
    assert not is_classifier("someone/model")
    (tmp_path / "cut.safetensors").write_bytes((home / "owls.safetensors").read_bytes()[:1000])
    with pytest.raises(BirderError, match=r"cut\.safetensors"):
        is_classifier(tmp_path / "cut.safetensors")


def test_a_collection_embedded_with_an_adapted_checkpoint_or_a_detached_head(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have the same backbone, and classifiers for one name the rows of the other."""
    collection, report = birder.embed(home / "photos", tmp_path / "a.birder", str(home / "owls.pt"), **EXACT)
    assert (report.embedded, collection.model.name) == (6, "owls")
    there = birder.open_collection(home / "c.birder")
    assert collection.model.backbone_sha256 == there.model.backbone_sha256
    rows = {row["uri"]: row["label"] for row in there.predict(model=home / "owls.safetensors", k=1)}
    assert {row["uri"]: row["label"] for row in collection.predict(model=home / "owls.safetensors", k=1)} == rows
    assert Storage.open(tmp_path / "a.birder").model.backbone_sha256 == there.model.backbone_sha256
