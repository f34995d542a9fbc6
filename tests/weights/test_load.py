"""Weights by name: the registry, the hub, and what happens when either disappoints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import birder
from birder import registry
from birder.errors import BirderError, ConfigError, HubError, UnknownNameError, WeightsError
from birder.weights.hub import fetch, sha256_of
from birder.weights.resolve import resolve
from tests.hub import Hub

DATA = Path(__file__).parents[1] / "data" / "birder"
TINY = DATA / "vit_tiny_p16_pn_test.pt"


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    """Each test has the registry as it is at start."""
    registry._tables.cache_clear()
    yield
    registry._tables.cache_clear()


def weights_table(path: Path, /, **entry: object) -> Path:
    lines = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in entry.items()
    ]
    path.write_text("[weights.vit_b16_pn_mine]\n" + "\n".join(lines), "utf-8")
    return path


def python(code: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)


LOAD = """
import birder
from birder.errors import BirderError
try:
    net, info = birder.load_pretrained_model("vit_b16_pn_mine", inference=True)
except BirderError as error:
    print(type(error).__name__, error)
else:
    print("loaded", net.embedding_size, birder.get_size_from_signature(info.signature))
"""

FETCH = """
from birder.errors import BirderError
from birder.registry import weights_spec
from birder.weights.hub import fetch
try:
    print("fetched", fetch(weights_spec("vit_b16_pn_mine")))
except BirderError as error:
    print(type(error).__name__, error)
