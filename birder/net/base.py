"""The contract that every network keeps."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from birder.errors import ConfigError, unknown_name


class Backbone(nn.Module):
    """A network that turns images into features, one embedding each, and logits.

    A network defines `forward_features` and `embedding_from_features`; one that a detector stands on also
    `detection_features` and `freeze_stages`. Names and the order of arguments are those of the published package, so
    that its users' networks and code run here.

    Throughout, B is the batch, H x W the input in pixels, D the embedding dimension, N the number of classes, F the
    channels of the features.

    Parameters
    ----------
    input_channels
        Channels of the input.
    num_classes
        N, outputs of the classifier; 0 for none.
    config
        What distinguishes the network from others of its class; it overrides the class's own `config`, if it has one.
    size
        Input (height, width) in pixels; default: `default_size`.

    Attributes
    ----------
    size, input_channels, num_classes, config
        As above, with defaults filled in.
    embedding_size
        D.
    feature_dim
        F.
    return_stages, return_channels
        Names and channel counts of the maps of `detection_features`.
    max_stride, stem_stride, stem_width
        Input pixels per cell of the features and of the stem's output, and the stem's channels.
    num_special_tokens
        Tokens of the features that are of no place in the image.
    block_group_regex
        Matches the names of a block's parameters, with the block's number as a group.
    detector_config
        What a detector of the published package takes for keys that its checkpoint's configuration leaves open.
    dynamic_size
        Whether inputs of other sizes than `size` are taken as they come (`set_dynamic_size`).
    network
        The registered name that `create_network` built it by; None if it was built from its class.
    """

    network: str | None = None
    task: ClassVar[str] = "image_classification"
    default_size: tuple[int, int] = (224, 224)
    square_only: ClassVar[bool] = False
    scriptable: ClassVar[bool] = False
    auto_register: ClassVar[bool] = False
    block_group_regex: ClassVar[str]
    detector_config: ClassVar[dict[str, Any]] = {}
    config: dict[str, Any]
    embedding_size: int
    feature_dim: int
    max_stride: int
    stem_stride: int
    stem_width: int
    num_special_tokens: int = 0
    return_stages: list[str]
    return_channels: list[int]
    features: nn.Module
    classifier: nn.Module

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        config: dict[str, Any] | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.config = copy.deepcopy(getattr(type(self), "config", {}) | (config or {}))
        self.dynamic_size = False
        self.num_classes = num_classes
        self.input_channels = input_channels
        self.size = self.default_size if size is None else (int(size[0]), int(size[1]))
        if num_classes < 0 or input_channels < 1 or min(self.size) < 1:
            raise ConfigError(
                f"Cannot build a network with {num_classes} classes, {input_channels} channels, size {self.size}."
            )

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Features before pooling, in the network's own shape. x: (B, C, H, W) float."""
        raise self._lacks("forward_features")

    def embedding_from_features(self, features: torch.Tensor) -> torch.Tensor:
        """One embedding per image, (B, D), of what `forward_features` gives."""
        raise self._lacks("embedding_from_features")

    def embedding(self, x: torch.Tensor) -> torch.Tensor:
        """One embedding per image, (B, D). x: (B, C, H, W) float."""
        return self.embedding_from_features(self.forward_features(x))

    def flatten_features(self, features: torch.Tensor, include_special_tokens: bool = True) -> torch.Tensor:
        """Features as tokens, (B, T, F): maps row by row; without the special tokens on request.

        Raises
        ------
        RuntimeError
            The features are neither maps (B, F, rows, columns) nor tokens.
        """
        if features.ndim == 4:
            return features.flatten(2).transpose(1, 2)
        if features.ndim == 3:
            return features if include_special_tokens else features[:, self.num_special_tokens :]
        raise RuntimeError(f"Features of shape {tuple(features.shape)} are neither maps nor tokens.")

    def detection_features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Maps for a detector, finest first: name -> (B, C, H/stride, W/stride). x: (B, C, H, W) float."""
        raise self._lacks("detection_features")

    @property
    def patch_shape(self) -> tuple[int, int, int] | None:
        """(rows, columns, D) of the patch tokens in `forward_features` behind the class token; None: it has none."""
        return None

    def adjust_size(self, new_size: tuple[int, int]) -> None:
        """Make the network take another input (height, width) in pixels."""
        self.size = (int(new_size[0]), int(new_size[1]))

    def set_dynamic_size(self, dynamic_size: bool = True) -> None:
        """Take inputs of any size that the network can take, without `adjust_size` for each."""
        self.dynamic_size = dynamic_size

    def adjust_input_channels(self, input_channels: int) -> None:
        """Make the network take another number of channels, e.g. 1 for infrared images.

        The first convolution's weights are summed for one channel, so that grey gives what grey in three channels gave;
        for others they are repeated in turn, and scaled to keep the size of what comes out.
        """
        if input_channels < 1:
            raise ConfigError(f"An input cannot have {input_channels} channels.")
        conv = self._get_input_conv()
        weight = conv.weight.detach().float()
        if input_channels == 1:
            weight = weight.sum(dim=1, keepdim=True)
        else:
            weight = weight[:, torch.arange(input_channels) % self.input_channels]
            weight = weight * (self.input_channels / input_channels)
        conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=conv.weight.requires_grad)
        conv.in_channels = self.input_channels = input_channels

    def _get_input_conv(self) -> nn.Conv2d:
        raise self._lacks("a first convolution")

    def set_grad_checkpointing(
        self,
        enable: bool = True,
        *,
        segments: int | None = None,
        preserve_rng_state: bool = True,
        use_reentrant: bool = False,
    ) -> None:
        """Recompute activations in the backward pass: less memory, more time. Values and gradients stay the same.

        Each block is recomputed by itself, whatever `segments` says; the rest is for `torch.utils.checkpoint`.
        """
        raise self._lacks("gradient checkpointing")

    def create_classifier(self, embed_dim: int | None = None, mlp_head: bool | None = None) -> nn.Module:
        """A fresh linear classifier, or the identity for 0 classes.

        The configuration's `head_bias=False` leaves out its bias, `mlp_head=True` sets a hidden layer before it;
        `embed_dim` and `mlp_head` override what the network has.
        """
        width = self.embedding_size if embed_dim is None else embed_dim
        bias = self.config.get("head_bias", True)
        if self.num_classes > 0 and (self.config.get("mlp_head", False) if mlp_head is None else mlp_head):
            hidden = 3 * width
            last = nn.Linear(hidden, self.num_classes, bias=bias)
            return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.LayerNorm(hidden, eps=1e-6), last)
        return make_classifier(width, self.num_classes, bias=bias)

    def strip_for_forward_features(self) -> None:
        """Drop the parameters that `forward_features` does not use."""
        if hasattr(self, "features"):
            self.features = nn.Identity()
        self.classifier = nn.Identity()

    def strip_for_detection_features(self) -> None:
        """Drop the parameters that `detection_features` does not use."""
        self.strip_for_forward_features()

    def freeze_stages(self, up_to_stage: int) -> None:
        """Turn gradients off in the stem, and in the body up to the map number `up_to_stage` (0: the stem alone)."""
        raise self._lacks("freeze_stages")

    def published_state(self) -> dict[str, torch.Tensor]:
        """Its parameters for the network that the registry names as `published_as`; else its own."""
        return dict(self.state_dict())

    def _lacks(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} has no {what}.")

    def classify(self, embedding: torch.Tensor) -> torch.Tensor:
        """Logits, (B, N), of embeddings, (B, D)."""
        logits: torch.Tensor = self.classifier(embedding)
        return logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (B, N). x: (B, C, H, W) float, normalised."""
        return self.classify(self.embedding(x))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a fresh one: see `create_classifier`."""
        if num_classes < 0:
            raise ConfigError(f"A classifier cannot have {num_classes} outputs.")
        device = next(self.parameters()).device
        self.num_classes = num_classes
        self.classifier = self.create_classifier().to(device)

    def freeze(self, freeze_classifier: bool = True, unfreeze_features: bool = False) -> None:
        """Turn gradients off for all parameters.

        Parameters
        ----------
        freeze_classifier
            False leaves the classifier trainable.
        unfreeze_features
            True leaves trainable what lies between the frozen body and the embedding (the final norm of a ViT).
        """
        self.requires_grad_(False)
        if not freeze_classifier:
            self.classifier.requires_grad_(True)
        if unfreeze_features:
            self.features_head().requires_grad_(True)

    def features_head(self) -> nn.Module:
        """The last layer before the embedding: what `freeze(unfreeze_features=True)` leaves trainable."""
        return self.features


BaseNet = DetectorBackbone = Backbone
"""The published package's names for networks, and for those that a detector can stand on."""


