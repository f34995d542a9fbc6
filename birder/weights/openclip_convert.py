"""Between OpenCLIP's tensors and Birder's, both ways, bit for bit.

Only names and layouts change: a linear map that OpenCLIP stores as a matrix (input x output) is transposed into
`torch.nn.Linear`'s (output x input), and the class token and the positions get their batch dimension.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from birder.errors import WeightsError
from birder.files import replacing_folder
from birder.registry import create_network, list_networks, network_spec
from birder.weights.checkpoint import Checkpoint, get_size_from_signature, make_signature, write_safetensors
from birder.weights.openclip import OpenClip, State, check_image_encoder
from birder.weights.openclip_files import CONFIG_FILE, SAFETENSORS_FILE, Config
from birder.weights.openclip_timm import (
    TRUNKS,
    check_trunk,
    trunk_of,
    trunk_size,
    trunk_to_birder,
    trunk_to_openclip,
    vision_config,
)

_SIZES = ("patch_size", "num_layers", "num_heads", "hidden_dim", "mlp_dim")
_BLOCK_NAMES = {
    "ln_1.weight": "norm1.weight",
    "ln_1.bias": "norm1.bias",
    "attn.in_proj_weight": "attn.qkv.weight",
    "attn.in_proj_bias": "attn.qkv.bias",
    "attn.out_proj.weight": "attn.proj.weight",
    "attn.out_proj.bias": "attn.proj.bias",
    "ln_2.weight": "norm2.weight",
    "ln_2.bias": "norm2.bias",
    "mlp.c_fc.weight": "mlp.0.weight",
    "mlp.c_fc.bias": "mlp.0.bias",
    "mlp.c_proj.weight": "mlp.3.weight",
    "mlp.c_proj.bias": "mlp.3.bias",
}
_IMAGE_NAMES = {
    "class_embedding": "class_token",
    "positional_embedding": "pos_embedding",
    "conv1.weight": "conv_proj.weight",
    "ln_pre.weight": "encoder.pre_block.0.weight",
    "ln_pre.bias": "encoder.pre_block.0.bias",
    "ln_post.weight": "norm.weight",
    "ln_post.bias": "norm.bias",
    "proj": "classifier.weight",
}
_TEXT_NAMES = {
    "token_embedding.weight": "token_embedding.weight",
    "positional_embedding": "pos_embedding",
    "ln_final.weight": "norm.weight",
    "ln_final.bias": "norm.bias",
    "text_projection": "projection.weight",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")


def to_birder(clip: OpenClip, network: str | None = None) -> tuple[str, Checkpoint]:
    """The image encoder as a checkpoint in the Birder format, its projection as the bias-free classifier.

    Parameters
    ----------
    clip
        What `read_openclip` gave.
    network
        The registered network whose heads and activation a bare checkpoint has. With a configuration it is found.

    Returns
    -------
    The name of the registered network, and the checkpoint. Its `config` is `{"head_bias": False}` for an encoder that
    is exactly the registered network, and otherwise everything that distinguishes it. Tensors are as stored.

    Raises
    ------
    WeightsError
        The encoder is of a kind that Birder does not support, or its tensors contradict its configuration.
    """
    check_image_encoder(clip)
    if clip.config is not None and (trunk := trunk_of(clip.model_config)) is not None:
        return trunk, _trunk_checkpoint(clip, trunk)
    state = image_state_to_birder(clip.state, clip.source)
    shapes = _from_shapes(state)
    if clip.config is None:
        if network is None:
            raise WeightsError(f"{clip.source} is a bare checkpoint: name its network, as in --network vit_b16_pn.")
        wanted = network_spec(network).config
        # Heads cannot be seen in the shapes, so only an encoder of exactly the named network's shapes is accepted.
        differing = [f"{key} {shapes[key]}, not {wanted.get(key)}" for key in shapes if shapes[key] != wanted.get(key)]
        if differing:
            raise WeightsError(
                f"{clip.source} is not a {network}: {', '.join(differing)}. Name another --network, or put its "
                f"{CONFIG_FILE} beside it and name the folder."
            )
        size = _square(state, wanted["patch_size"], clip.source)
    else:
        wanted, size = _from_config(clip, shapes, state)
        network = network or nearest_network(wanted)
    registered = network_spec(network).config
    config: Config = {"head_bias": False}
    if any(registered.get(key, default) != wanted.get(key, default) for key, default in _DISTINGUISHING.items()):
        config = {key: wanted[key] for key in _SIZES} | {"drop_path_rate": 0.0} | config
        config |= {key: v for key, v in wanted.items() if key not in _SIZES and registered.get(key) != v}
    outputs = state["classifier.weight"].shape[0]
    return network, _checked(clip, state, network, outputs, size, config)


def _trunk_checkpoint(clip: OpenClip, network: str) -> Checkpoint:
    """The same of an image encoder with a trunk of timm's."""
    state = trunk_to_birder(clip.state, f"The image encoder of {clip.source}")
    size = trunk_size(clip.model_config)
    return _checked(clip, state, network, clip.model_config["embed_dim"], size, {"head_bias": False})


