"""Classifiers as files: a checkpoint of a whole network with the classifier as its head, or the head detached.

The checkpoint (`.pt`, `.safetensors`) is one in the Birder format, which the published package loads too. A detached
head, `NAME.head.safetensors`, has the tensors `weight` (C, D), `bias` (C,) and, where there are any, `examples` (M, D)
int8; in its metadata `format`, `birder_version`, and as JSON `classes` and `adaptation`. Both name their backbone by
the sha256 of its tensors, `adaptation["backbone"]["sha256"]`, so that head and backbone are recognised apart.

C is the number of classes, D the embedding dimension, M the number of examples.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from torch import nn

from birder.errors import ConfigError, WeightsError
from birder.files import replacing
from birder.net.base import Backbone
from birder.registry import HEAD_ENDING, TASK, network_spec
from birder.version import __version__
from birder.weights.backbone import backbone_sha256
from birder.weights.checkpoint import (
    MAX_EXAMPLE_BYTES,
    Checkpoint,
    check_examples,
    get_channels_from_signature,
    get_size_from_signature,
    make_signature,
    read_checkpoint,
    read_json,
    write_checkpoint,
    write_safetensors,
)
from birder.weights.hub import check_is_file
from birder.weights.load import LoadedModel, ModelInfo

_FORMAT = "birder-head-1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Head:
    """A linear classifier on embeddings, as a file holds it.

    Attributes
    ----------
    classes
        C names.
    weight, bias
        float32 (C, D) and (C,): logits are `embeddings @ weight.T + bias`.
    adaptation
        What `birder adapt` recorded; empty for the classifier of any other checkpoint.
    examples
        int8 (M, D), directions of training embeddings; None if there are none.
    """

    classes: tuple[str, ...]
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    adaptation: Mapping[str, Any] = field(default_factory=dict)
    examples: npt.NDArray[np.int8] | None = None

    @property
    def backbone(self) -> dict[str, Any]:
        """What is known of its backbone: name, network, sha256, weights_sha256, dimension; empty if it is not told."""
        return dict(self.adaptation.get("backbone") or {})


def save_head(path: str | Path, head: Head, *, model: LoadedModel | None) -> Path:
    """Write a classifier to a file, whole or not at all; of the same classifier always the same bytes.

    Parameters
    ----------
    path
        For a checkpoint, ends in .pt or .safetensors. For a detached head, NAME.head.safetensors or NAME.safetensors,
        which becomes NAME.head.safetensors.
    head
        The classifier.
    model
        The network whose embeddings it takes, whose own classifier it replaces in the checkpoint; None for a detached
        head.

    Returns
    -------
    The file that was written.

    Raises
    ------
    ConfigError
        The ending is not one of these, or there are more examples than fit into a file.
    WeightsError
        The classifier was not made for this network.
    """
    path = Path(path)
    if head.examples is not None and head.examples.size > MAX_EXAMPLE_BYTES:
        raise ConfigError(
            f"{len(head.examples):,} examples of {head.examples.shape[1]} dimensions are more than a file takes: keep "
            f"at most {MAX_EXAMPLE_BYTES // head.examples.shape[1]:,}."
        )
    if model is None:
        return _save_detached(path, head)
    if path.name.endswith(HEAD_ENDING):
        raise ConfigError(f"{path} is the name of a detached head: end that of a checkpoint in .safetensors or .pt.")
    state = {key: value for key, value in model.net.state_dict().items() if not key.startswith("classifier.")}
    sha256 = backbone_sha256(state)
    named = head.backbone.get("sha256")
    if named not in (None, sha256) or head.weight.shape[1] != model.net.embedding_size:
        raise WeightsError(
            f"The classifier takes {_named(head.backbone)}, not {model.name} (backbone sha256 {sha256[:12]}): it "
            "cannot become that network's head."
        )
    state |= {"classifier.weight": torch.from_numpy(head.weight), "classifier.bias": torch.from_numpy(head.bias)}
    signature = model.info.signature
    adaptation = {**head.adaptation, "backbone": {**head.backbone, "sha256": sha256}} if head.adaptation else None
    checkpoint = Checkpoint(
        state=state,
        signature=make_signature(
            get_size_from_signature(signature), len(head.classes), get_channels_from_signature(signature)
        ),
        class_to_idx={str(name): index for index, name in enumerate(head.classes)},  # str: NumPy's would be pickled
        rgb_stats={key: [float(each) for each in value] for key, value in model.info.rgb_stats.items()},
        config=_config(model),
        network=model.network,
        adaptation=adaptation,
        examples=None if head.examples is None else torch.from_numpy(head.examples),
    )
    return write_checkpoint(path, checkpoint)


def load_head(path: str | Path) -> Head:
    """Read the classifier of a checkpoint that has class names, or a detached head.

    Raises
    ------
    WeightsError
        The file is missing, damaged or of another kind, its classifier is not one linear layer, or it has no class
        names.
    """
    path = Path(path)
    if path.name.endswith(HEAD_ENDING):
        return _load_detached(path)
    return head_of(read_checkpoint(path), path)


def head_of(checkpoint: Checkpoint, path: Path) -> Head:
    """The classifier of a checkpoint; raises as `load_head`."""
    if checkpoint.task != TASK:
        raise WeightsError(f"{path} is for {checkpoint.task}: it has no classifier of whole images.")
    if not checkpoint.class_to_idx:
        raise WeightsError(
            f"{path} has no class names: its outputs are image features. Learn a classifier on its embeddings: "
            "birder adapt COLLECTION --column COLUMN --to FILE"
        )
    weight, bias = (checkpoint.state.get(f"classifier.{name}") for name in ("weight", "bias"))
    if weight is None:
        raise WeightsError(
            f"{path}: its classifier is not one linear layer, so it cannot be applied to embeddings. Name its images: "
            f"birder classify IMAGE --model {path}"
        )
    names = {index: name for name, index in checkpoint.class_to_idx.items()}
    classes = [names.get(index, str(index)) for index in range(len(weight))]
    examples = None if checkpoint.examples is None else checkpoint.examples.numpy()
    return _checked(classes, weight, bias, checkpoint.adaptation or {}, examples, path)


def with_head(model: LoadedModel, head: Head, name: str, sha256: str) -> LoadedModel:
    """A loaded network with another classifier, which is put into the network itself.

    Parameters
    ----------
    model
        The network, for inference.
    head
        The classifier.
    name, sha256
        Of the file that the classifier is from.
    """
    classifier = nn.Linear(head.weight.shape[1], len(head.classes))
    classifier.load_state_dict({"weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias)})
    net: Backbone = model.net
    net.num_classes = len(head.classes)
    net.classifier = classifier.to(next(net.parameters()).device).eval().requires_grad_(False)
    signature = model.info.signature
    info = ModelInfo(
        {name: index for index, name in enumerate(head.classes)},
        make_signature(get_size_from_signature(signature), len(head.classes), get_channels_from_signature(signature)),
        model.info.rgb_stats,
        _config(model),
    )
    return replace(model, name=name, sha256=sha256, info=info)


def published_note(network: str) -> str | None:
    """What must be said of a checkpoint of a network that the published package lacks; None if it has the network."""
    counterpart = network_spec(network).published_as
    if counterpart is None:
        return None
    return (
        f"The published birder package has no {network}, so this checkpoint loads in this Birder only; there the "
        f"nearest network, {counterpart}, computes differently."
    )


def _named(backbone: Mapping[str, Any]) -> str:
    name, sha256 = backbone.get("name", "an unknown model"), backbone.get("sha256")
    return f"embeddings of {name}{f' (backbone sha256 {sha256[:12]})' if sha256 else ''}"


def _config(model: LoadedModel) -> dict[str, Any] | None:
    """The network's configuration with a plain linear classifier that has a bias."""
    config = dict(model.info.custom_config or {})
    whole = network_spec(model.network).config | config
    for key, plain in (("head_bias", True), ("mlp_head", False)):
        if whole.get(key, plain) != plain:
            config[key] = plain
    return config or None


