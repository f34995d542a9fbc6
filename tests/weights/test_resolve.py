"""What a user's word for a model means: one answer, wherever it is asked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import birder
from birder import registry
from birder.collection.model import load_encoder
from birder.errors import BirderError, NoTextEncoderError, UnknownNameError, WeightsError
from birder.naming.inputs import image_features
from birder.registry import registered_name, weights_spec
from birder.weights.checkpoint import write_checkpoint
from birder.weights.openclip import read_openclip
from birder.weights.openclip_convert import to_birder
from birder.weights.resolve import Kind, resolve
from tests.hub import Hub

DATA = Path(__file__).parents[1] / "data"
CLIP = DATA / "openclip"
FILES = ("open_clip_config.json", "open_clip_model.safetensors")


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    registry._tables.cache_clear()
    yield
    registry._tables.cache_clear()


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("vit_b16_pn_bioclip-v1", "vit_b16_pn_bioclip-v1"),
        ("imageomics/bioclip", "vit_b16_pn_bioclip-v1"),
        ("hf-hub:imageomics/bioclip", "vit_b16_pn_bioclip-v1"),
        ("hf-hub:imageomics/bioclip-2", "vit_l14_pn_bioclip-v2"),
        ("hf-hub:imageomics/bioclip-2.5-vith14", "vit_h14_pn_bioclip-v25"),
        ("hf-hub:birder-project/vit_b16_pn_biotrove-clip-o", "vit_b16_pn_biotrove-clip-o"),
        ("birder-project/vit_l14_pn_bioclip-v2", "vit_l14_pn_bioclip-v2"),
        ("hf-hub:someone/model", None),
        ("hf-hub:", None),
        ("", None),
    ],
)
def test_every_spelling_of_registered_weights_is_the_same_model(word: str, name: str | None) -> None:
    assert registered_name(word) == name
    if name is None:
        with pytest.raises(UnknownNameError, match="pretrained weights"):
            birder.load_pretrained_model(word)
    else:
        assert weights_spec(word).name == name
        model = resolve(word)
        assert model == resolve(name)
        assert (model.kind, model.name, model.source) == (Kind.registered, name, name)
        assert model.pinned_sha256 == weights_spec(name).sha256
        assert model.network == weights_spec(name).network


def test_kinds_of_models(tmp_path: Path) -> None:
    hub = resolve("hf-hub:someone/model")
    assert hub == resolve("someone/model")
    assert (hub.kind, hub.name, hub.network, hub.has_text_encoder, hub.has_classes) == (
        Kind.hub, "someone/model", None, True, False,
    )  # fmt: skip
    folder = resolve(f"local-dir:{CLIP}")
    assert folder == resolve(CLIP)
    assert (folder.kind, folder.source, folder.has_text_encoder) == (Kind.folder, str(CLIP), True)
    assert folder.image_encoder_is_here()
    assert folder.text_encoder_is_here()
    shutil.copy(DATA / "birder" / "vit_tiny_p16_pn_test.pt", tmp_path / "vit_b16_pn_mine.pt")
    file = resolve(tmp_path / "vit_b16_pn_mine.pt")
    assert (file.kind, file.name, file.network) == (Kind.file, "vit_b16_pn_mine", "vit_b16_pn")
    assert (file.has_text_encoder, file.has_classes, file.text_encoder_is_here()) == (False, None, False)
    assert resolve(file) is file
    default = resolve("efficientnet_lite0_in1k")
    assert (default.has_text_encoder, default.has_classes, default.image_encoder_is_here()) == (False, True, True)


@pytest.mark.parametrize(
    ("word", "error", "message"),
    [
        ("vit_b16_pn_bioclip", UnknownNameError, "Did you mean.*vit_b16_pn_bioclip-v1"),
        ("folder/vit_b16_pn_missing.pt", UnknownNameError, "Unknown model"),
        ("hf-hub:laion", WeightsError, "OWNER/NAME"),
        ("hf-hub:a/b/c", WeightsError, "OWNER/NAME"),
        (str(DATA / "chelsea.png"), WeightsError, "not a checkpoint in the Birder format"),
    ],
)
def test_words_that_do_not_name_a_model_are_refused(word: str, error: type[BirderError], message: str) -> None:
    with pytest.raises(error, match=message):
        resolve(word)


def test_image_encoders_without_a_text_encoder_say_so_by_their_class(tmp_path: Path) -> None:
    shutil.copy(DATA / "birder" / "vit_tiny_p16_pn_test.pt", tmp_path / "vit_b16_pn_mine.pt")
    for word, why in {
        "efficientnet_lite0_in1k": "efficientnet_lite0_in1k has no text encoder",
        "vit_b16_pn_biotrove-clip-o": "published as a bare checkpoint",
        str(tmp_path / "vit_b16_pn_mine.pt"): "name the model that it came from",
    }.items():
        for load in (birder.load_clip, birder.get_tokenizer, lambda word: resolve(word).load_clip()):
            with pytest.raises(NoTextEncoderError, match=f"{why}.*vit_b16_pn_bioclip-v1"):
                load(word)


def test_users_weights_name_their_clip_model(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "w.toml").write_text(
        '[weights.a]\nnetwork = "vit_b16_pn"\npath = "a.pt"\nopenclip = "clip"\n'
        '[weights.b]\nnetwork = "vit_b16_pn"\npath = "b.pt"\nopenclip = "someone/clip"\n'
    )
    birder.register_weights(tmp_path / "w.toml")
    assert resolve("a").text_encoder() == str((tmp_path / "clip").resolve())
    assert resolve("hf-hub:someone/clip").name == "b"
    assert resolve("b").text_encoder() == "someone/clip"


def test_a_label_set_that_is_not_registered_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text('[weights.a]\nnetwork = "vit_b16_pn"\npath = "a.pt"\nlabel_set = "TreeOfLife"\n')
    with pytest.raises(UnknownNameError, match="label set 'TreeOfLife'. Did you mean TreeOfLife-"):
        birder.register_weights(tmp_path / "w.toml")


NO_TORCH = """
import sys
from birder.weights.resolve import resolve
words = ["vit_b16_pn_bioclip-v1", "hf-hub:imageomics/bioclip-2", "someone/model", *sys.argv[1:]]
print([model.name for model in map(resolve, words)])
print([model.image_encoder_is_here() for model in map(resolve, words)])
assert not {"torch", "openvino", "safetensors"} & set(sys.modules), "too much is imported"
"""


def test_resolving_imports_no_torch_and_fetches_nothing(tmp_path: Path, hub: Hub) -> None:
    shutil.copy(DATA / "birder" / "vit_tiny_p16_pn_test.pt", tmp_path / "vit_b16_pn_mine.pt")
    command = [sys.executable, "-c", NO_TORCH, str(CLIP), str(tmp_path / "vit_b16_pn_mine.pt")]
    done = subprocess.run(command, env=hub.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "[False, False, False, True, True]"
    assert not hub.requests


class Spellings(NamedTuple):
    """Words that all name the tiny CLIP's weights."""

    words: list[str]


