"""Conversion between OpenCLIP's layout and the Birder format, on a model that open_clip_torch 3.3.0 wrote."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from birder.cli.convert import convert
from birder.errors import ConfigError, WeightsError
from birder.net.clip import CLIP, TextEncoder
from birder.registry import create_network, network_spec
from birder.weights.checkpoint import Checkpoint, make_signature, read_checkpoint, write_checkpoint
from birder.weights.convert import Converted, compare_features
from birder.weights.load import load_model
from birder.weights.openclip import OpenClip, read_openclip
from birder.weights.openclip_convert import (
    nearest_network,
    to_birder,
    to_openclip,
    write_openclip,
)
from birder.weights.openclip_files import OPENAI_RGB
from birder.weights.openclip_verify import openclip_image_features
from birder.weights.resolve import resolve
from tests.hub import Hub
from tests.weights.made_clip import as_openclip

DATA = Path(__file__).parents[1] / "data" / "openclip"
PHOTO = DATA.parent / "chelsea.png"
CONFIG, SAFETENSORS, PICKLE = "open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"

app = typer.Typer()
app.command()(convert)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the model in OpenCLIP's layout, to be spoilt."""
    (tmp_path / "model").mkdir()
    for name in (CONFIG, SAFETENSORS):
        shutil.copy(DATA / name, tmp_path / "model" / name)
    return tmp_path / "model"


def change(folder: Path, section: str, **values: Any) -> None:
    path = folder / CONFIG
    config = json.loads(path.read_text())
    part = config["model_cfg"] if section == "model_cfg" else config["model_cfg"][section]
    part.update(values)
    path.write_text(json.dumps(config))


def rewrite(folder: Path, state: dict[str, torch.Tensor]) -> None:
    safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, folder / SAFETENSORS)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def random_encoder(network: str, layers: int = 2, outputs: int = 24, **config: Any) -> tuple[Checkpoint, str]:
    """A checkpoint with the named network's widths, but few blocks."""
    config = {"num_layers": layers, "head_bias": False, **config}
    net = create_network(network, outputs, config=config)
    full = network_spec(network).config | config
    return Checkpoint(dict(net.state_dict()), make_signature((224, 224), outputs), {}, OPENAI_RGB, full), network


# --- forward


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_features_of_a_converted_checkpoint_agree_with_the_reference(tmp_path: Path, ending: str) -> None:
    network, checkpoint = to_birder(read_openclip(DATA))
    path = write_checkpoint(tmp_path / f"{network}_tiny.{ending}", checkpoint)
    net, info = load_model(network, path, inference=True)
    with np.load(DATA / "reference.npz", allow_pickle=False) as reference:
        features = net(torch.from_numpy(reference["input"])).numpy()
        np.testing.assert_allclose(features, reference["image_features"], rtol=0, atol=1e-5)
    assert info.signature == make_signature((224, 224), 32)
    assert info.class_to_idx == {}
    assert list(info.rgb_stats["mean"]) == [0.48145466, 0.4578275, 0.40821073]
    assert {"num_heads": 3, "hidden_dim": 48, "mlp_dim": 192, "patch_size": 16, "head_bias": False}.items() <= (
        info.custom_config or {}
    ).items()


def test_both_kinds_of_file_give_the_same_image_encoder(folder: Path) -> None:
    _, expected = to_birder(read_openclip(folder))
    torch.save(safetensors.torch.load_file(folder / SAFETENSORS), folder / PICKLE)
    (folder / SAFETENSORS).unlink()
    _, checkpoint = to_birder(read_openclip(folder))
    assert checkpoint.state.keys() == expected.state.keys()
    assert all(same_bits(checkpoint.state[key], expected.state[key]) for key in expected.state)


