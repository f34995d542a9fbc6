"""Both encoders, and the loaded model, against outputs of open_clip_torch 3.3.0 (tests/data/openclip)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import birder
from birder.errors import ConfigError, HubError, UnknownNameError, WeightsError
from birder.images.open import open_image
from birder.net.clip import CLIP, TextEncoder
from birder.net.vit import ViT
from birder.weights.clip import LoadedClip, load_clip
from birder.weights.hub import sha256_of

DATA = Path(__file__).parents[1] / "data" / "openclip"
TEXTS = json.loads((DATA / "texts.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    with np.load(DATA / "reference.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def clip() -> LoadedClip:
    return load_clip(DATA)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the model in OpenCLIP's layout, to be spoilt."""
    shutil.copytree(DATA, tmp_path / "model")
    return tmp_path / "model"


def change(folder: Path, section: str, **values: Any) -> None:
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    part = config["preprocess_cfg"] if section == "preprocess_cfg" else config["model_cfg"]
    (part if section in ("preprocess_cfg", "model_cfg") else part[section]).update(values)
    path.write_text(json.dumps(config))


def text_encoder(**changes: Any) -> TextEncoder:
    config = {"vocabulary_size": 50, "context_length": 9, "width": 8, "num_heads": 2, "num_layers": 2, "mlp_dim": 16}
    return TextEncoder(6, **{**config, **changes}).eval()