@pytest.fixture
def spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spellings:
    """The tiny CLIP as registered weights, two hub repositories, a folder, and a file; the hub's cache has both."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    network, checkpoint = to_birder(read_openclip(CLIP))
    file = write_checkpoint(tmp_path / f"{network}_tiny.safetensors", checkpoint)
    repositories = {
        "someone/tiny": [CLIP / name for name in FILES],
        "another/tiny": [CLIP / name for name in FILES],
        "someone/tiny-image": [file],
    }
    for repository, files in repositories.items():
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("c" * 40)
        (folder / "snapshots" / ("c" * 40)).mkdir(parents=True)
        for each in files:
            shutil.copy(each, folder / "snapshots" / ("c" * 40))
    (tmp_path / "w.toml").write_text(
        f'[weights.tiny]\nnetwork = "{network}"\nrepository = "someone/tiny-image"\nfile = "{file.name}"\n'
        'openclip = "someone/tiny"\n'
    )
    birder.register_weights(tmp_path / "w.toml")
    words = ["tiny", "someone/tiny", "hf-hub:someone/tiny", "someone/tiny-image", "another/tiny", str(CLIP), str(file)]
    return Spellings(words)


def test_embeddings_are_equal_bit_for_bit_however_the_weights_are_spelled(spellings: Spellings) -> None:
    photo = DATA / "chelsea.png"  # 451 x 300: cropping it and resizing it as a whole differ
    found = [load_encoder(word, engine="torch", precision="fp32").embed_one(photo) for word in spellings.words]
    for embedding in found[1:]:
        np.testing.assert_array_equal(embedding, found[0])
    features = []
    for word in spellings.words:
        if resolve(word).has_text_encoder:
            clip = resolve(word).load_clip()
            ((_, vectors),) = image_features([str(photo)], clip, lambda *_: None)
            features.append(vectors[0])
    assert len(features) == 6
    for vector in features[1:]:
        np.testing.assert_array_equal(vector, features[0])
    projected = clip.project(torch.from_numpy(found[0])[None]).numpy()[0]
    np.testing.assert_allclose(projected, features[0], rtol=0, atol=1e-5)


def test_a_collection_knows_its_model_by_every_spelling_of_its_name(spellings: Spellings) -> None:
    cards = {word: load_encoder(word, engine="torch", precision="fp32").card for word in spellings.words}
    registered = [cards[word] for word in ("tiny", "someone/tiny", "hf-hub:someone/tiny", "someone/tiny-image")]
    assert all(card == registered[0] for card in registered)
    assert {card.transform["simple_crop"] for card in cards.values()} == {False}
    assert cards["another/tiny"].sha256 == cards[str(CLIP)].sha256
    assert cards[str(CLIP)].source == str(CLIP)


CHILD = """
import sys
import birder
from birder.weights.openclip import read_openclip
from birder.weights.resolve import resolve
whole, image, photo, collection = sys.argv[1:]
print(birder.load_clip(f"hf-hub:{whole}").name, birder.load_clip(whole).name, birder.load_clip(f"hf-hub:{image}").name)
print(read_openclip(f"hf-hub:{whole}").source, resolve(f"hf-hub:{whole}").name, resolve(image).name)
print(birder.load_pretrained_model(f"hf-hub:{image}", inference=True)[0].network)
from birder.cli import app
for arguments in (["embed", photo, "--in", collection], ["similar", photo, "--in", collection]):
    app(arguments + (["--model", f"hf-hub:{whole}"] if arguments[0] == "embed" else []), standalone_mode=False)