def test_a_training_checkpoint_is_unwrapped(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / SAFETENSORS)
    wrapped = {"epoch": 7, "name": "run", "state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(wrapped, folder / PICKLE)
    (folder / SAFETENSORS).unlink()
    _, checkpoint = to_birder(read_openclip(folder))
    assert torch.equal(checkpoint.state["norm.weight"], state["visual.ln_post.weight"])


def test_half_precision_stays_half_precision(folder: Path) -> None:
    state = {k: v.half() for k, v in safetensors.torch.load_file(folder / SAFETENSORS).items()}
    rewrite(folder, state)
    clip = read_openclip(folder)
    network, checkpoint = to_birder(clip)
    assert all(value.dtype == torch.float16 for value in checkpoint.state.values())
    back = to_openclip(network, checkpoint, clip)[1]
    assert all(same_bits(back[key], state[key]) for key in state)


def test_a_registered_network_stores_only_that_its_head_has_no_bias() -> None:
    checkpoint, network = random_encoder("vit_s16_pn", layers=12)
    config, state = to_openclip(network, checkpoint, stranger(24))
    again, converted = to_birder(OpenClip("memory", DATA, config, state))
    assert (again, converted.config) == ("vit_s16_pn", {"head_bias": False})


def stranger(outputs: int, quick_gelu: bool = False) -> OpenClip:
    """A text encoder for image encoders with so many outputs."""
    clip = read_openclip(DATA)
    model = clip.model_config | {"embed_dim": outputs, "quick_gelu": quick_gelu}
    return OpenClip("stranger", clip.weights_path, {"model_cfg": model, "preprocess_cfg": {}}, clip.state)


@pytest.mark.parametrize(
    ("network", "act"),
    [("vit_b16_pn", "gelu"), ("vit_l14_pn", "gelu"), ("vit_b16_pn_quick_gelu", "quick_gelu"), ("vit_b32_pn", "gelu")],
)
def test_the_nearest_network_is_the_one_of_the_same_shape(network: str, act: str) -> None:
    config = network_spec(network).config | {"act_layer_type": act}
    assert nearest_network(config) == network
    assert nearest_network(config | {"num_layers": config["num_layers"] - 1}) == network


def test_a_wide_head_and_quick_gelu_are_read_from_the_configuration(folder: Path) -> None:
    change(folder, "vision_cfg", head_width=24)
    change(folder, "model_cfg", quick_gelu=True)
    clip = read_openclip(folder)
    network, checkpoint = to_birder(clip)
    config = network_spec(network).config | (checkpoint.config or {})
    assert (config["num_heads"], config["act_layer_type"]) == (2, "quick_gelu")
    net = create_network(network, 32, config=checkpoint.config).eval()
    net.load_state_dict(checkpoint.state)
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs = openclip_image_features(clip.state, x, num_heads=2, quick_gelu=True)
        torch.testing.assert_close(net(x), theirs, rtol=0, atol=1e-5)
        other = openclip_image_features(clip.state, x, num_heads=3, quick_gelu=True)
        assert (other - theirs).abs().max() > 1e-3


# --- back


def test_the_round_trip_gives_every_bit_back(tmp_path: Path) -> None:
    """OpenCLIP -> .safetensors -> OpenCLIP -> .pt, compared with what open_clip_torch wrote."""
    original = safetensors.torch.load_file(DATA / SAFETENSORS)
    clip = read_openclip(DATA)
    network, checkpoint = to_birder(clip)
    birder = write_checkpoint(tmp_path / "one.safetensors", checkpoint)
    back = write_openclip(tmp_path / "back", *to_openclip(network, read_checkpoint(birder), clip))
    state = safetensors.torch.load_file(back / SAFETENSORS)
    assert state.keys() == original.keys()
    assert all(same_bits(state[key], original[key]) for key in original)

    again = read_checkpoint(write_checkpoint(tmp_path / "two.pt", to_birder(read_openclip(back))[1]))
    assert (again.config, again.signature) == (checkpoint.config, checkpoint.signature)
    assert all(same_bits(again.state[key], checkpoint.state[key]) for key in checkpoint.state)


@settings(deadline=None)  # how long it takes says nothing on a busy machine
@given(mlp_dim=st.integers(8, 400), heads=st.sampled_from([1, 2, 4]), patch=st.sampled_from([14, 16, 32]))
def test_any_image_encoder_survives_the_round_trip(mlp_dim: int, heads: int, patch: int) -> None:
    checkpoint, network = random_encoder(
        "vit_b16_pn", 1, 8, hidden_dim=52, mlp_dim=mlp_dim, num_heads=heads, patch_size=patch
    )
    config, state = to_openclip(network, checkpoint, stranger(8))
    vision = config["model_cfg"]["vision_cfg"]
    assert int(vision["width"] * vision["mlp_ratio"]) == mlp_dim  # OpenCLIP's own rule
    assert vision["width"] // vision["head_width"] == heads
    found, again = to_birder(OpenClip("memory", DATA, json.loads(json.dumps(config)), state))
    merged = network_spec(found).config | (again.config or {})
    assert (merged["mlp_dim"], merged["num_heads"], merged["patch_size"]) == (mlp_dim, heads, patch)
    assert all(same_bits(again.state[key], checkpoint.state[key]) for key in checkpoint.state)


@pytest.mark.parametrize("network", ["tf_efficientnet_lite0", "efficientnet_lite0", "vit_s16_pn"])
def test_a_model_made_here_is_one_of_openclip(network: str, tmp_path: Path) -> None:
    """`tests/peers/test_openclip_trunk.py` gives such folders to open_clip."""
    torch.manual_seed(0)
    config = {"head_bias": False} | ({"num_layers": 1} if network == "vit_s16_pn" else {})
    image = create_network(network, 8, config=config)
    text = TextEncoder(8, vocabulary_size=49408, context_length=16, width=12, num_heads=2, num_layers=2, mlp_dim=31)
    net = CLIP(image, text).eval()
    folder = write_openclip(tmp_path / "model", *as_openclip(network, net))
    loaded = resolve(folder).load_clip()
    assert (loaded.network, loaded.context_length, loaded.transform.simple_crop) == (network, 16, False)
    assert all(same_bits(loaded.net.state_dict()[key], value) for key, value in net.state_dict().items())
    again = read_checkpoint(write_checkpoint(tmp_path / "image.pt", to_birder(read_openclip(folder))[1]))
    back, state = to_openclip(network, again, read_openclip(folder))
    assert back == json.loads((folder / CONFIG).read_text())
    assert all(same_bits(state[key], value) for key, value in safetensors.torch.load_file(folder / SAFETENSORS).items())
    if network != "vit_s16_pn":
        with pytest.raises(ConfigError, match="compare them with open_clip's"):
            compare_features(Converted(network, tmp_path / "image.pt", folder / SAFETENSORS, state, ""), PHOTO)
        for key, value in (("timm_pool", "max"), ("timm_proj", "mlp"), ("timm_proj_bias", True)):
            change(folder, "vision_cfg", **{key: value})
            with pytest.raises(WeightsError, match=key):
                resolve(folder).load_clip()
            change(folder, "vision_cfg", **{key: back["model_cfg"]["vision_cfg"][key]})
        for key in ("visual.trunk.conv_mystery.weight", "visual.head.proj.bias"):
            rewrite(folder, state | {key: torch.zeros(8)})
            with pytest.raises(WeightsError, match=f"{key}, which does not belong"):
                resolve(folder).load_clip()
        rewrite(folder, {key: value for key, value in state.items() if key != "visual.trunk.blocks.3.1.bn2.weight"})
        with pytest.raises(WeightsError, match=r"missing body\.stage3\.1\.block\.1\.1\.weight"):
            resolve(folder).load_clip()


def test_encoders_of_two_models_are_refused() -> None:
    checkpoint, network = random_encoder("vit_s16_pn", 1)
    with pytest.raises(WeightsError, match="not belong to the same model"):
        to_openclip(network, checkpoint, stranger(25))
    with pytest.raises(WeightsError, match="not belong to the same model"):
        to_openclip(network, checkpoint, stranger(24, quick_gelu=True))


def test_a_checkpoint_of_another_image_encoder_than_clips_is_refused() -> None:
    plain = create_network("vit_b16", 24, config={"num_layers": 1})
    biased = create_network("vit_s16_pn", 24, config={"num_layers": 1})
    for network, net in (("vit_b16", plain), ("vit_s16_pn", biased)):
        checkpoint = Checkpoint(
            dict(net.state_dict()), make_signature((224, 224), 24), {}, OPENAI_RGB, {"num_layers": 1}
        )
        with pytest.raises(WeightsError, match="not a CLIP image encoder"):
            to_openclip(network, checkpoint, stranger(24))


# --- what is refused


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"layers": [3, 4, 6, 3]}, "ResNet"),
        ({"attentional_pool": True}, "attentional pooling"),
        ({"no_ln_pre": True}, "no LayerNorm before the blocks"),
        ({"pool_type": "avg"}, "pool_type = 'avg'"),
        ({"ls_init_value": 0.1}, "ls_init_value"),
        ({"pos_embed_type": "sin_cos_2d"}, "pos_embed_type"),
        ({"qk_norm": True}, "qk_norm"),
        ({"a_key_of_tomorrow": 1}, "a_key_of_tomorrow"),
        ({"block_type": "custom"}, "block_type|blocks of the type 'custom'"),
    ],
)
def test_an_image_encoder_of_another_kind_is_named(folder: Path, values: dict[str, Any], part: str) -> None:
    change(folder, "vision_cfg", **values)
    with pytest.raises(WeightsError, match=rf"({part}).*Birder supports"):
        to_birder(read_openclip(folder))