def _checked(
    clip: OpenClip, state: State, network: str, outputs: int, size: tuple[int, int], config: Config
) -> Checkpoint:
    with torch.device("meta"):
        expected = create_network(network, outputs, size=size, config=config).state_dict()
    _check_shapes(state, expected, clip.source, network)
    return Checkpoint(state, make_signature(size, outputs), {}, clip.rgb_stats, config, network=network)


_DISTINGUISHING: Config = {
    **dict.fromkeys(_SIZES),
    "pre_norm": False,
    "norm_layer_eps": 1e-6,
    "act_layer_type": "gelu",
}


def image_state_to_birder(state: State, source: str) -> State:
    """The image encoder's tensors by Birder's names."""
    encoder = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
    return _renamed(encoder, _IMAGE_NAMES, "encoder.block.", _image_layout, f"The image encoder of {source}")


def text_state_to_birder(state: State, source: str) -> State:
    """The text encoder's tensors by the names of `birder.net.clip.TextEncoder`."""
    encoder = {
        key: value
        for key, value in state.items()
        # attn_mask is a constant that old versions stored.
        if not key.startswith("visual.") and key not in ("logit_scale", "attn_mask")
    }
    return _renamed(encoder, _TEXT_NAMES, "block.", _text_layout, f"The text encoder of {source}")


def _renamed(
    encoder: State, names: dict[str, str], block: str, layout: Callable[[str, torch.Tensor], torch.Tensor], who: str
) -> State:
    renamed: State = {}
    unknown = []
    for key, value in encoder.items():
        match = _BLOCK.fullmatch(key)
        if match and match[2] in _BLOCK_NAMES:
            renamed[f"{block}{match[1]}.{_BLOCK_NAMES[match[2]]}"] = value
        elif key in names:
            renamed[names[key]] = layout(key, value)
        else:
            unknown.append(key)
    missing = [key for key, name in names.items() if name not in renamed]
    if unknown or missing:
        problem = f"has {', '.join(unknown[:4])}" if unknown else f"lacks {', '.join(missing[:4])}"
        raise WeightsError(f"{who} {problem}: Birder does not support it. Supported are CLIP's own transformers.")
    return renamed


def _image_layout(key: str, value: torch.Tensor) -> torch.Tensor:
    if key == "class_embedding":
        return value.reshape(1, 1, -1)
    if key == "positional_embedding":
        return value.unsqueeze(0)
    return value.t().contiguous() if key == "proj" else value


def _text_layout(key: str, value: torch.Tensor) -> torch.Tensor:
    return value.t().contiguous() if key == "text_projection" else value


def _from_shapes(state: State) -> Config:
    blocks = {int(key.split(".")[2]) for key in state if key.startswith("encoder.block.")}
    first_mlp = state.get("encoder.block.0.mlp.0.weight")
    return {
        "patch_size": int(state["conv_proj.weight"].shape[-1]),
        "num_layers": len(blocks),
        "hidden_dim": int(state["conv_proj.weight"].shape[0]),
        "mlp_dim": 0 if first_mlp is None else int(first_mlp.shape[0]),
    }


