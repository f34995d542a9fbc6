"""What is known of a model, for people: from the registry, or from a checkpoint file itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birder.errors import WeightsError
from birder.registry import DETECTION_TASK, HEAD_ENDING, list_networks, network_spec, registered_name, weights_spec
from birder.weights.hub import cached_file, sha256_of
from birder.weights.resolve import network_of_file


def describe_model(name: str) -> dict[str, Any]:
    """The facts of a model, each by its name: network, input, size, sha256, and where its file is.

    Nothing is fetched; a checkpoint file is read.

    Parameters
    ----------
    name
        A registered name, a hub repository of registered weights, a checkpoint file (.pt, .safetensors), or a detached
        head (NAME.head.safetensors).

    Raises
    ------
    UnknownNameError
        The name is not registered.
    WeightsError
        The file is not a checkpoint in the Birder format.
    """
    path = Path(name)
    if registered_name(name) is not None or path.suffix not in (".pt", ".safetensors"):
        return _of_weights(name)
    return _of_head(path) if path.name.endswith(HEAD_ENDING) else _of_file(path)


def _of_weights(name: str) -> dict[str, Any]:
    spec = weights_spec(name)
    path = cached_file(spec)
    return {
        "name": spec.name,
        "description": spec.description,
        "network": spec.network,
        "parameters": spec.parameters,
        "input": " x ".join(map(str, spec.resolution)) if spec.resolution else None,
        "detection features": _detection_features(spec.network, spec.config),
        "whole CLIP model": spec.openclip,
        "source": spec.repository or spec.package or spec.path,
        "file": spec.file or None,
        "size in MiB": spec.size_mib if spec.size_mib or path is None else round(path.stat().st_size / 2**20, 1),
        "sha256": spec.sha256 or ("installed with the package, which pip has checked" if spec.module else None),
        "licence": spec.license,
        "citation": spec.citation,
        "cached at": str(path) if path else f"not on this machine: birder fetch {spec.name}",
    }


def _of_file(path: Path) -> dict[str, Any]:
    from birder.weights.checkpoint import (  # torch comes with it
        get_num_labels_from_signature,
        get_size_from_signature,
        read_checkpoint,
    )
    from birder.weights.head import head_of

    checkpoint = read_checkpoint(path)
    try:
        network = checkpoint.network or network_of_file(path)
    except WeightsError:
        network = None
    is_detector = checkpoint.task == DETECTION_TASK
    config = (checkpoint.backbone_config if is_detector else checkpoint.config) or {}
    return {
        "file": str(path),
        "network": network or "unknown: neither the file nor its name says it",
        "task": checkpoint.task,
        "parameters": sum(value.numel() for value in checkpoint.state.values()),
        "input": " x ".join(map(str, get_size_from_signature(checkpoint.signature))),
        "outputs": get_num_labels_from_signature(checkpoint.signature),
        "detection features": _detection_features(network, config, is_detector) if network else None,
        "class names": len(checkpoint.class_to_idx),
        **(_adapted(head_of(checkpoint, path).adaptation) if checkpoint.adaptation else {}),
        "rgb mean": ", ".join(f"{v:.4f}" for v in checkpoint.rgb_stats["mean"]),
        "rgb std": ", ".join(f"{v:.4f}" for v in checkpoint.rgb_stats["std"]),
        "configuration": str(checkpoint.config) if checkpoint.config else None,
        "written by birder": checkpoint.birder_version,
        "size in MiB": round(path.stat().st_size / 2**20, 1),
        "sha256": sha256_of(path),
    }


def _of_head(path: Path) -> dict[str, Any]:
    from birder.weights.head import load_head

    head = load_head(path)
    backbone = head.backbone
    return {
        "file": str(path),
        "backbone": backbone.get("name"),
        "backbone's network": backbone.get("network"),
        "backbone's sha256": backbone.get("sha256"),
        "embedding dimension": head.weight.shape[1],
        "class names": len(head.classes),
        **_adapted(head.adaptation),
        "size in MiB": round(path.stat().st_size / 2**20, 1),
        "sha256": sha256_of(path),
    }


def _adapted(adaptation: Mapping[str, Any]) -> dict[str, Any]:
    """What `birder adapt` or `birder train` recorded: the column that was learned, and the accuracy measured."""
    if not adaptation:
        return {}
    top1 = (adaptation.get("metrics") or {}).get("top1") or {}
    estimate, low, high = (top1.get(key) for key in ("estimate", "low", "high"))
    shown = None if estimate is None else f"{estimate:.1%}"
    if shown is not None and low is not None and high is not None:
        shown += f" ({low:.1%} to {high:.1%})"
    measured = "accuracy on validation images" if "trained_from" in adaptation else "cross-validated accuracy"
    return {"learned from column": adaptation.get("column"), measured: shown}


def _detection_features(network: str, config: dict[str, Any], is_detector: bool = False) -> str | None:
    """Which maps the network gives a detector, and how the published package differs."""
    if network not in list_networks():
        return None
    own = network_spec(network).config | config
    if "patch_size" not in own:
        return "stage1 to stage4, strides 4 to 32"
    indices = own.get("out_indices")
    if indices is not None:
        stages = [f"stage{i + 1}" for i in range(len(indices))]
        return f"{', '.join(stages)}: after the blocks {', '.join(map(str, indices))}, before the final norm"
    if is_detector:
        return "stage1: after the last block, before the final norm, as it was trained"
    return "neck, after the final norm (the published package gives stage1, before it: out_indices = [-1])"