def stochastic_depth_rates(drop_path_rate: float, num_blocks: int, endpoint: bool = True) -> list[float]:
    """Drop path rates that grow linearly from 0 to `drop_path_rate`, which is left out without `endpoint`."""
    steps = max(num_blocks - 1 if endpoint else num_blocks, 1)
    return [drop_path_rate * i / steps for i in range(num_blocks)]


def staged_stochastic_depth_rates(
    drop_path_rate: float, depths: Sequence[int], endpoint: bool = True
) -> list[list[float]]:
    """`stochastic_depth_rates` of stages with so many blocks each, stage by stage."""
    rates = iter(stochastic_depth_rates(drop_path_rate, sum(depths), endpoint))
    return [list(itertools.islice(rates, depth)) for depth in depths]


def make_divisible(value: float, divisor: int, min_value: int | None = None, round_limit: float = 0.9) -> int:
    """The multiple of `divisor` nearest to a number of channels, at least `round_limit` of it and `min_value`."""
    nearest = max(divisor if min_value is None else min_value, int(value + divisor / 2) // divisor * divisor)
    return nearest if nearest >= round_limit * value else nearest + divisor


def reparameterize_available(net: nn.Module) -> bool:
    """Whether a network has another form for inference; Birder's have not."""
    return hasattr(net, "reparameterize_model")


def get_signature(input_shape: Sequence[int], num_outputs: int) -> dict[str, Any]:
    """What goes into a network and comes out, by the shape of an input batch (B, C, H, W) and the number of classes."""
    return {"inputs": [{"data_shape": [0, *input_shape[1:]]}], "outputs": [{"data_shape": [0, num_outputs]}]}


def make_classifier(in_features: int, num_classes: int, bias: bool = True) -> nn.Module:
    """A linear classifier, or the identity for no classes."""
    return nn.Linear(in_features, num_classes, bias=bias) if num_classes > 0 else nn.Identity()


class DropPath(nn.Module):
    """Stochastic depth per sample (Huang et al., arXiv 1603.09382): drop a residual branch with probability `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        mask = torch.empty(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * mask / keep


def known_config(
    network: str, config: dict[str, Any], defaults: dict[str, Any], neutral: dict[str, Any]
) -> dict[str, Any]:
    """The configuration of a network, with its defaults filled in.

    Parameters
    ----------
    network
        Its name, for messages.
    config
        What a file or a user says.
    defaults
        The keys that the network has, and their defaults; `...` for one that must be given.
    neutral
        Keys of the published package whose arithmetic the network does not have, and the value at which they change
        nothing (`...` where none does): accepted with that, and left out.

    Raises
    ------
    UnknownNameError
        An unknown key; the message names the known ones.
    ConfigError
        A key of the published package with a value that changes the arithmetic, or a required key is missing.
    """
    for key, value in config.items():
        if key in neutral:
            if neutral[key] is not ... and value != neutral[key]:
                raise ConfigError(
                    f"{network} has no {key} = {value!r}: Birder supports {key} = {neutral[key]!r} only. "
                    "Such a network runs in the published birder package."
                )
        elif key not in defaults:
            error = unknown_name(f"configuration key of {network}", key, defaults)
            raise type(error)(f"{error} Known keys: {', '.join(sorted(defaults)) or 'none'}.")
    missing = [key for key, value in defaults.items() if value is ... and key not in config]
    if missing:
        raise ConfigError(f"A {network} needs {', '.join(missing)} in its configuration.")
    return defaults | {key: value for key, value in config.items() if key in defaults}
