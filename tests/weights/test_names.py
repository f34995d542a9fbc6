"""What a user calls a model: one answer, wherever it is asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import birder
from birder import registry
from birder.errors import UnknownNameError, WeightsError
from birder.registry import registered_name, weights_spec
from birder.weights.checkpoint import write_checkpoint
from birder.weights.find import find_model, pinned_sha256
from birder.weights.openclip import openclip_repository, read_openclip
from birder.weights.openclip_convert import to_birder
from tests.hub import Hub

DATA = Path(__file__).parents[1] / "data"


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
def test_names_of_registered_weights(word: str, name: str | None) -> None:
    assert registered_name(word) == name
    assert pinned_sha256(word) == (None if name is None else weights_spec(name).sha256)
    if name is None:
        with pytest.raises(UnknownNameError, match="pretrained weights"):
            birder.load_pretrained_model(word)
    else:
        assert weights_spec(word).name == name


def test_a_repository_that_is_not_registered_says_how_to_convert_it() -> None:
    with pytest.raises(WeightsError, match=r"birder convert laion/CLIP-x NETWORK_NAME\.safetensors"):
        find_model("hf-hub:laion/CLIP-x")
    with pytest.raises(WeightsError, match="OWNER/NAME"):
        birder.load_clip("hf-hub:laion")


def test_users_weights_name_their_whole_model(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "w.toml").write_text(
        '[weights.a]\nnetwork = "vit_b16_pn"\npath = "a.pt"\nopenclip = "clip"\n'
        '[weights.b]\nnetwork = "vit_b16_pn"\npath = "b.pt"\nopenclip = "someone/clip"\n'
    )
    birder.register_weights(tmp_path / "w.toml")
    assert openclip_repository(weights_spec("a")) == str((tmp_path / "clip").resolve())
    assert openclip_repository(weights_spec("hf-hub:someone/clip")) == "someone/clip"
    with pytest.raises(WeightsError, match=r"has no text half.*vit_b16_pn_bioclip-v1"):
        openclip_repository(weights_spec("efficientnet_lite0_in1k"))


CHILD = """
import sys
import birder
from birder.weights.find import find_model
from birder.weights.openclip import read_openclip
whole, image, photo, collection = sys.argv[1:]
print(birder.load_clip(f"hf-hub:{whole}").name, birder.load_clip(whole).name, birder.load_clip(f"hf-hub:{image}").name)
print(read_openclip(f"hf-hub:{whole}").source, find_model(f"hf-hub:{whole}").name, find_model(image).name)
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
    network, checkpoint = to_birder(read_openclip(DATA / "openclip"))
    path = write_checkpoint(tmp_path / "tiny.pt", checkpoint)
    served = hub.add("someone/tiny-image", "tiny.pt", path)
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        hub.add("someone/tiny", name, DATA / "openclip" / name)
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
    assert lines[0] == "someone/tiny someone/tiny tiny_image"
    assert lines[1] == "someone/tiny tiny_image tiny_image"
    assert lines[2] == network
    assert "tiny_image" in lines[3:]  # the collection's model is known by its registered name
    assert "Nothing to do (1 rows, model tiny_image)" in done.stderr