def _save_detached(path: Path, head: Head) -> Path:
    if not path.name.endswith(".safetensors"):
        raise ConfigError(f"{path} is not the name of a detached head: end it in {HEAD_ENDING}.")
    path = path.with_name(path.name.removesuffix(".safetensors").removesuffix(".head") + HEAD_ENDING)
    tensors = {"weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias)}
    if head.examples is not None:
        tensors["examples"] = torch.from_numpy(head.examples)
    metadata = {
        "format": _FORMAT,
        "birder_version": f"v{__version__}",
        "classes": json.dumps(list(head.classes)),
        "adaptation": json.dumps(dict(head.adaptation), sort_keys=True, allow_nan=False),
    }
    with replacing(path) as draft:
        write_safetensors(draft, {key: value.contiguous() for key, value in tensors.items()}, metadata)
    return path


def _load_detached(path: Path) -> Head:
    check_is_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise WeightsError(
                    f"{path} is not a detached head ({_FORMAT}), though its name ends as one's: rename it, or get it "
                    "again from whoever made it."
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, OSError, ValueError, OverflowError, RuntimeError) as error:
        raise WeightsError(
            f"{path} is truncated or not a safetensors file ({error}). Get it again from whoever made it."
        ) from error
    if set(tensors) - {"weight", "bias", "examples"} or not {"weight", "bias"} <= set(tensors):
        raise WeightsError(f"{path} is damaged: a detached head has the tensors weight, bias and, at most, examples.")
    try:
        classes = json.loads(metadata.get("classes", ""))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: its classes are not JSON. Fetch it again.") from error
    weight, examples = tensors["weight"], tensors.get("examples")
    if examples is not None and weight.ndim == 2:
        check_examples(examples, weight.shape[1], path)
    return _checked(
        classes,
        weight,
        tensors["bias"],
        read_json(metadata.get("adaptation"), "adaptation", path),
        None if examples is None else examples.numpy(),
        path,
    )


def _checked(
    classes: Any,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    adaptation: dict[str, Any],
    examples: npt.NDArray[np.int8] | None,
    path: Path,
) -> Head:
    """A head whose parts fit one another; `WeightsError` if they do not."""
    wrong = _wrong(classes, weight, bias) or (_wrong_adaptation(adaptation, classes, weight.shape[1]))
    if wrong:
        raise WeightsError(f"{path} is damaged: {wrong}. Get it again from whoever made it.")
    zeros = torch.zeros(len(weight)) if bias is None else bias
    # Copies: tensors may lie in the file itself, which another program may change.
    kept = None if examples is None else examples.copy()
    return Head(tuple(classes), weight.float().numpy().copy(), zeros.float().numpy().copy(), adaptation, kept)


def _wrong(classes: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> str | None:
    if weight.ndim != 2 or not min(weight.shape) or not weight.is_floating_point():
        return f"its classifier's weight, {tuple(weight.shape)} {weight.dtype}, is not a table of numbers"
    if bias is not None and (bias.shape != weight.shape[:1] or not bias.is_floating_point()):
        return f"its classifier's bias, {tuple(bias.shape)}, does not fit {len(weight)} outputs"
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        return "its classes are not a list of names"
    if len(classes) != len(weight) or len(set(classes)) != len(classes):
        return f"it has {len(set(classes))} names for {len(weight)} classes"
    if not (weight.isfinite().all() and (bias is None or bias.isfinite().all())):
        return "its classifier has values that are not finite"
    return None


def _wrong_adaptation(adaptation: dict[str, Any], classes: list[str], dimension: int) -> str | None:
    """What in the record of `birder adapt` could not be used; None if nothing, or if there is none."""
    backbone = adaptation.get("backbone")
    if adaptation and not isinstance(backbone, dict):
        return "it does not name its backbone"
    if isinstance(backbone, dict):
        if backbone.get("dimension") != dimension:
            return f"its backbone is said to give {backbone.get('dimension')!r} dimensions, its classifier {dimension}"
        if not all(isinstance(backbone.get(key), str | None) for key in ("name", "network")):
            return "its backbone has no name"
        sums = [backbone.get(key) for key in ("sha256", "weights_sha256")]
        if not all(each is None or (isinstance(each, str) and _SHA256.fullmatch(each)) for each in sums):
            return "the sha256 of its backbone is not one"
    metrics = adaptation.get("metrics") or {}
    if not (
        isinstance(metrics, dict) and all(isinstance(each, dict) and _is_estimate(each) for each in metrics.values())
    ):
        return "its metrics are not estimates"
    unknown, conformal, ranks = (adaptation.get(key) for key in ("unknown", "conformal", "ranks"))
    if unknown is not None and not (
        isinstance(unknown, dict)
        and type(unknown.get("k")) is int
        and 1 <= unknown["k"] <= 1_000_000
        and _is_number(unknown.get("threshold"))
    ):
        return "its threshold of the unknown is not a number"
    if conformal is not None and not (
        isinstance(conformal, dict)
        and _is_number(conformal.get("level"))
        and _are_quantiles(conformal.get("quantiles"), classes)
    ):
        return "its conformal quantiles are not numbers"
    if ranks is not None and not _are_ranks(ranks):
        return "its ranks are not a taxonomy"
    return None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_estimate(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_number(value.get("estimate")):
        return False
    return all(value.get(end) is None or _is_number(value[end]) for end in ("low", "high"))


def _are_quantiles(value: Any, classes: list[str]) -> bool:
    if isinstance(value, dict):
        return all(_is_number(value.get(name)) for name in classes)
    return _is_number(value)


def _are_ranks(ranks: Any) -> bool:
    if not isinstance(ranks, dict):
        return False
    names, taxa, thresholds = (ranks.get(key) for key in ("names", "taxa", "thresholds"))
    return (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(taxa, dict)
        and all(
            isinstance(each, dict) and all(isinstance(taxon, str | None) for taxon in each.values())
            for each in taxa.values()
        )
        and isinstance(thresholds, dict)
        and all(
            isinstance(each, dict)
            and all(
                isinstance(measured, dict) and _is_number(measured.get("precision")) and _is_number(measured.get("n"))
                for measured in each.values()
            )
            for each in thresholds.values()
        )
    )
