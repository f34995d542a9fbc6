"""Patch tokens beside the embeddings: those that the network gives, kept through every way into a collection."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from birder.cli import app
from birder.collection.model import Encoder, load_encoder
from birder.collection.search import search
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError
from birder.images.open import open_image
from birder.inference.engine import open_engine
from birder.pipeline.embed import embed_images, plan
from birder.sources import find_images, uri_to_path
from birder.weights.resolve import resolve

DATA = Path(__file__).parents[1] / "data"
SHAPE = (14, 14, 48)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "vit_b16_pn_tiny.pt"
    path.write_bytes((DATA / "birder" / "vit_tiny_p16_pn_test.pt").read_bytes())
    return path


@pytest.fixture(scope="module")
def encoder(checkpoint: Path) -> Encoder:
    return load_encoder(str(checkpoint), "cpu", draft=False, precision="fp32", patches=True)


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for path in sorted((photos / "birds").glob("*.jpg"))[:5]:
        shutil.copy(path, tmp_path / "photos")
    return tmp_path


def run(folder: Path, encoder: Encoder) -> Storage:
    collection = Storage.create_or_open(folder / "c.birder", encoder.card)
    todo = plan(collection, find_images([folder / "photos"]))
    embed_images(collection, encoder.engine, encoder.transform, todo, draft=False)
    return collection


def by_uri(collection: Storage) -> dict[str, np.ndarray]:
    return {row["uri"]: np.array(row["patches"], "f2") for row in collection.to_arrow().to_pylist()}


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_an_engine_gives_the_published_tokens(checkpoint: Path, engine: str) -> None:
    published = np.load(DATA / "birder" / "vit_tiny_p16_pn_test.npz")
    opened = open_engine(resolve(str(checkpoint)), engine=engine, precision="fp32", device="cpu", patches=True)
    from birder.images.transform import classification_transform

    pixels = classification_transform(opened.engine.size, opened.rgb_stats).to_uint8(open_image(DATA / "chelsea.png"))
    batch = np.stack([pixels] * 5)
    embeddings, patches = opened.engine.embed_with_patches(batch)
    assert opened.engine.patches == SHAPE
    assert (str(embeddings.dtype), str(patches.dtype), patches.shape) == ("float32", "float16", (5, *SHAPE))
    tokens = np.repeat(published["tokens"], 5, axis=0)
    np.testing.assert_allclose(embeddings, tokens[:, 0], atol=1e-5)
    np.testing.assert_allclose(patches, tokens[:, 1:].reshape(5, *SHAPE), atol=2e-3, rtol=1e-3)
    np.testing.assert_array_equal(opened.engine.embed(batch), embeddings)


def test_rows_hold_the_map_for_detectors(folder: Path, encoder: Encoder, checkpoint: Path) -> None:
    collection = run(folder, encoder)
    assert collection.model.patches == list(SHAPE)
    net = resolve(str(checkpoint)).load_image_encoder().net
    kept = by_uri(collection)
    assert len(kept) == 5
    for uri, patches in kept.items():
        with torch.inference_mode():
            maps = net.detection_features(encoder.transform(open_image(uri_to_path(uri)))[None])
        neck = maps["neck"][0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(patches.reshape(SHAPE), neck, atol=4e-3, rtol=2e-3)


def test_copies_and_a_later_run_have_patch_tokens_too(folder: Path, encoder: Encoder) -> None:
    before = by_uri(run(folder, encoder))
    first = next(iter(sorted((folder / "photos").iterdir())))
    shutil.copy(first, folder / "photos" / "copy.jpg")
    after = by_uri(run(folder, encoder))
    assert len(after) == 6
    assert all(np.array_equal(after[uri], patches) for uri, patches in before.items())
    copy = next(uri for uri in after if uri.endswith("copy.jpg"))
    assert np.array_equal(after[copy], after[copy.replace("copy.jpg", first.name)])


def test_rows_with_and_without_patch_tokens_do_not_mix(folder: Path, encoder: Encoder, checkpoint: Path) -> None:
    run(folder, encoder)
    without = load_encoder(str(checkpoint), "cpu", draft=False, precision="fp32")
    with pytest.raises(CollectionError, match="made with patch tokens"):
        run(folder, without)


def test_a_network_without_patch_tokens_says_so() -> None:
    with pytest.raises(ConfigError, match="no patch tokens"):
        load_encoder("efficientnet_lite0_in1k", "cpu", precision="fp32", patches=True)


def test_search_does_not_read_patch_tokens(folder: Path, encoder: Encoder) -> None:
    collection = run(folder, encoder)
    nearest = search(collection, vectors=[np.ones(48, np.float32)], k=1).to_list()
    assert "patches" not in nearest[0] and "uri" in nearest[0]
    found = search(collection, vectors=[np.ones(48, np.float32)], k=1).to_list()
    assert "patches" not in found[0] and found[0]["uri"] == nearest[0]["uri"]


def test_the_command_reports_the_size_of_patch_tokens_and_goes_on(folder: Path, checkpoint: Path) -> None:
    photos, to = str(folder / "photos"), str(folder / "cli.birder")
    done = CliRunner().invoke(
        app, ["embed", photos, "--in", to, "--model", str(checkpoint), "--features", "patches", "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    assert "Patch tokens: 14 x 14 x 48 values of 2 bytes, 18 KiB an image: 5 take 0.00 GB" in done.stderr
    shutil.copy(DATA / "chelsea.png", folder / "photos")
    again = CliRunner().invoke(app, ["embed", photos, "--in", to, "--device", "cpu"])
    assert again.exit_code == 0, again.output
    assert len(by_uri(Storage.open(to))) == 6