def test_another_trunk_of_timm_is_named(folder: Path) -> None:
    change(folder, "vision_cfg", timm_model_name="convnext_base")
    with pytest.raises(WeightsError, match=r"timm trunk, convnext_base.*efficientnet_lite0"):
        to_birder(read_openclip(folder))
    with pytest.raises(WeightsError, match="convnext_base"):
        resolve(folder).fetch()


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("visual.trunk.blocks.0.norm1.weight", "timm trunk"),
        ("visual.layer1.0.conv1.weight", "ResNet"),
        ("visual.attn_pool.query", "attentional pooling"),
        ("visual.ln_mystery.weight", "ln_mystery"),
        ("visual.transformer.resblocks.0.ls_1.gamma", "ls_1"),
    ],
)
def test_a_bare_checkpoint_of_another_kind_is_named(folder: Path, key: str, part: str) -> None:
    state = safetensors.torch.load_file(folder / SAFETENSORS)
    rewrite(folder, state | {key: torch.zeros(4)})
    with pytest.raises(WeightsError, match=part):
        to_birder(read_openclip(folder / SAFETENSORS), "vit_b16_pn")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": 4}, "num_layers 4 in one, 3 in the other"),
        ({"width": 64}, "hidden_dim"),
        ({"patch_size": 14}, "patch_size"),
        ({"mlp_ratio": 2.0}, "mlp_dim"),
        ({"image_size": 336}, "197 positions"),
    ],
)
def test_a_configuration_of_another_model_is_refused(folder: Path, values: dict[str, Any], message: str) -> None:
    change(folder, "vision_cfg", **values)
    with pytest.raises(WeightsError, match=message):
        to_birder(read_openclip(folder))


