"""Checkpoints made to harm, or broken on their way: each is an error of ours that names the file, none takes long."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

import birder
from birder.cli import app
from birder.collection.model import load_encoder
from birder.errors import BirderError, ConfigError, WeightsError
from birder.pipeline.outcomes import UNUSABLE_EMBEDDING
from birder.weights.checkpoint import Checkpoint, read_checkpoint
from birder.weights.clip import load_clip
from birder.weights.resolve import resolve

DATA = Path(__file__).parents[1] / "data"
GOOD = read_checkpoint(DATA / "birder" / "vit_tiny_p16_pn_test.pt")
CONFIG: dict[str, Any] = dict(GOOD.config or {})
ENDINGS = pytest.mark.parametrize("ending", ["pt", "safetensors"])


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def laughing() -> list[Any]:
    """Ten levels of a hundred references to the level below: small in a pickle, endless to walk."""
    value: list[Any] = ["ha"]
    for _ in range(10):
        value = [value] * 100
    return value


def write(path: Path, **changes: Any) -> Path:
    """A checkpoint with some fields replaced by what no careful writer would put there."""
    fields = {f.name: getattr(GOOD, f.name) for f in dataclasses.fields(Checkpoint) if f.name != "network"} | changes
    if path.suffix == ".pt":
        torch.save(fields, path)
    else:
        state = {key: value.contiguous() for key, value in fields.pop("state").items()}
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()}
        safetensors.torch.save_file(state, path, metadata=texts)
    return path


def signature(shape: Any, outputs: Any = 32) -> dict[str, Any]:
    return {"inputs": [{"data_shape": shape}], "outputs": [{"data_shape": [0, outputs]}]}


STATS = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "huge sides": ({"signature": signature([0, 3, 10**9, 10**9])}, "which no network takes"),
    "sides beyond any integer": ({"signature": signature([0, 3, 10**400, 10**400])}, "which no network takes"),
    "no sides": ({"signature": signature([0, 3, 0, 224])}, "which no network takes"),
    "negative sides": ({"signature": signature([0, 3, -224, -224])}, "which no network takes"),
    "huge channels": ({"signature": signature([0, 10**12, 224, 224])}, "which no network takes"),
    "texts for sides": ({"signature": signature([0, 3, "224", "224"])}, "which no network takes"),
    "infinite sides": ({"signature": signature([0, 3, float("inf"), 224])}, "form"),
    "a text for a shape": ({"signature": signature("224x224")}, "form"),
    "huge outputs": ({"signature": signature([0, 3, 224, 224], 10**15)}, "which no network has"),
    "negative outputs": ({"signature": signature([0, 3, 224, 224], -1)}, "which no network has"),
    "other outputs": ({"signature": signature([0, 3, 224, 224], 10**8)}, "does not fit"),
    "a deep signature": ({"signature": nested(100)}, "form"),
    "a list for a signature": ({"signature": [1, 2]}, "form"),
    "a text as rgb_stats": ({"rgb_stats": {"mean": "none", "std": "imagenet"}}, "no list of numbers"),
    "rgb_stats that are a text": ({"rgb_stats": '"imagenet"'}, "no list of numbers"),
    "two numbers as mean": ({"rgb_stats": STATS | {"mean": [0.5, 0.5]}}, "2 numbers as 'mean', not 3"),
    "no numbers as std": ({"rgb_stats": STATS | {"std": []}}, "0 numbers as 'std', not 3"),
    "texts as std": ({"rgb_stats": STATS | {"std": ["a", "b", "c"]}}, "no list of numbers"),
    "a std of zero": ({"rgb_stats": STATS | {"std": [0.0, 0.2, 0.2]}}, "pixels cannot have"),
    "a mean that is none": ({"rgb_stats": STATS | {"mean": [float("nan")] * 3}}, "pixels cannot have"),
    "classes in a list": ({"class_to_idx": ["a", "b"]}, "class_to_idx"),
    "classes with texts": ({"class_to_idx": {"a": "b"}}, "class_to_idx"),
    "a deep config": ({"config": {"num_layers": nested(100)}}, "config"),
    "a list for a config": ({"config": [1]}, "config"),
    "a million layers": ({"config": CONFIG | {"num_layers": 1_000_000}}, "1,000"),
    "huge layers": ({"config": CONFIG | {"hidden_dim": 3 * 2**40, "mlp_dim": 2**42}}, "does not fit|can be built"),
    "texts in the config": ({"config": CONFIG | {"hidden_dim": "wide"}}, "can be built"),
    "an activation from nowhere": ({"config": CONFIG | {"act_layer_type": ["gelu"]}}, "act_layer_type|built"),
    "another task": ({"task": "object_tracking"}, "is for object_tracking, not for"),
    "a number that is none": (
        {"state": GOOD.state | {"norm.weight": torch.full_like(GOOD.state["norm.weight"], torch.nan)}},
        "norm.weight has values that are not finite",
    ),
    "one infinite number": (
        {"state": GOOD.state | {"norm.bias": torch.tensor([torch.inf, *[0.0] * 47])}},
        "norm.bias has values that are not finite",
    ),
}


@ENDINGS
@pytest.mark.parametrize("name", FIELDS)
def test_invalid_fields_of_a_checkpoint_are_refused(tmp_path: Path, name: str, ending: str) -> None:
    changes, match = FIELDS[name]
    path = write(tmp_path / f"vit_b16_pn_x.{ending}", **changes)
    with pytest.raises(BirderError, match=match) as error:
        resolve(path).load_image_encoder()
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 1000
    assert isinstance(error.value, WeightsError | ConfigError)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"state": [1, 2]}, "not a table of tensors"),
        ({"state": {"norm.weight": "a"}}, "not a table of tensors"),
        ({"state": GOOD.state | {"norm.weight": torch.zeros(1).expand(10**9)}}, "more values than the file contains"),
        ({"config": {"num_layers": laughing()}}, "config"),
        ({"config": {1: 2}}, "config"),
        ({"task": 7}, "task"),
        ({"network": ["vit_b16_pn"]}, "network"),
        ({"rgb_stats": {"mean": torch.zeros(3), "std": torch.ones(3)}}, "no list of numbers"),
    ],
)
def test_invalid_pickles_are_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    path = write(tmp_path / "vit_b16_pn_x.pt", **changes)
    with pytest.raises(WeightsError, match=match):
        resolve(path).load_image_encoder()


@pytest.mark.parametrize("field", ["signature", "class_to_idx", "rgb_stats", "config"])
def test_metadata_that_is_nested_too_deeply_is_refused(tmp_path: Path, field: str) -> None:
    path = write(tmp_path / "vit_b16_pn_x.safetensors", **{field: "[" * 200_000})
    with pytest.raises(WeightsError, match=f"{field}.*not JSON"):
        read_checkpoint(path)
    path = write(tmp_path / "vit_b16_pn_x.safetensors", **{field: "9" * 10_000})
    with pytest.raises(WeightsError, match="not JSON"):
        read_checkpoint(path)


def test_a_compressed_pickle_is_not_a_pytorch_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "vit_b16_pn_bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\0" * 10**8)
    with pytest.raises(WeightsError, match="compressed"):
        resolve(path).load_image_encoder()


READERS: dict[str, Callable[[Path], object]] = {
    "read_checkpoint": read_checkpoint,
    "resolve": resolve,
    "load_model": lambda path: birder.load_model("vit_b16_pn", path),
    "load_image_encoder": lambda path: resolve(path).load_image_encoder(),
}


@ENDINGS
@pytest.mark.parametrize("reader", READERS)
def test_a_folder_with_the_name_of_a_checkpoint_is_refused(tmp_path: Path, reader: str, ending: str) -> None:
    folder = tmp_path / f"vit_b16_pn_x.{ending}"
    folder.mkdir()
    with pytest.raises(WeightsError, match="is a folder"):
        READERS[reader](folder)


PIPE = """
import sys
from pathlib import Path
import birder
from birder.errors import BirderError
from birder.weights.checkpoint import read_checkpoint
from birder.weights.clip import load_clip
from birder.weights.resolve import resolve
for path in sys.argv[1:]:
    for read in (read_checkpoint, resolve, load_clip, lambda path: birder.load_model("vit_b16_pn", path)):
        try:
            read(path)
        except BirderError as error:
            print(error)
