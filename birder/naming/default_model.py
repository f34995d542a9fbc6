"""The default model that names images: BioCLIP 2, once it is on this machine."""

from __future__ import annotations

from birder.errors import ConfigError
from birder.registry import DEFAULT_CLIP
from birder.weights.resolve import Model, resolve


def default_clip() -> Model:
    """The default model.

    Raises
    ------
    ConfigError
        It is not on this machine: large files are fetched only for users who ask for them.
    """
    model = resolve(DEFAULT_CLIP)
    if not model.text_encoder_is_here():
        raise ConfigError(
            f"The default model, {model.openclip}, is not on this machine. Fetch it once by naming it: "
            f"--model {model.openclip} (or a smaller one: --model imageomics/bioclip). Labelled images name others "
            "without texts and without a network: birder predict IMAGE --like COLLECTION"
        )
    return model
