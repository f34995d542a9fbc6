"""The model that names photographs where none is named: BioCLIP 2, once it is on this machine."""

from __future__ import annotations

from birder.errors import ConfigError
from birder.weights.openclip import CONFIG_FILE, PICKLE_FILE, SAFETENSORS_FILE

DEFAULT_CLIP = "imageomics/bioclip-2"


def is_here(repository: str) -> bool:
    """Whether a model in OpenCLIP's layout is in the hub's cache on this machine. Nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache

    def has(name: str) -> bool:
        return isinstance(try_to_load_from_cache(repository, name), str)

    return has(CONFIG_FILE) and (has(SAFETENSORS_FILE) or has(PICKLE_FILE))


def default_clip() -> str:
    """The name of the default model.

    Raises
    ------
    ConfigError
        It is not on this machine: large files are fetched only for who asks for them.
    """
    if not is_here(DEFAULT_CLIP):
        raise ConfigError(
            f"Without --model, {DEFAULT_CLIP} names photographs, and it is not on this machine. Fetch it once by "
            f"naming it: --model {DEFAULT_CLIP} (or a smaller one: --model imageomics/bioclip). Without texts and "
            "without a network, labelled photographs do: birder predict IMAGE --like COLLECTION"
        )
    return DEFAULT_CLIP