def test_a_projection_of_another_width_and_a_missing_tensor_are_refused(folder: Path) -> None:
    change(folder, "model_cfg", embed_dim=64)
    with pytest.raises(WeightsError, match="embed_dim 64 and a projection to 32"):
        to_birder(read_openclip(folder))
    state = safetensors.torch.load_file(folder / SAFETENSORS)
    del state["visual.proj"]
    rewrite(folder, state)
    with pytest.raises(WeightsError, match="lacks proj"):
        to_birder(read_openclip(folder))


def test_a_block_that_lacks_a_tensor_is_refused(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / SAFETENSORS)
    del state["visual.transformer.resblocks.1.mlp.c_fc.bias"]
    rewrite(folder, state)
    with pytest.raises(WeightsError, match=r"missing encoder\.block\.1\.mlp\.0\.bias"):
        to_birder(read_openclip(folder))


@pytest.mark.parametrize("missing", [CONFIG, SAFETENSORS])
def test_a_folder_in_another_layout_names_what_is_missing(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(WeightsError, match=f"not in OpenCLIP's layout.*{missing}"):
        read_openclip(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"model_cfg": {}}', '{"model_cfg": {"embed_dim": 32, "vision_cfg": "x"}}']
)
def test_a_damaged_configuration_is_refused(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text)
    with pytest.raises(WeightsError, match="not OpenCLIP's configuration"):
        read_openclip(folder)