def test_features_agree_with_the_reference(clip: LoadedClip, reference: dict[str, Any]) -> None:
    image = clip.encode_image(torch.from_numpy(reference["input"]))
    np.testing.assert_allclose(image.numpy(), reference["image_features"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(clip.encode_text(TEXTS).numpy(), reference["text_features"], rtol=0, atol=1e-5)


def test_probabilities_agree_with_the_reference(clip: LoadedClip, reference: dict[str, Any]) -> None:
    assert clip.logit_scale == pytest.approx(float(reference["logit_scale"]), rel=1e-6)
    image = clip.encode_image(torch.from_numpy(reference["input"]), normalize=True)
    text = clip.encode_text(torch.from_numpy(reference["tokens"]), normalize=True)
    probabilities = (clip.logit_scale * image @ text.T).softmax(dim=-1)
    np.testing.assert_allclose(probabilities.numpy(), reference["probabilities"], rtol=0, atol=1e-5)


def test_stored_embeddings_project_to_the_same_features(clip: LoadedClip, reference: dict[str, Any]) -> None:
    x = torch.from_numpy(reference["input"])
    with torch.inference_mode():
        embedding = clip.net.image.embedding(x)
    torch.testing.assert_close(clip.project(embedding, True), clip.encode_image(x, True), rtol=0, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_do_not_change_text_features_or_their_order(clip: LoadedClip, batch_size: int) -> None:
    texts = TEXTS * 3
    expected = torch.cat([clip.encode_text(text) for text in texts])
    torch.testing.assert_close(clip.encode_text(texts, batch_size=batch_size), expected, rtol=0, atol=1e-5)


def test_no_texts_have_no_features(clip: LoadedClip) -> None:
    assert clip.encode_text([]).shape == (0, 32)


def test_normalised_features_have_length_one(clip: LoadedClip) -> None:
    lengths = clip.encode_text(TEXTS, normalize=True).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(len(TEXTS)), rtol=0, atol=1e-6)


def test_what_follows_the_end_token_changes_nothing() -> None:
    tower = text_encoder()
    with torch.inference_mode():
        short = tower(torch.tensor([[48, 3, 49, 0, 0]]))
        torch.testing.assert_close(tower(torch.tensor([[48, 3, 49, 7, 7]])), short, rtol=0, atol=1e-6)
        together = tower(torch.tensor([[48, 3, 49, 0, 0], [48, 3, 4, 5, 49]]))
        torch.testing.assert_close(together[:1], short, rtol=0, atol=1e-6)
        assert not torch.allclose(tower(torch.tensor([[48, 4, 49, 0, 0]])), short, atol=1e-4)


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
def test_text_encoder_agrees_with_torchs_own_transformer(act: str) -> None:
    """The same weights in torch.nn.TransformerEncoder with a causal mask."""
    tower = text_encoder(act_layer_type=act, context_length=6)
    activation = torch.nn.functional.gelu if act == "gelu" else (lambda x: x * torch.sigmoid(1.702 * x))
    layer = torch.nn.TransformerEncoderLayer(
        8, 2, 16, dropout=0.0, activation=activation, batch_first=True, norm_first=True
    )
    theirs = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    state = {}
    for key, value in tower.block.state_dict().items():
        index, name = key.split(".", 1)
        for ours, other in (
            ("attn.qkv.", "self_attn.in_proj_"),
            ("attn.proj.", "self_attn.out_proj."),
            ("mlp.0.", "linear1."),
            ("mlp.3.", "linear2."),
        ):
            name = name.replace(ours, other)
        state[f"layers.{index}.{name}"] = value
    theirs.load_state_dict(state)
    tokens = torch.tensor([[48, 1, 2, 3, 4, 49]])
    with torch.no_grad():
        mask = torch.nn.Transformer.generate_square_subsequent_mask(6)
        x = theirs(tower.token_embedding(tokens) + tower.pos_embedding, mask=mask)
        expected = tower.projection(tower.norm(x[:, -1]))
        torch.testing.assert_close(tower(tokens), expected, rtol=0, atol=1e-5)


def test_tokens_of_another_shape_are_refused() -> None:
    for tokens in (torch.zeros(10, dtype=torch.int64), torch.zeros((1, 10), dtype=torch.int64)):
        with pytest.raises(ConfigError, match=r"1 to 9"):
            text_encoder()(tokens)


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of its 3 heads"):
        text_encoder(num_heads=3)


def test_encoders_of_two_models_are_refused() -> None:
    config = {"patch_size": 16, "num_layers": 1, "num_heads": 1, "hidden_dim": 8, "mlp_dim": 8}
    with pytest.raises(ConfigError, match="not belong to the same model"):
        CLIP(ViT(3, 5, size=(32, 32), config=config), text_encoder())


def test_loaded_model_says_what_it_is(clip: LoadedClip) -> None:
    assert clip.sha256 == sha256_of(DATA / "open_clip_model.safetensors")
    assert clip.embedding_size == 32
    assert not clip.net.training and not any(p.requires_grad for p in clip.net.parameters())
    assert clip.net.image.embedding_size == 48


def test_transform_is_the_configurations(folder: Path) -> None:
    photo = open_image(DATA.parent / "chelsea.png")
    transform = load_clip(folder).transform
    assert transform.simple_crop and tuple(transform(photo).shape) == (3, 224, 224)
    change(folder, "preprocess_cfg", resize_mode="squash", mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    transform = load_clip(folder).transform
    assert not transform.simple_crop and transform.mean == transform.std == (0.5, 0.5, 0.5)


def test_a_squashed_photo_gives_the_reference_input(folder: Path, reference: dict[str, Any]) -> None:
    change(folder, "preprocess_cfg", resize_mode="squash")
    x = load_clip(folder).transform(open_image(DATA.parent / "chelsea.png"))
    np.testing.assert_allclose(x.numpy(), reference["input"][0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("text_cfg", {"hf_model_name": "roberta-base"}, "transformers library"),
        ("text_cfg", {"pool_type": "last"}, "pool_type = 'last'"),
        ("text_cfg", {"no_causal_mask": True}, "no_causal_mask"),
        ("text_cfg", {"proj_type": "none"}, "proj_type"),
        ("text_cfg", {"vocab_size": 64000}, "vocab_size = 64000"),
        ("text_cfg", {"block_type": "custom"}, "block_type"),
        ("text_cfg", {"a_key_of_tomorrow": 1}, "a_key_of_tomorrow"),
        ("text_cfg", {"layers": 3}, "not belong to the same model"),
        ("text_cfg", {"width": 32}, "not belong to the same model"),
        ("model_cfg", {"custom_text": True}, "custom one"),
        ("model_cfg", {"multimodal_cfg": {"width": 512}}, "CoCa"),
        ("preprocess_cfg", {"resize_mode": "longest"}, "'longest'"),
        ("preprocess_cfg", {"interpolation": "bilinear"}, "'bilinear'"),
    ],
)
def test_what_is_not_supported_is_named(folder: Path, section: str, values: dict[str, Any], message: str) -> None:
    change(folder, section, **values)
    with pytest.raises(WeightsError, match=message):
        load_clip(folder)


def test_weights_without_a_text_encoder_say_which_have_one() -> None:
    for name in ("efficientnet_lite0_in1k", "vit_b16_pn_biotrove-clip-o"):
        with pytest.raises(WeightsError, match="vit_b16_pn_bioclip-v1"):
            load_clip(name)
    with pytest.raises(WeightsError, match="BGLab/BioTrove-CLIP"):
        load_clip("vit_b16_pn_biotrove-clip-o")


def test_a_bare_checkpoint_is_refused_with_the_way_out() -> None:
    with pytest.raises(WeightsError, match=r"put its open_clip_config\.json beside it"):
        load_clip(DATA / "open_clip_model.safetensors")


def test_registered_weights_come_from_their_whole_models_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match=r"open_clip_config\.json of imageomics/bioclip-2\b"):
        load_clip("vit_l14_pn_bioclip-v2")


def test_a_name_that_is_nothing_says_what_to_write() -> None:
    with pytest.raises((WeightsError, UnknownNameError), match="OWNER/NAME"):
        load_clip("bioclip")


def test_code_for_open_clip_runs(reference: dict[str, Any]) -> None:
    """The example of open_clip's own page, with another import."""
    model, _, preprocess = birder.create_model_and_transforms(f"local-dir:{DATA}", pretrained=None, device="cpu")
    model.eval()
    tokenizer = birder.get_tokenizer(f"local-dir:{DATA}")
    assert preprocess(Image.open(DATA.parent / "chelsea.png")).unsqueeze(0).shape == (1, 3, 224, 224)

    image = torch.from_numpy(reference["input"])
    text = tokenizer(TEXTS)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        image_features = model.encode_image(image)
        text_features = model.encode_text(text)
        image_features /= image_features.norm(dim=-1, keepdim=True)
        text_features /= text_features.norm(dim=-1, keepdim=True)
        text_probs = (model.logit_scale.exp() * image_features @ text_features.T).softmax(dim=-1)
    np.testing.assert_allclose(text_probs.numpy(), reference["probabilities"], rtol=0, atol=1e-5)

    image_features, text_features, logit_scale = model(image, text)
    probabilities = (logit_scale * image_features @ text_features.T).softmax(dim=-1)
    np.testing.assert_allclose(probabilities.numpy(), reference["probabilities"], rtol=0, atol=1e-5)
    assert model(image)[1] is None and model(text=text)[0] is None


def test_a_loaded_model_is_a_module(reference: dict[str, Any]) -> None:
    model = load_clip(DATA)
    assert isinstance(model, torch.nn.Module) and not model.training
    x = torch.from_numpy(reference["input"])
    np.testing.assert_allclose(model.visual(x).numpy(), reference["image_features"], rtol=0, atol=1e-5)
    assert model.visual.size == (224, 224) and model.context_length == 77

    model.to(torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    np.testing.assert_allclose(model.encode_image(x.double()).numpy(), reference["image_features"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.encode_text(TEXTS).numpy(), reference["text_features"], rtol=0, atol=1e-5)

    state = {key: value.float() for key, value in model.state_dict().items()}
    other = load_clip(DATA)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(state)
    np.testing.assert_allclose(other.encode_text(TEXTS).numpy(), reference["text_features"], rtol=0, atol=1e-5)
    assert other.train().training and other.net.image.training and not other.eval().net.training


def test_gradients_reach_the_image_when_they_are_wanted(reference: dict[str, Any]) -> None:
    x = torch.from_numpy(reference["input"]).requires_grad_()
    load_clip(DATA).encode_image(x, normalize=True).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.abs().max() > 0


def test_weights_beside_an_architecture_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave out pretrained"):
        birder.create_model_and_transforms("ViT-B-16", pretrained="openai")