def _from_config(clip: OpenClip, shapes: Config, state: State) -> tuple[Config, tuple[int, int]]:
    """Network configuration and input (height, width), on which both files must agree."""
    model, vision = clip.model_config, clip.model_config["vision_cfg"]
    wanted = _network_config(model)
    differing = [
        f"{key} {wanted[key]} in one, {value} in the other" for key, value in shapes.items() if wanted[key] != value
    ]
    if model["embed_dim"] != state["classifier.weight"].shape[0]:
        differing.append(f"embed_dim {model['embed_dim']} and a projection to {state['classifier.weight'].shape[0]}")
    image_size = vision.get("image_size", 224)
    height, across = (image_size, image_size) if isinstance(image_size, int) else image_size
    tokens = 1 + (height // shapes["patch_size"]) * (across // shapes["patch_size"])
    if tokens != state["pos_embedding"].shape[1]:
        differing.append(f"image_size {image_size} and {state['pos_embedding'].shape[1]} positions, not {tokens}")
    if differing:
        raise WeightsError(
            f"Configuration and tensors of {clip.source} do not belong to the same model: {'; '.join(differing)}."
        )
    return wanted, (height, across)


def _network_config(model: Config) -> Config:
    """The network configuration that OpenCLIP's `model_cfg` describes."""
    vision = model["vision_cfg"]
    width = vision.get("width", 768)
    return {
        "patch_size": vision.get("patch_size", 16),
        "num_layers": vision.get("layers", 12),
        "num_heads": width // vision.get("head_width", 64),
        "hidden_dim": width,
        "mlp_dim": int(width * vision.get("mlp_ratio", 4.0)),
        "pre_norm": True,
        "norm_layer_eps": 1e-5,
        "act_layer_type": "quick_gelu" if model.get("quick_gelu") else "gelu",
    }


def network_of_config(config: Config) -> str:
    """The registered network nearest to an OpenCLIP configuration: the one that `to_birder` chooses.

    Raises
    ------
    WeightsError
        The configuration describes neither a vision transformer nor a trunk of timm's that Birder supports.
    """
    if (trunk := trunk_of(config["model_cfg"])) is not None:
        check_trunk(config["model_cfg"], "The image encoder")
        return trunk
    try:
        return nearest_network(_network_config(config["model_cfg"]))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise WeightsError(f"OpenCLIP's configuration does not describe a vision transformer ({error}).") from error


def _square(state: State, patch: int, source: str) -> tuple[int, int]:
    side = math.isqrt(state["pos_embedding"].shape[1] - 1)
    if side * side + 1 != state["pos_embedding"].shape[1]:
        raise WeightsError(
            f"{source} does not have a square input: put its {CONFIG_FILE} beside it and name the folder."
        )
    return side * patch, side * patch


def nearest_network(wanted: Config) -> str:
    """The registered pre-norm ViT that a configuration differs least from: activation first, then patch, then size."""

    def distance(name: str) -> tuple[bool, int, float]:
        known = network_spec(name).config
        return (
            known.get("act_layer_type", "gelu") != wanted["act_layer_type"],
            abs(known["patch_size"] - wanted["patch_size"]),
            sum(
                abs(math.log(known[k] / max(wanted[k], 1)))
                for k in ("num_layers", "hidden_dim", "mlp_dim", "num_heads")
            ),
        )

    return min((name for name in list_networks() if network_spec(name).config.get("pre_norm")), key=distance)


def _check_shapes(state: State, expected: dict[str, Any], source: str, network: str) -> None:
    wrong = [f"missing {key}" for key in expected if key not in state]
    wrong += [f"unknown {key}" for key in state if key not in expected]
    wrong += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if wrong:
        raise WeightsError(f"{source} does not fit {network}: {'; '.join(wrong[:4])}. Name another --network.")


def to_openclip(network: str, checkpoint: Checkpoint, text_from: OpenClip) -> tuple[Config, State]:
    """A whole OpenCLIP model: the image encoder from a Birder checkpoint, the text encoder from an OpenCLIP model.

    Parameters
    ----------
    network
        The registered network of the checkpoint.
    checkpoint
        A CLIP image encoder in the Birder format.
    text_from
        The model whose text encoder and temperature go with it.

    Returns
    -------
    The configuration and the tensors by OpenCLIP's names.

    Raises
    ------
    WeightsError
        The checkpoint is not a CLIP image encoder, or the two encoders do not belong to the same model.
    """
    config = network_spec(network).config | (checkpoint.config or {})
    model = text_from.model_config
    if (
        not is_of_openclip(network)
        or "classifier.weight" not in checkpoint.state
        or "classifier.bias" in checkpoint.state
    ):
        raise WeightsError(
            f"This {network} is not a CLIP image encoder, which is an EfficientNet-Lite0 or has a LayerNorm before its "
            "blocks, and has a classifier without bias, CLIP's projection."
        )
    embed_dim = int(checkpoint.state["classifier.weight"].shape[0])
    text_act = "quick_gelu" if model.get("quick_gelu") else "gelu"
    act = text_act if network in TRUNKS else config.get("act_layer_type", "gelu")
    if embed_dim != model["embed_dim"] or act != text_act:
        raise WeightsError(
            f"The image encoder ({embed_dim}-dimensional, {act}) and the text encoder of {text_from.source} "
            f"({model['embed_dim']}-dimensional, {text_act}) do not belong to the same model. Name with "
            f"--text-from the model "
            "that the image encoder came from."
        )
    vision = _vision_config(network, config, get_size_from_signature(checkpoint.signature))
    preprocess = text_from.preprocess_config | {k: list(checkpoint.rgb_stats[k]) for k in ("mean", "std")}
    if "size" in preprocess:
        preprocess["size"] = vision["image_size"]
    text = {key: value for key, value in text_from.state.items() if not key.startswith("visual.")}
    image = _image_state_to_openclip(network, checkpoint.state)
    return {"model_cfg": model | {"vision_cfg": vision}, "preprocess_cfg": preprocess}, image | text


def is_of_openclip(network: str) -> bool:
    """Whether OpenCLIP has such an image encoder: a pre-norm ViT, or one that it takes from timm."""
    return network in TRUNKS or bool(network_spec(network).config.get("pre_norm"))


def _vision_config(network: str, config: Config, size: tuple[int, int]) -> Config:
    """OpenCLIP's `vision_cfg` of a network with a configuration and an input (height, width)."""
    if network in TRUNKS:
        return vision_config(network, size)
    dim, mlp_dim = config["hidden_dim"], config["mlp_dim"]
    return {
        "image_size": size[0] if size[0] == size[1] else list(size),
        "layers": config["num_layers"],
        "width": dim,
        "head_width": dim // config["num_heads"],
        "patch_size": config["patch_size"],
        # OpenCLIP truncates width * mlp_ratio: half a unit above is safe from rounding.
        "mlp_ratio": mlp_dim / dim if mlp_dim % dim == 0 else (mlp_dim + 0.5) / dim,
    }


def clip_config(network: str, config: Config, size: tuple[int, int], embed_dim: int, text: Config) -> Config:
    """`open_clip_config.json` of a CLIP, without what is said of the preparation of images.

    Parameters
    ----------
    network, config
        The registered network of the image encoder, and what differs from its registered configuration.
    size
        Its input (height, width).
    embed_dim
        The dimension that both encoders share.
    text
        OpenCLIP's `text_cfg`.
    """
    merged = network_spec(network).config | config
    vision = _vision_config(network, merged, size)
    quick = {"quick_gelu": True} if merged.get("act_layer_type") == "quick_gelu" else {}
    return {"model_cfg": {"embed_dim": embed_dim, **quick, "vision_cfg": vision, "text_cfg": text}}


def clip_state(network: str, image: State, text: State, log_scale: torch.Tensor) -> State:
    """The tensors of a CLIP by OpenCLIP's names, from Birder's for both encoders; the inverse of reading them."""
    return {
        **_image_state_to_openclip(network, image),
        **_text_state_to_openclip(text),
        "logit_scale": log_scale.reshape(()),
    }


def _image_state_to_openclip(network: str, state: State) -> State:
    if network in TRUNKS:
        return trunk_to_openclip(state)
    renamed = _renamed_back(state, _IMAGE_NAMES, "encoder.block.", _layout_back)
    return {f"visual.{key}": value for key, value in renamed.items()}


def _text_state_to_openclip(state: State) -> State:
    return _renamed_back(state, _TEXT_NAMES, "block.", _text_layout)


def _renamed_back(
    state: State, names: dict[str, str], block: str, back: Callable[[str, torch.Tensor], torch.Tensor]
) -> State:
    names = {new: old for old, new in names.items()}
    block_names = {new: old for old, new in _BLOCK_NAMES.items()}
    renamed: State = {}
    for key, value in state.items():
        if key in names:
            renamed[names[key]] = back(names[key], value)
        else:
            index, name = key.removeprefix(block).split(".", 1)
            renamed[f"transformer.resblocks.{index}.{block_names[name]}"] = value
    return renamed


def _layout_back(key: str, value: torch.Tensor) -> torch.Tensor:
    if key == "class_embedding":
        return value.flatten()
    if key == "positional_embedding":
        return value.squeeze(0)
    return value.t().contiguous() if key == "proj" else value


def write_openclip(folder: Path, config: Config, state: State) -> Path:
    """Write a folder in OpenCLIP's layout: `open_clip_config.json` and `open_clip_model.safetensors`."""
    with replacing_folder(folder) as draft:
        write_safetensors(draft / SAFETENSORS_FILE, {key: value.contiguous() for key, value in state.items()}, {})
        (draft / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    return folder