def test_a_truncated_file_is_refused(folder: Path) -> None:
    content = (folder / SAFETENSORS).read_bytes()
    (folder / SAFETENSORS).write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="truncated"):
        read_openclip(folder)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_pickle_does_not_run(folder: Path) -> None:
    (folder / SAFETENSORS).unlink()
    mark = folder / "ran"
    torch.save({"visual.proj": Bomb(mark)}, folder / PICKLE)
    with pytest.raises(WeightsError, match="would run code"):
        read_openclip(folder)
    (folder / PICKLE).write_bytes(pickle.dumps({"visual.proj": Bomb(mark)}))
    with pytest.raises(WeightsError):
        read_openclip(folder)
    assert not mark.exists()


def test_a_birder_checkpoint_needs_no_conversion() -> None:
    with pytest.raises(WeightsError, match="already in the Birder format"):
        read_openclip(DATA.parent / "birder" / "vit_tiny_p16_pn_test.safetensors")


# --- the command


def test_convert_and_verify_then_back(tmp_path: Path) -> None:
    dest = tmp_path / "vit_s16_pn_tiny.safetensors"
    result = run(DATA, "--to", dest, "--verify", PHOTO)
    assert result.exit_code == 0, result.output
    assert "vit_s16_pn, 32 outputs" in result.stdout
    difference = float(result.stdout.split("largest difference ")[1].split(",")[0])
    assert difference < 1e-5
    assert "call it" not in result.stderr

    back = tmp_path / "back"
    result = run(dest, "--to", back, "--reverse", "--text-from", DATA, "--verify", PHOTO)
    assert result.exit_code == 0, result.output
    original = safetensors.torch.load_file(DATA / SAFETENSORS)
    state = safetensors.torch.load_file(back / SAFETENSORS)
    assert state.keys() == original.keys()
    assert all(same_bits(state[key], original[key]) for key in original)


def test_a_file_name_of_another_network_gives_a_note(tmp_path: Path) -> None:
    result = run(DATA, "--to", tmp_path / "mine.pt")  # the file itself names its network
    assert result.exit_code == 0
    assert "call it" not in result.stderr
    assert resolve(tmp_path / "mine.pt").network == "vit_s16_pn"
    result = run(DATA, "--to", tmp_path / "vit_b16_mine.pt")
    assert "call it vit_s16_pn_vit_b16_mine.pt" in result.stderr


