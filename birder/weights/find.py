"""From what a user calls a model to the file that holds it, without reading it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from birder.errors import WeightsError, unknown_name
from birder.registry import (
    HUB_PREFIX,
    WeightsSpec,
    list_networks,
    list_pretrained_models,
    registered_name,
    weights_spec,
)
from birder.weights.hub import check_is_file, fetch, sha256_of


class FoundModel(NamedTuple):
    """A model on this machine: its name, network, checkpoint and sha256; `spec` if the registry knows it."""

    name: str
    network: str
    path: Path
    sha256: str
    spec: WeightsSpec | None


def find_model(name_or_path: str) -> FoundModel:
    """Find registered weights by any name of theirs (fetching them if need be), or a checkpoint file by its path.

    The network of a file is read from its name (`vit_b16_pn_mine.pt` is a `vit_b16_pn`), as the published package
    names its files.

    Raises
    ------
    UnknownNameError
        Neither a registered name nor a checkpoint file.
    WeightsError
        A file whose name tells no network, or as `fetch`.
    """
    name = registered_name(name_or_path)
    if name is not None:
        spec = weights_spec(name)
        path = fetch(spec)
        return FoundModel(name, spec.network, path, spec.sha256 or sha256_of(path), spec)
    if name_or_path.startswith(HUB_PREFIX):
        repository = name_or_path.removeprefix(HUB_PREFIX)
        raise WeightsError(
            f"{repository} is not registered: make its image encoder a checkpoint first, with birder convert "
            f"{repository} NETWORK_NAME.safetensors, and name that file. Registered: "
            f"{', '.join(list_pretrained_models())}."
        )
    path = Path(name_or_path)
    if path.suffix not in (".pt", ".safetensors") or not path.exists():
        raise unknown_name("model", name_or_path, list_pretrained_models())
    check_is_file(path)
    return FoundModel(path.stem, network_of_file(path), path, sha256_of(path), None)


def pinned_sha256(word: str) -> str | None:
    """The sha256 that the registry has for weights, told without fetching them; None for others."""
    name = registered_name(word)
    return None if name is None else weights_spec(name).sha256


def network_of_file(path: Path) -> str:
    """The registered network whose name a checkpoint file's name begins with."""
    fitting = [name for name in list_networks() if path.stem == name or path.stem.startswith(f"{name}_")]
    if not fitting:
        raise WeightsError(
            f"Cannot tell the network of {path}: begin the file's name with it, as in vit_b16_pn_mine{path.suffix}. "
            f"Networks: {', '.join(list_networks())}."
        )
    return max(fitting, key=len)
