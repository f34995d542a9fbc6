"""Birder: embeddings, names and search for photographs of organisms.

The documented interface. Everything is imported when it is first used, so `import birder` itself costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from birder.version import __version__

if TYPE_CHECKING:
    from birder.collection.api import Collection, open_collection
    from birder.images.open import open_image
    from birder.images.transform import classification_transform
    from birder.registry import create_network, list_networks, list_pretrained_models, register_weights
    from birder.weights.checkpoint import (
        get_channels_from_signature,
        get_num_labels_from_signature,
        get_size_from_signature,
        save_model,
    )
    from birder.weights.clip import LoadedClip, create_model_and_transforms, get_tokenizer, load_clip
    from birder.weights.load import (
        ModelInfo,
        load_model,
        load_model_with_cfg,
        load_pretrained_model,
        load_pretrained_model_and_transform,
    )

_HOMES = {
    "birder.collection.api": ["Collection", "open_collection"],
    "birder.images.open": ["open_image"],
    "birder.images.transform": ["classification_transform"],
    "birder.registry": ["create_network", "list_networks", "list_pretrained_models", "register_weights"],
    "birder.weights.checkpoint": [
        "get_channels_from_signature",
        "get_num_labels_from_signature",
        "get_size_from_signature",
        "save_model",
    ],
    "birder.weights.clip": ["LoadedClip", "create_model_and_transforms", "get_tokenizer", "load_clip"],
    "birder.weights.load": [
        "ModelInfo",
        "load_model",
        "load_model_with_cfg",
        "load_pretrained_model",
        "load_pretrained_model_and_transform",
    ],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Collection",
    "LoadedClip",
    "ModelInfo",
    "__version__",
    "classification_transform",
    "create_model_and_transforms",
    "create_network",
    "get_channels_from_signature",
    "get_num_labels_from_signature",
    "get_size_from_signature",
    "get_tokenizer",
    "list_networks",
    "list_pretrained_models",
    "load_clip",
    "load_model",
    "load_model_with_cfg",
    "load_pretrained_model",
    "load_pretrained_model_and_transform",
    "open_collection",
    "open_image",
    "register_weights",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'birder' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
