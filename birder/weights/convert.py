"""Conversion of files between OpenCLIP's layout and the Birder format, and the check that both compute the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from birder.errors import ConfigError, WeightsError
from birder.images.open import open_image
from birder.images.transform import classification_transform
from birder.registry import network_spec, registered_name, weights_spec
from birder.weights.checkpoint import get_size_from_signature, read_checkpoint, write_checkpoint
from birder.weights.hub import fetch
from birder.weights.load import load_model
from birder.weights.openclip import State, read_openclip, read_state
from birder.weights.openclip_convert import to_birder, to_openclip, write_openclip
from birder.weights.openclip_files import OPENAI_RGB, SAFETENSORS_FILE
from birder.weights.openclip_timm import TRUNKS
from birder.weights.openclip_verify import openclip_image_features
from birder.weights.resolve import network_of_checkpoint

TOLERANCE = 1e-4
"""The largest difference of features of a sound conversion, as a share of the largest feature."""


@dataclass(frozen=True)
class Converted:
    """The same image encoder in both formats, one of them just written.

    Attributes
    ----------
    network
        The registered network.
    checkpoint
        The checkpoint in the Birder format.
    weights, state
        OpenCLIP's file, and its tensors by OpenCLIP's names.
    what
        What was written, for people.
    notes
        What the user should know about it.
    """

    network: str
    checkpoint: Path
    weights: Path
    state: State
    what: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """How far the features of one image are apart: the largest difference, and the largest feature."""

    largest: float
    scale: float

    @property
    def is_rounding(self) -> bool:
        """Whether the difference is no more than rounding; a NaN is more."""
        return self.largest <= TOLERANCE * self.scale


def openclip_to_birder(source: str, dest: Path, network: str | None = None) -> Converted:
    """Write the image encoder of an OpenCLIP model as a checkpoint in the Birder format.

    Parameters
    ----------
    source
        A hub repository or folder in OpenCLIP's layout, or a bare checkpoint.
    dest
        The file to write: .pt or .safetensors.
    network
        The registered network of a bare checkpoint.

    Raises
    ------
    ConfigError
        `dest` is not the name of a checkpoint.
    WeightsError
        The source is not in OpenCLIP's layout, or its image encoder is of a kind that Birder does not support.
    """
    if dest.suffix not in (".pt", ".safetensors"):
        raise ConfigError(f"{dest} is not the name of a checkpoint: end it in .pt or .safetensors.")
    openclip = read_openclip(source)
    name, checkpoint = to_birder(openclip, network)
    write_checkpoint(dest, checkpoint)
    notes = []
    if openclip.config is None:
        notes.append(
            f"A bare checkpoint does not say how its images were normalised: mean {OPENAI_RGB['mean']}, "
            f"std {OPENAI_RGB['std']} (OpenAI's) were written."
        )
    if not _names_network(dest, name):
        notes.append(
            f"The file's name begins with that of another network: call it {name}_{dest.name} to use it with --model."
        )
    what = f"{name}, {checkpoint.signature['outputs'][0]['data_shape'][1]} outputs"
    return Converted(name, dest, openclip.weights_path, openclip.state, what, tuple(notes))


def _names_network(path: Path, network: str) -> bool:
    try:
        return network_of_checkpoint(path) == network
    except WeightsError:
        return False


def birder_to_openclip(source: str, dest: Path, text_from: str, network: str | None = None) -> Converted:
    """Write an OpenCLIP model: the image encoder of a Birder checkpoint, with the text encoder of an OpenCLIP model.

    Parameters
    ----------
    source
        A checkpoint in the Birder format, or a registered name.
    dest
        The folder to write.
    text_from
        The OpenCLIP model whose text encoder it gets.
    network
        The registered network of a checkpoint file whose name does not begin with it.

    Raises
    ------
    ConfigError
        `dest` is a file, or named like one.
    WeightsError
        The checkpoint is not a CLIP image encoder, or the two encoders are not of one model.
    """
    if dest.is_file() or dest.suffix in (".pt", ".safetensors", ".bin"):
        raise ConfigError(
            f"{dest} is not a folder: OpenCLIP's layout is a folder with a configuration and the weights."
        )
    if registered_name(source) is not None:
        spec = weights_spec(source)
        path, network = fetch(spec), spec.network
    else:
        path = Path(source)
    checkpoint = read_checkpoint(path)
    network = network or network_of_checkpoint(path)
    config, state = to_openclip(network, checkpoint, read_openclip(text_from))
    write_openclip(dest, config, state)
    weights = dest / SAFETENSORS_FILE
    return Converted(network, path, weights, read_state(weights), f"an OpenCLIP model with {len(state)} tensors")


def compare_features(converted: Converted, image: Path) -> Difference:
    """Embed an image with the Birder checkpoint and by OpenCLIP's arithmetic on its own tensors.

    Raises
    ------
    WeightsError
        The two differ by more than rounding: the conversion is wrong.
    ConfigError
        The network is one that open_clip takes from timm: its arithmetic is not written down here a second time.
    """
    if converted.network in TRUNKS:
        raise ConfigError(
            f"The features of {converted.network} cannot be verified here, only those of vision transformers: compare "
            f"them with open_clip's, which loads {converted.weights.parent}."
        )
    net, info = load_model(converted.network, converted.checkpoint, inference=True, dtype=torch.float32)
    transform = classification_transform(get_size_from_signature(info.signature), info.rgb_stats)
    x = transform(open_image(image)).unsqueeze(0)
    config = network_spec(converted.network).config | (info.custom_config or {})
    with torch.inference_mode():
        ours = net(x)
        theirs = openclip_image_features(
            converted.state,
            x,
            num_heads=config["num_heads"],
            quick_gelu=config.get("act_layer_type") == "quick_gelu",
        )
    difference = Difference(float((ours - theirs).abs().max()), float(theirs.abs().max()))
    if not difference.is_rounding:
        raise WeightsError(
            f"{converted.checkpoint} does not compute what {converted.weights} does (largest difference "
            f"{difference.largest:.2e}, of features up to {difference.scale:.3g}): do not use it, and report this."
        )
    return difference