def test_a_bare_checkpoint_needs_the_name_of_its_network(tmp_path: Path) -> None:
    checkpoint, network = random_encoder("vit_s16_pn", 12)
    state = to_openclip(network, checkpoint, stranger(24))[1]
    bare = tmp_path / "bare.bin"
    torch.save(state, bare)
    result = run(bare, "--to", tmp_path / "vit_s16_pn_x.pt")
    assert isinstance(result.exception, WeightsError) and "--network vit_b16_pn" in str(result.exception)
    result = run(bare, "--to", tmp_path / "vit_s16_pn_x.pt", "--network", "vit_b16_pn")
    assert isinstance(result.exception, WeightsError) and "hidden_dim 384, not 768" in str(result.exception)
    result = run(bare, "--to", tmp_path / "vit_s16_pn_x.pt", "--network", "vit_s16_pn")
    assert result.exit_code == 0 and "OpenAI's" in result.stderr
    converted = read_checkpoint(tmp_path / "vit_s16_pn_x.pt")
    assert all(same_bits(converted.state[key], checkpoint.state[key]) for key in checkpoint.state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((DATA, "out.bin"), r"end it in \.pt or \.safetensors"),
        (("nothing-here", "out.pt"), "OWNER/NAME"),
        ((DATA, "out.pt", "--text-from", DATA), "--reverse"),
        ((DATA, "folder", "--reverse"), "--text-from"),
        ((DATA, "out.pt", "--reverse", "--text-from", DATA), "is not a folder"),
    ],
)
def test_wrong_use_of_convert_is_answered_with_what_to_do(
    arguments: tuple[str | Path, ...], message: str, tmp_path: Path
) -> None:
    source, dest, *rest = arguments
    result = run(source, "--to", tmp_path / dest, *rest)
    assert isinstance(result.exception, WeightsError | ConfigError | SystemExit)
    assert re.search(message, f"{result.exception} {result.stderr}")
    assert list(tmp_path.iterdir()) == []


def test_verify_fails_for_a_conversion_that_computes_something_else(tmp_path: Path, folder: Path) -> None:
    """Rows of one projection are in another order, as a wrong converter would leave them."""
    checkpoint = to_birder(read_openclip(folder))[1]
    broken = dict(checkpoint.state)
    broken["encoder.block.1.attn.qkv.weight"] = broken["encoder.block.1.attn.qkv.weight"].flip(0)
    path = write_checkpoint(tmp_path / "vit_s16_pn_x.pt", Checkpoint(
        broken, checkpoint.signature, {}, checkpoint.rgb_stats, checkpoint.config
    ))  # fmt: skip
    with pytest.raises(WeightsError, match="do not use it"):
        compare_features(
            Converted("vit_s16_pn", path, folder / SAFETENSORS, read_openclip(folder).state, "broken"), PHOTO
        )


CHILD = """
import sys
from birder.errors import HubError
from birder.weights.openclip import read_openclip
for repository in sys.argv[1:]:
    try:
        print(read_openclip(repository).weights_path.name)
    except HubError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_hub_repository_is_fetched_with_whichever_file_it_has(hub: Hub, tmp_path: Path) -> None:
    torch.save(safetensors.torch.load_file(DATA / SAFETENSORS), tmp_path / PICKLE)
    for name, weights in (("someone/new", DATA / SAFETENSORS), ("someone/old", tmp_path / PICKLE)):
        hub.add(name, CONFIG, DATA / CONFIG)
        hub.add(name, weights.name, weights)
    hub.add("someone/other", "model.safetensors", DATA / SAFETENSORS)
    hub.add("someone/half", CONFIG, DATA / CONFIG)
    environment = {
        **os.environ,
        **hub.env,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    repositories = ["someone/new", "someone/old", "someone/other", "someone/half", "someone/none"]
    result = subprocess.run(
        [sys.executable, "-c", CHILD, *repositories], env=environment, capture_output=True, text=True, check=True
    )
    new, old, other, half, none = result.stdout.splitlines()
    assert (new, old) == (SAFETENSORS, PICKLE)
    assert f"has no file {CONFIG}" in other
    assert f"has no file {PICKLE}" in half
    assert "no repository someone/none" in none
