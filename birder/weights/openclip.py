"""Reading a model in OpenCLIP's layout: its configuration, its tensors, and whether Birder can run it.

Field names of the configuration are those of `CLIPVisionCfg` and `CLIPTextCfg` in `open_clip_torch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from birder.errors import WeightsError
from birder.registry import HUB_PREFIX
from birder.weights.checkpoint import RgbStats, read_pickle
from birder.weights.hub import check_is_file
from birder.weights.openclip_files import CONFIG_FILE, OPENAI_RGB, Config, fetch_files, read_config
from birder.weights.openclip_timm import check_trunk, trunk_of

State = dict[str, torch.Tensor]

_SUPPORTED = (
    "Birder supports OpenCLIP's own vision transformer (class token, learnable positions, LayerNorm before the blocks, "
    "linear projection), such as ViT-B-32, ViT-B-16, ViT-L-14 and ViT-H-14, with or without QuickGELU"
)
_SUPPORTED_TEXT = "Birder supports CLIP's own text transformer with its byte-pair vocabulary of 49,408 tokens"
# A key outside these tables changes the arithmetic in a way that nobody has checked here.
_BLOCK_DEFAULTS: Config = {
    "ls_init_value": None,
    "final_ln_after_pool": False,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
    "act_kwargs": None,
    "norm_kwargs": None,
}
_VISION_DEFAULTS: Config = {
    **_BLOCK_DEFAULTS,
    "timm_model_name": None,
    "attentional_pool": False,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",
    "pool_type": "tok",
}
_VISION_FREE = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout"}
_VISION_FREE |= {"output_tokens", "block_type", "attn_pooler_queries", "attn_pooler_heads"}
_TEXT_DEFAULTS: Config = {
    **_BLOCK_DEFAULTS,
    "hf_model_name": None,
    "hf_tokenizer_name": None,
    "tokenizer_kwargs": None,
    "tokenizer_mode": None,
    "embed_cls": False,
    "no_causal_mask": False,
    "pool_type": "argmax",
    "proj_bias": False,
    "proj_type": "linear",
    "vocab_size": 49408,
}
_TEXT_FREE = {
    "context_length",
    "width",
    "heads",
    "layers",
    "mlp_ratio",
    "output_tokens",
    "block_type",
    "pad_id",
    "eos_id",
}
_PART_NAMES = {
    "timm_model_name": "a timm trunk",
    "attentional_pool": "attentional pooling",
    "no_ln_pre": "no LayerNorm before the blocks",
    "hf_model_name": "a text encoder of the transformers library",
    "hf_tokenizer_name": "a tokenizer of the transformers library",
}


@dataclass(frozen=True)
class OpenClip:
    """A model in OpenCLIP's layout, as it was read.

    Attributes
    ----------
    source
        Where it came from, for messages.
    weights_path
        The file that holds the tensors.
    config
        `open_clip_config.json`; None for a bare checkpoint.
    state
        Tensors by OpenCLIP's names, on the CPU, as stored.
    """

    source: str
    weights_path: Path
    config: Config | None
    state: State

    @property
    def model_config(self) -> Config:
        """The part that describes the network."""
        if self.config is None:
            raise WeightsError(
                f"{self.source} is a bare checkpoint: it does not state its number of heads or its activation. "
                f"Put its {CONFIG_FILE} beside it and name the folder, or name the network (--network vit_b16_pn)."
            )
        return dict(self.config["model_cfg"])

    @property
    def preprocess_config(self) -> Config:
        """The part that describes the images' preparation; empty where it is left to the defaults."""
        return dict((self.config or {}).get("preprocess_cfg") or {})

    @property
    def rgb_stats(self) -> RgbStats:
        """Mean and standard deviation of pixel values in [0, 1], OpenAI's where the configuration has none."""
        preprocess = self.preprocess_config
        return {key: [float(v) for v in preprocess.get(key) or OPENAI_RGB[key]] for key in ("mean", "std")}


