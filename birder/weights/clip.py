"""CLIP models by a user's word for them, in Birder's form and in that of open_clip."""

from __future__ import annotations

from pathlib import Path

import torch

from birder.errors import ConfigError
from birder.images.transform import ClassificationTransform
from birder.net.tokenizer import CONTEXT_LENGTH, ClipTokenizer
from birder.weights.loaded_clip import LoadedClip
from birder.weights.openclip_files import fetch_config, read_config
from birder.weights.resolve import resolve

__all__ = ["LoadedClip", "create_model_and_transforms", "get_tokenizer", "load_clip"]


def load_clip(name_or_path: str | Path, *, device: torch.device | str | None = None) -> LoadedClip:
    """Load a CLIP model, image encoder and text encoder, from OpenCLIP's layout.

    Parameters
    ----------
    name_or_path
        A folder, a hub repository (`imageomics/bioclip`, or `hf-hub:imageomics/bioclip`), or registered weights that
        have a text encoder (`vit_b16_pn_bioclip-v1`, which belongs to `imageomics/bioclip`).
    device
        Where to run; default: the CPU.

    Raises
    ------
    UnknownNameError
        No such model.
    HubError
        The hub is out of reach or has no such model.
    NoTextEncoderError
        The model is an image encoder alone.
    WeightsError
        The text encoder is of a kind that Birder does not support, or the files are damaged.
    """
    return resolve(name_or_path).load_clip(device=device)


def create_model_and_transforms(
    model_name: str | Path, pretrained: str | None = None, *, device: torch.device | str | None = None
) -> tuple[LoadedClip, None, ClassificationTransform]:
    """`load_clip` in open_clip's form, for code that was written for it.

    Parameters
    ----------
    model_name
        As in `load_clip`, or as open_clip has it: `hf-hub:imageomics/bioclip`, `local-dir:FOLDER`.
    pretrained
        Must be left out: a folder or repository has its own weights.
    device
        Where to run; default: the CPU.

    Returns
    -------
    The model, None in place of the transform for training, and the transform for inference.

    Raises
    ------
    ConfigError
        `pretrained` is given.
    UnknownNameError, HubError, WeightsError
        As in `load_clip`.
    """
    if pretrained:
        raise ConfigError(
            f"Birder does not combine an architecture with weights by name (pretrained={pretrained!r}): name a "
            "folder, a hub repository (hf-hub:imageomics/bioclip) or registered weights, and leave out pretrained."
        )
    clip = load_clip(model_name, device=device)
    return clip, None, clip.transform


def get_tokenizer(model_name: str | Path) -> ClipTokenizer:
    """The tokenizer of a model, by its configuration alone. model_name: as in `create_model_and_transforms`.

    Raises
    ------
    UnknownNameError, HubError, WeightsError
        As in `load_clip`.
    """
    config = read_config(fetch_config(resolve(model_name).text_encoder()))
    return ClipTokenizer((config["model_cfg"].get("text_cfg") or {}).get("context_length", CONTEXT_LENGTH))
