"""The published package's small helpers, for code that imports them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birder.model_registry import registry
from birder.net.base import Backbone
from birder.version import __version__
from birder.weights import checkpoint
from birder.weights.checkpoint import get_channels_from_signature, get_size_from_signature

if TYPE_CHECKING:
    import torch

__all__ = [
    "class_list_from_class_to_idx",
    "class_to_idx_from_coco",
    "detection_class_to_idx",
    "device_to_str",
    "env_bool",
    "format_duration",
    "get_channels_from_signature",
    "get_detection_network_name",
    "get_label_from_path",
    "get_mim_network_name",
    "get_network_config",
    "get_network_name",
    "get_num_labels_from_signature",
    "get_size_from_signature",
]


def env_bool(name: str) -> bool:
    """Whether an environment variable says yes: 1, true, yes or on."""
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on")


def device_to_str(device: torch.device) -> str:
    """A device as text, "cuda:1"."""
    return str(device)


def get_num_labels_from_signature(signature: Mapping[str, Any]) -> int:
    """Number of classes, also in the signature of a detector."""
    if "num_labels" in signature:
        return int(signature["num_labels"])
    return checkpoint.get_num_labels_from_signature(dict(signature))


def get_label_from_path(path: str, hierarchical: bool = False, root: str = "", separator: str = "_") -> str:
    """The folder that a file is in; all folders below `root`, joined by `separator`, if `hierarchical`."""
    folder = Path(path).parent
    return separator.join(Path(os.path.relpath(folder, root)).parts) if hierarchical else folder.name


def get_network_name(network: str, tag: str | None = None) -> str:
    """What a network's files are called: its name, and the tag of its training behind it."""
    return network if tag is None else f"{network}_{tag}"


def get_mim_network_name(network: str, encoder: str, tag: str | None = None) -> str:
    """The same for a pre-training network around an encoder."""
    return f"{network}_{get_network_name(encoder, tag)}"


def get_detection_network_name(network: str, tag: str | None, backbone: str, backbone_tag: str | None) -> str:
    """The same for a detector on a backbone."""
    return f"{get_network_name(network, tag)}_{get_network_name(backbone, backbone_tag)}"


def class_list_from_class_to_idx(class_to_idx: Mapping[str, int]) -> list[str]:
    """Class names in the order of their indices."""
    return sorted(class_to_idx, key=class_to_idx.__getitem__)


def detection_class_to_idx(class_to_idx: dict[str, int]) -> dict[str, int]:
    """Make room for the background at index 0: every index grows by one, in the dictionary itself."""
    class_to_idx.update({name: index + 1 for name, index in class_to_idx.items()})
    return class_to_idx


def class_to_idx_from_coco(cats: Mapping[int, Mapping[str, Any]]) -> dict[str, int]:
    """Class name -> index, in the order of the ids of COCO's categories."""
    return {cat["name"]: index for index, cat in enumerate(sorted(cats.values(), key=lambda cat: cat["id"]))}


def get_network_config(net: Backbone, signature: Mapping[str, Any], rgb_stats: Mapping[str, Any]) -> dict[str, Any]:
    """What `load_model_with_cfg` builds the network from again."""
    return {
        "birder_version": __version__,
        "name": registry.get_model_base_name(net),
        "registered_name": registry.get_registered_name(net),
        "task": net.task,
        "model_config": net.config,
        "signature": signature,
        "rgb_stats": rgb_stats,
    }


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds: "1:02:03"."""
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"