def read_openclip(source: str | Path) -> OpenClip:
    """Read a model in OpenCLIP's layout.

    Parameters
    ----------
    source
        A folder, a bare checkpoint file, or a hub repository `OWNER/NAME`, with or without `hf-hub:` before it.

    Raises
    ------
    HubError
        The repository, or a file of it, cannot be fetched.
    WeightsError
        It is not in OpenCLIP's layout, damaged, or a pickle that carries code.
    """
    path = Path(source)
    if path.exists() and not path.is_dir():
        return OpenClip(str(path), path, None, read_state(path))
    files = fetch_files(str(source))
    return OpenClip(
        str(source).removeprefix(HUB_PREFIX), files.weights, read_config(files.config), read_state(files.weights)
    )


def read_state(path: Path) -> State:
    """Tensors of an OpenCLIP checkpoint by name, without running code; a training checkpoint is unwrapped."""
    check_is_file(path)
    if path.suffix == ".safetensors":
        try:
            state: Any = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is truncated or not a safetensors file ({error}). Fetch it again.") from error
    else:
        state = read_pickle(path)
        if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
            state = state["state_dict"]
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds a {type(state).__name__}, not the tensors of an OpenCLIP model.")
    tensors = {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, torch.Tensor)}
    if not any(key.startswith("visual.") for key in tensors):
        raise WeightsError(
            f"{path} is not a checkpoint of OpenCLIP: it has no tensor whose name begins with 'visual.'. "
            "A checkpoint that is already in the Birder format needs no conversion."
        )
    return tensors


def check_image_encoder(clip: OpenClip) -> None:
    """Raise `WeightsError`, naming what differs, unless Birder computes what this image encoder does."""
    who = f"The image encoder of {clip.source}"
    if clip.config is not None and trunk_of(clip.model_config) is not None:
        check_trunk(clip.model_config, who)
        return
    for prefix, part in (
        ("visual.trunk.", "a timm trunk"),
        ("visual.layer1.", "a ResNet"),
        ("visual.attn_pool.", "attentional pooling"),
        ("visual.attnpool.", "attentional pooling"),
    ):
        if any(key.startswith(prefix) for key in clip.state):
            raise WeightsError(f"{who} has {part} ({prefix}*). {_SUPPORTED}.")
    if clip.config is None:
        return
    vision = clip.model_config["vision_cfg"]
    if isinstance(vision.get("layers"), list):
        raise WeightsError(f"{who} is a ResNet (vision_cfg.layers is a list). {_SUPPORTED}.")
    _check_keys(who, "vision_cfg", vision, _VISION_DEFAULTS, _VISION_FREE, _SUPPORTED)


def check_text_encoder(clip: OpenClip) -> None:
    """Raise `WeightsError`, naming what differs, unless Birder's text encoder computes what this one does."""
    who = f"The text encoder of {clip.source}"
    config = clip.model_config
    for key, part in (("multimodal_cfg", "is CoCa's, with a decoder"), ("custom_text", "is a custom one")):
        if config.get(key):
            raise WeightsError(f"{who} {part} (model_cfg.{key}). {_SUPPORTED_TEXT}.")
    _check_keys(who, "text_cfg", config.get("text_cfg") or {}, _TEXT_DEFAULTS, _TEXT_FREE, _SUPPORTED_TEXT)
    if "logit_bias" in clip.state:
        raise WeightsError(
            f"{clip.source} was trained with a sigmoid loss (logit_bias). {_SUPPORTED_TEXT} and softmax."
        )
    missing = [
        key
        for key in (
            "token_embedding.weight",
            "positional_embedding",
            "ln_final.weight",
            "text_projection",
            "logit_scale",
        )
        if key not in clip.state
    ]
    if missing:
        raise WeightsError(f"{who} lacks {', '.join(missing)}. {_SUPPORTED_TEXT}.")


def _check_keys(who: str, where: str, config: Config, defaults: Config, free: set[str], supported: str) -> None:
    for key, value in config.items():
        # `timm_*` and `hf_*` mean nothing without a timm or transformers model, whose names are in `defaults`.
        if key in free or (key not in defaults and key.startswith(("timm_", "hf_"))):
            continue
        if key not in defaults or (value or None) != (defaults[key] or None):
            part = _PART_NAMES.get(key, f"{key} = {value!r}")
            raise WeightsError(f"{who} has {part} ({where}.{key}). {supported}.")
    if config.get("block_type") not in (None, "default"):
        raise WeightsError(f"{who} has blocks of the type {config['block_type']!r} ({where}.block_type). {supported}.")