print(birder.open_collection(collection).model.source)
app(["info", f"hf-hub:{whole}"], standalone_mode=False)
app(["fetch", f"hf-hub:{whole}"], standalone_mode=False)
app(["convert", f"hf-hub:{whole}", "--to", f"{collection}/vit_s16_pn_again.pt"], standalone_mode=False)
app(["embed", photo, "--in", collection, "--model", f"hf-hub:{image}"], standalone_mode=False)
"""


@pytest.mark.slow
def test_hf_hub_before_a_repository_is_understood_everywhere(hub: Hub, tmp_path: Path) -> None:
    network, checkpoint = to_birder(read_openclip(CLIP))
    path = write_checkpoint(tmp_path / "tiny.pt", checkpoint)
    served = hub.add("someone/tiny-image", "tiny.pt", path)
    for name in FILES:
        hub.add("someone/tiny", name, CLIP / name)
    table = tmp_path / "w.toml"
    table.write_text(
        f'[weights.tiny_image]\nnetwork = "{network}"\nrepository = "someone/tiny-image"\nfile = "tiny.pt"\n'
        f'sha256 = "{served.sha256}"\nopenclip = "someone/tiny"\n'
    )
    arguments = ["someone/tiny", "someone/tiny-image", DATA / "chelsea.png", tmp_path / "c.birder"]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        env=hub.env | {"BIRDER_WEIGHTS": str(table)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "tiny_image tiny_image tiny_image"
    assert lines[1] == "someone/tiny tiny_image tiny_image"
    assert lines[2] == network
    assert "tiny_image" in lines[3:]  # the collection's model is known by its registered name
    assert "Nothing to do (1 row, model tiny_image)" in done.stderr