"""


@pytest.mark.slow
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    pipes = [tmp_path / f"vit_b16_pn_x.{ending}" for ending in ("pt", "safetensors")]
    for pipe in pipes:
        os.mkfifo(pipe)
    done = subprocess.run([sys.executable, "-c", PIPE, *pipes], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is a pipe or a device") == 8


@pytest.mark.slow
def test_the_command_line_reports_a_hostile_checkpoint_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "vit_b16_pn_x.safetensors", **FIELDS["a text as rgb_stats"][0])
    command: list[str | Path] = [sys.executable, "-m", "birder", "info", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    reason = "is damaged or in another format: its rgb_stats have no list of numbers"
    assert done.stderr.startswith(f"birder: {path} {reason}")
    assert "Traceback" not in done.stderr


def test_openclip_tensors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    for file in (DATA / "openclip").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "open_clip_model.safetensors"
    state = safetensors.torch.load_file(path)
    load_clip(tmp_path)
    for key in ("text_projection", "visual.proj"):
        safetensors.torch.save_file(state | {key: torch.full_like(state[key], torch.nan)}, path)
        with pytest.raises(WeightsError, match="not finite"):
            load_clip(tmp_path)


@pytest.mark.parametrize("cfg", [[1], {"name": "vit_b16_pn", "signature": {"inputs": []}}, {"signature": {}}])
def test_invalid_configurations_are_refused(tmp_path: Path, cfg: Any) -> None:
    path = tmp_path / "cfg.json"
    path.write_text(json.dumps(cfg))
    with pytest.raises(ConfigError, match="signature"):
        birder.load_model_with_cfg(path, None)
    path.write_text("[" * 200_000)
    with pytest.raises(ConfigError, match="Cannot read"):
        birder.load_model_with_cfg(path, None)


@pytest.mark.parametrize(
    "config",
    ["[" * 200_000, '{"model_cfg": {"embed_dim": 1, "vision_cfg": {}}, "preprocess_cfg": {"mean": "none"}}'],
)
def test_invalid_openclip_configurations_are_refused(tmp_path: Path, config: str) -> None:
    folder = DATA / "openclip"
    (tmp_path / "open_clip_model.safetensors").write_bytes((folder / "open_clip_model.safetensors").read_bytes())
    (tmp_path / "open_clip_config.json").write_text(config)
    with pytest.raises(WeightsError, match="OpenCLIP's configuration"):
        load_clip(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_weights_that_embed_everything_as_zero_give_no_row(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIRDER_CACHE", str(tmp_path / "cache"))
    nothing = {key: torch.zeros_like(GOOD.state[key]) for key in ("norm.weight", "norm.bias")}
    path = write(tmp_path / "vit_b16_pn_zero.pt", state=GOOD.state | nothing)
    arguments = ["embed", DATA / "chelsea.png", "--in", tmp_path / "c.birder", "--model", path, "--engine", engine]
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert "failed 1" in result.output
    collection = birder.open_collection(tmp_path / "c.birder")
    assert collection.count() == 0
    assert [failure["reason"] for failure in collection.failures()] == [UNUSABLE_EMBEDDING]
    with pytest.raises(WeightsError, match="zero or not finite"):
        load_encoder(str(path), engine=engine).embed_one(DATA / "chelsea.png")