"""


def test_registered_names_are_listed() -> None:
    names = birder.list_pretrained_models()
    assert names == sorted(names)
    assert {"vit_b16_pn_bioclip-v1", "efficientnet_lite0_in1k", "vit_h14_pn_bioclip-v25"} <= set(names)
    assert birder.list_pretrained_models("*bioclip*") == [n for n in names if "bioclip" in n]
    assert birder.list_pretrained_models(task="image_classification") == names
    assert birder.list_pretrained_models(task="object_detection") == []


def test_an_unknown_name_is_refused_with_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="vit_b16_pn_bioclip-v1"):
        birder.load_pretrained_model("vit_b16_bioclip-v1")


def test_user_weights_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine.pt").write_bytes(TINY.read_bytes())
    table = weights_table(
        tmp_path / "weights.toml", network="vit_b16_pn", path="files/mine.pt", sha256=sha256_of(TINY), license="CC0-1.0"
    )
    assert birder.register_weights(table) == ["vit_b16_pn_mine"]
    net, info, transform = birder.load_pretrained_model_and_transform("vit_b16_pn_mine")
    assert net.embedding_size == 48
    assert transform.size == (224, 224)
    assert info.custom_config is not None and info.custom_config["num_layers"] == 3
    copied = tmp_path / "elsewhere" / "copy.pt"
    birder.load_pretrained_model("vit_b16_pn_mine", dst=copied)
    assert copied.read_bytes() == TINY.read_bytes()


def test_wrong_checksum_of_a_users_own_file_keeps_the_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.pt"
    mine.write_bytes(TINY.read_bytes())
    birder.register_weights(weights_table(tmp_path / "t.toml", network="vit_b16_pn", path="mine.pt", sha256="0" * 64))
    with pytest.raises(WeightsError, match="its sha256 is"):
        birder.load_pretrained_model("vit_b16_pn_mine")
    assert mine.exists()


def test_a_checked_file_is_checked_again_when_it_changed(tmp_path: Path) -> None:
    mine = tmp_path / "mine.pt"
    mine.write_bytes(TINY.read_bytes())
    birder.register_weights(
        weights_table(tmp_path / "t.toml", network="vit_b16_pn", path="mine.pt", sha256=sha256_of(TINY))
    )
    spec = registry.weights_spec("vit_b16_pn_mine")
    assert fetch(spec) == mine
    mine.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="sha256"):
        fetch(spec)


@pytest.mark.parametrize(
    ("entry", "error", "match"),
    [
        ({"network": "vit_b99", "path": "x.pt"}, UnknownNameError, "vit_b16"),
        ({"network": "vit_b16_pn"}, ConfigError, "source"),
        ({"network": "vit_b16_pn", "path": "x.pt", "repository": "a/b"}, ConfigError, "exactly one source"),
        ({"network": "vit_b16_pn", "repository": "a/b"}, ConfigError, "file"),
        ({"network": "vit_b16_pn", "path": "x.pt", "licence": "MIT"}, UnknownNameError, "license"),
        ({"path": "x.pt"}, ConfigError, "network"),
    ],
)
def test_bad_tables_are_birder_errors(
    tmp_path: Path, entry: dict[str, Any], error: type[BirderError], match: str
) -> None:
    with pytest.raises(error, match=match):
        birder.register_weights(weights_table(tmp_path / "t.toml", **entry))


def test_unreadable_tables_are_birder_errors(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="Cannot read"):
        birder.register_weights(tmp_path / "none.toml")
    (tmp_path / "empty.toml").write_text("x = 1")
    with pytest.raises(ConfigError, match=r"\[weights.NAME\]"):
        birder.register_weights(tmp_path / "empty.toml")


def test_unknown_and_unpublished_file_formats_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean pt"):
        birder.load_pretrained_model("vit_b16_pn_bioclip-v1", file_format="pts")
    with pytest.raises(WeightsError, match=r"published as \.pt only"):
        birder.load_pretrained_model("vit_b16_pn_bioclip-v1", file_format="safetensors")


def test_a_local_file_is_a_model_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "vit_b16_pn_mine.pt"
    path.write_bytes(TINY.read_bytes())
    model = resolve(path).load_image_encoder()
    assert (model.name, model.network, model.sha256) == ("vit_b16_pn_mine", "vit_b16_pn", sha256_of(TINY))
    assert model.transform().size == (224, 224)
    nameless = path.rename(tmp_path / "mine.pt")
    with pytest.raises(WeightsError, match="begin the file's name"):
        resolve(nameless).load_image_encoder()
    with pytest.raises(UnknownNameError, match="efficientnet_lite0_in1k"):
        resolve("efficientnet_lite_in1k").load_image_encoder()


@pytest.mark.slow
def test_fetched_once_then_offline(hub: Hub, tmp_path: Path) -> None:
    served = hub.add("someone/model", "mine.pt", TINY)
    table = weights_table(
        tmp_path / "t.toml", network="vit_b16_pn", repository="someone/model", file="mine.pt", sha256=served.sha256
    )
    env = hub.env | {"BIRDER_WEIGHTS": str(table)}
    first = python(LOAD, env)
    assert first.stdout == "loaded 48 (224, 224)\n", first.stderr
    asked = len(hub.requests)
    assert asked > 0
    assert python(FETCH, env).stdout.startswith("fetched")
    assert len(hub.requests) == asked  # the cached file is pinned by its checksum: nobody is asked again
    assert python(FETCH, env | {"HF_HUB_OFFLINE": "1"}).stdout.startswith("fetched")


def test_wrong_checksum_removes_the_download(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/model", "mine.pt", TINY)
    table = weights_table(
        tmp_path / "t.toml", network="vit_b16_pn", repository="someone/model", file="mine.pt", sha256="1" * 64
    )
    env = hub.env | {"BIRDER_WEIGHTS": str(table)}
    assert "WeightsError" in python(FETCH, env).stdout
    kept = [p for p in Path(env["HF_HOME"]).rglob("*") if p.is_file() and p.stat().st_size == TINY.stat().st_size]
    assert kept == []
    assert "HubError" in python(FETCH, env | {"HF_HUB_OFFLINE": "1"}).stdout


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        # The client asks again five times, waiting longer and longer.
        pytest.param({"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached", marks=pytest.mark.slow),
    ],
)
def test_hub_out_of_reach_says_how_to_place_the_file(hub: Hub, env: dict[str, str], why: str) -> None:
    said = python(FETCH.replace("vit_b16_pn_mine", "vit_b16_pn_bioclip-v1"), hub.env | env).stdout
    assert said.startswith("HubError"), said
    assert why in said
    assert 'dst="path/to/vit_b16_pn_bioclip-v1.pt"' in said
    assert "efficientnet_lite0_in1k works offline" in said


@pytest.mark.parametrize(
    ("served", "token", "said"),
    [
        ("other/model", None, "no repository someone/model"),
        ("someone/model", None, "has no file mine.pt"),
        ("someone/model", "secret", "accept its terms"),
    ],
)
def test_refusals_of_the_hub_say_what_to_do(
    hub: Hub, tmp_path: Path, served: str, token: str | None, said: str
) -> None:
    hub.add(served, "mine.pt" if token else "other.pt", b"x")
    hub.token = token
    table = weights_table(tmp_path / "t.toml", network="vit_b16_pn", repository="someone/model", file="mine.pt")
    result = python(FETCH, hub.env | {"BIRDER_WEIGHTS": str(table)})
    assert result.stdout.startswith("HubError"), result
    assert said in result.stdout


@pytest.mark.slow
def test_a_hand_placed_file_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    placed = tmp_path / "mine.pt"
    placed.write_bytes(TINY.read_bytes())
    table = weights_table(
        tmp_path / "t.toml", network="vit_b16_pn", repository="someone/model", file="mine.pt", sha256=sha256_of(TINY)
    )
    code = LOAD.replace('"vit_b16_pn_mine"', f'"vit_b16_pn_mine", dst={os.fspath(placed)!r}')
    assert python(code, hub.env | {"BIRDER_WEIGHTS": str(table)}).stdout == "loaded 48 (224, 224)\n"
    assert hub.requests == []


def test_every_error_is_a_birder_error() -> None:
    for error in (UnknownNameError, ConfigError, WeightsError, HubError):
        assert issubclass(error, BirderError)


def test_custom_config_reaches_the_network(tmp_path: Path) -> None:
    birder.register_weights(weights_table(tmp_path / "t.toml", network="vit_b16_pn", path=str(TINY)))
    net, info = birder.load_pretrained_model("vit_b16_pn_mine", custom_config={"out_indices": [0, 2]})
    x = np.zeros((1, 3, 224, 224), np.float32)
    import torch

    assert list(net.detection_features(torch.from_numpy(x))) == ["stage1", "stage2"]
    assert info.custom_config is not None and info.custom_config["out_indices"] == [0, 2]
