"""The CLIP that a training begins with: a published one, an image encoder with a new text encoder, or all new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from birder.errors import ConfigError, WeightsError
from birder.net.base import Backbone
from birder.net.clip import CLIP, TextEncoder
from birder.net.tokenizer import CONTEXT_LENGTH, ClipTokenizer
from birder.net.vit import Block
from birder.registry import create_network, network_spec
from birder.weights.checkpoint import RgbStats
from birder.weights.loaded_clip import build_clip
from birder.weights.openclip import OpenClip, read_openclip
from birder.weights.openclip_convert import clip_config, is_of_openclip
from birder.weights.openclip_files import OPENAI_RGB
from birder.weights.resolve import Model, resolve

DEFAULT_NETWORK = "vit_b16_pn"
_CHECKPOINTS = (".bin", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class TextSize:
    """The size of a text encoder and of the space that it shares with the image encoder.

    Attributes
    ----------
    embedding
        E, of the shared space.
    width, heads, layers
        Of the transformer; a block's hidden layer has four times the width.
    context
        The most tokens of a text.
    """

    embedding: int
    width: int
    heads: int
    layers: int
    context: int = CONTEXT_LENGTH


SMALL_TEXT = TextSize(embedding=128, width=128, heads=2, layers=2)
"""For image encoders that CLIP has no standard for."""
_STANDARD = {
    "vit_s16_pn": TextSize(384, 384, 6, 12),
    "vit_b32_pn": TextSize(512, 512, 8, 12),
    "vit_b16_pn": TextSize(512, 512, 8, 12),
    "vit_b16_pn_quick_gelu": TextSize(512, 512, 8, 12),
    "vit_l14_pn": TextSize(768, 768, 12, 12),
    "vit_l14_pn_quick_gelu": TextSize(768, 768, 12, 12),
    "vit_h14_pn": TextSize(1024, 1024, 16, 24),
}


@dataclass(frozen=True)
class Start:
    """What a training begins with.

    Attributes
    ----------
    network
        The registered network of the image encoder.
    clip
        Both encoders, in float32 on the CPU.
    rgb_stats
        Mean and standard deviation of the image encoder's input.
    preprocess
        How OpenCLIP prepares images for it, without these statistics.
    name, sha256
        Of the weights; None of new ones.
    encoder
        The model that the image encoder is of; None of new weights, and of a bare file of OpenCLIP's.
    """

    network: str
    clip: CLIP
    rgb_stats: RgbStats
    preprocess: dict[str, Any]
    name: str | None
    sha256: str | None
    encoder: Model | None = None

    @property
    def card(self) -> dict[str, Any]:
        """How a collection prepares images for it."""
        mean, std = self.rgb_stats["mean"], self.rgb_stats["std"]
        return {"size": self.clip.image.size, "mean": mean, "std": std, "center_crop": 1.0, "simple_crop": False}

    @property
    def tokenizer(self) -> ClipTokenizer:
        """That of the text encoder."""
        return ClipTokenizer(self.clip.text.context_length)


def model_input(pixels: torch.Tensor, rgb_stats: Mapping[str, Any], device: torch.device) -> torch.Tensor:
    """The input of an image encoder, float32 (N, 3, H, W) on a device, of pixels uint8 (N, H, W, 3)."""
    x = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255.0)
    mean, std = (x.new_tensor(rgb_stats[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (x - mean) / std


def start_of(
    model: str | None,
    init: str | Path | None,
    text: TextSize | None = None,
    *,
    default: str = DEFAULT_NETWORK,
    seed: int = 0,
) -> Start:
    """What a training begins with.

    Parameters
    ----------
    model
        The registered network of the image encoder; None for that of `init`, else `default`.
    init
        A CLIP: a folder or a hub repository in OpenCLIP's layout, a file of OpenCLIP's tensors, registered weights with
        a text encoder. Or an image encoder alone: other registered weights, or a checkpoint; then its projection and
        the text encoder are new. None: everything is.
    text
        The size of a new text encoder (default: the standard's for the network).
    default
        The network where neither `model` nor `init` says it: of all new weights, and of a file of OpenCLIP's tensors.
    seed
        Of new weights.

    Raises
    ------
    ConfigError
        `init` has another network than `model`.
    UnknownNameError, HubError, WeightsError
        `init` cannot be found or loaded.
    """
    torch.manual_seed(seed)
    if init is None or str(init) == "none":
        network = model or default
        _check_of_openclip(network)
        size = text or _STANDARD.get(network, SMALL_TEXT)
        image = create_network(network, size.embedding, config={"head_bias": False})
        return with_new_text(network, image, size, OPENAI_RGB, None, None)
    path = Path(init)
    if path.suffix in _CHECKPOINTS and path.is_file() and (bare := _bare(path, model or default)) is not None:
        return _of_openclip(bare, path.name, model)
    found = resolve(init)
    if found.has_text_encoder:
        return replace(_of_openclip(read_openclip(found.text_encoder()), found.name, model), encoder=found)
    loaded = found.load_image_encoder()
    _check_network(loaded.network, model, found.name)
    _check_of_openclip(loaded.network)
    size = text or _STANDARD.get(loaded.network, SMALL_TEXT)
    loaded.net.config["head_bias"] = False
    loaded.net.reset_classifier(size.embedding)
    new = with_new_text(loaded.network, loaded.net, size, loaded.info.rgb_stats, found.name, loaded.sha256)
    return replace(new, encoder=found)


def _of_openclip(openclip: OpenClip, name: str, model: str | None) -> Start:
    from birder.weights.hub import sha256_of

    network, clip = build_clip(openclip)
    _check_network(network, model, name)
    clip.train().requires_grad_(True)
    preprocess = {key: value for key, value in openclip.preprocess_config.items() if key not in ("mean", "std")}
    return Start(network, clip, openclip.rgb_stats, preprocess, name, sha256_of(openclip.weights_path))


def _check_of_openclip(network: str) -> None:
    if not is_of_openclip(network):
        raise ConfigError(
            f"OpenCLIP has no image encoder {network}, so the trained model could not be written: choose a vision "
            f"transformer with a LayerNorm before its blocks, such as {DEFAULT_NETWORK}, or an "
            "EfficientNet-Lite0."
        )


def _check_network(found: str, asked: str | None, name: str) -> None:
    if asked is not None and asked != found:
        raise ConfigError(f"{name} has the image encoder {found}, not {asked}: leave out --model, or name that one.")


def _bare(path: Path, network: str) -> OpenClip | None:
    """A file of OpenCLIP's tensors, with the configuration that its shapes and the network's name give; else None."""
    try:
        openclip = read_openclip(path)
    except WeightsError:
        return None
    state = openclip.state
    width = int(state["ln_final.weight"].shape[0]) if "ln_final.weight" in state else 0
    if not width or not network_spec(network).config.get("pre_norm"):
        raise WeightsError(f"{path} is a file of OpenCLIP's tensors, but not those of a {network}: name its --model.")
    text = {
        "context_length": int(state["positional_embedding"].shape[0]),
        "vocab_size": int(state["token_embedding.weight"].shape[0]),
        "width": width,
        "heads": max(width // 64, 1),
        "layers": len({key.split(".")[2] for key in state if key.startswith("transformer.resblocks.")}),
    }
    patch = int(state["visual.conv1.weight"].shape[-1])
    side = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5) * patch
    config = clip_config(network, {}, (side, side), int(state["text_projection"].shape[1]), text)
    return replace(openclip, config=config)


def text_size(text: TextEncoder) -> TextSize:
    """The size of a text encoder."""
    block = text.block[0]
    assert isinstance(block, Block)
    return TextSize(
        text.projection.out_features,
        text.token_embedding.embedding_dim,
        block.attn.num_heads,
        len(text.block),
        text.context_length,
    )


def with_new_text(
    network: str, image: Backbone, size: TextSize, rgb_stats: RgbStats, name: str | None, sha256: str | None
) -> Start:
    """An image encoder, its linear classifier made CLIP's projection, with a text encoder of new weights."""
    quick = (network_spec(network).config | image.config).get("act_layer_type") == "quick_gelu"
    text = TextEncoder(
        size.embedding,
        vocabulary_size=ClipTokenizer().vocabulary_size,
        context_length=size.context,
        width=size.width,
        num_heads=size.heads,
        num_layers=size.layers,
        mlp_dim=4 * size.width,
        act_layer_type="quick_gelu" if quick else "gelu",
    )
    _reset_text(text)
    projection = image.classifier
    if not isinstance(projection, nn.Linear):
        raise ConfigError(f"The classifier of {network} is not linear, so it cannot become CLIP's projection.")
    nn.init.normal_(projection.weight, std=image.embedding_size**-0.5)
    clip = CLIP(image, text).train().requires_grad_(True)
    return Start(network, clip, rgb_stats, {"interpolation": "bicubic", "resize_mode": "squash"}, name, sha256)


def _reset_text(text: TextEncoder) -> None:
    """New weights as CLIP has them at first (Radford et al., arXiv 2103.00020, section 2.5; as published)."""
    width, layers = text.token_embedding.embedding_dim, len(text.block)
    nn.init.normal_(text.token_embedding.weight, std=0.02)
    nn.init.normal_(text.pos_embedding, std=0.01)
    nn.init.normal_(text.projection.weight, std=width**-0.5)
    out = width**-0.5 * (2 * layers) ** -0.5
    for block in text.block:
        assert isinstance(block, Block)
        for linear, std in (
            (block.attn.qkv, width**-0.5),
            (block.attn.proj, out),
            (block.mlp[0], (2 * width) ** -0.5),
            (block.mlp[3], out),
        ):
            assert isinstance(linear, nn.Linear)
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
