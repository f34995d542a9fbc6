"""The contract that every network keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from birder.errors import ConfigError, unknown_name


class Backbone(nn.Module, ABC):
    """A network that turns images into features, one embedding each, and logits.

    Throughout, B is the batch, H x W the input in pixels, D the embedding's width, N the number of classes.

    Attributes
    ----------
    size
        Input (height, width) in pixels.
    input_channels
        Channels of the input.
    num_classes
        N, outputs of the classifier; 0 if there is none.
    embedding_size
        D.
    return_stages, return_channels
        Names and channel counts of the maps of `detection_features`.
    network
        The registered name that `create_network` built it by; None if it was built from its class.
    """

    network: str | None = None

    default_size: tuple[int, int] = (224, 224)
    embedding_size: int
    return_stages: list[str]
    return_channels: list[int]
    classifier: nn.Module

    def __init__(self, num_classes: int, *, input_channels: int, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.input_channels = input_channels
        self.size = self.default_size if size is None else (int(size[0]), int(size[1]))
        if num_classes < 0 or input_channels < 1 or min(self.size) < 1:
            raise ConfigError(
                f"Cannot build a network with {num_classes} classes, {input_channels} channels, size {self.size}."
            )

    @abstractmethod
    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Features before pooling, in the network's own shape. x: (B, C, H, W) float."""

    @abstractmethod
    def embedding(self, x: torch.Tensor) -> torch.Tensor:
        """One embedding per image, (B, D). x: (B, C, H, W) float."""

    @abstractmethod
    def detection_features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Maps for a detector, finest first: name -> (B, C, H/stride, W/stride). x: (B, C, H, W) float."""

    @property
    def patch_shape(self) -> tuple[int, int, int] | None:
        """(rows, columns, D) of the patch tokens in `forward_features` behind the class token; None: it has none."""
        return None

    @abstractmethod
    def adjust_size(self, new_size: tuple[int, int]) -> None:
        """Make the network take another input (height, width) in pixels."""

    @abstractmethod
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass: less memory, more time. Values and gradients stay the same."""

    def classify(self, embedding: torch.Tensor) -> torch.Tensor:
        """Logits, (B, N), of embeddings, (B, D)."""
        logits: torch.Tensor = self.classifier(embedding)
        return logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (B, N). x: (B, C, H, W) float, normalised."""
        return self.classify(self.embedding(x))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a fresh linear one with a bias (none at all for 0 classes)."""
        if num_classes < 0:
            raise ConfigError(f"A classifier cannot have {num_classes} outputs.")
        device = next(self.parameters()).device
        self.num_classes = num_classes
        self.classifier = make_classifier(self.embedding_size, num_classes).to(device)

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

    @abstractmethod
    def features_head(self) -> nn.Module:
        """The last layer before the embedding: what `freeze(unfreeze_features=True)` leaves trainable."""


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


def drop_path_rates(rate: float, blocks: int) -> list[float]:
    """Rates that grow linearly from 0 in the first block to `rate` in the last."""
    return [rate * i / max(blocks - 1, 1) for i in range(blocks)]


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
