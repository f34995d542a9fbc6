"""What goes into an exported file: a network with named outputs, traced once, whatever format is written from it."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim
from torch.nn.utils import parametrize

from birder.net.base import Backbone
from birder.net.clip import TextEncoder

Output = Literal["embedding", "logits", "both", "detection"]
OUTPUTS: tuple[Output, ...] = ("embedding", "logits", "both", "detection")
IMAGES, TOKENS = "images", "tokens"
"""Names of the inputs: images, (B, 3, H, W) float32 normalised or (B, H, W, 3) uint8; tokens, (B, L) int64."""

Tensors = torch.Tensor | dict[str, torch.Tensor]


@dataclass(frozen=True)
class Graph:
    """What is exported.

    Attributes
    ----------
    module
        Gives a tensor, or several by name, for one tensor.
    given
        The name of its input.
    outputs
        Names of its outputs, in order.
    example
        An input with a batch of two.
    transformer
        Whether it is a transformer, which is quantised in another way than a convolutional network.
    """

    module: nn.Module
    given: str
    outputs: tuple[str, ...]
    example: torch.Tensor
    transformer: bool


class ImageGraph(nn.Module):
    """An image encoder or classifier with named outputs.

    Parameters
    ----------
    net
        The network, in evaluation mode.
    output
        "embedding" (B, D), "logits" (B, N), "both", or "detection": the maps of `detection_features`.
    features
        Call the logits "features": those of a CLIP model's image encoder, which has no classes.

    Attributes
    ----------
    outputs
        Names of the outputs, in order. A single one is given as a tensor, several as a dictionary.
    """

    def __init__(self, net: Backbone, output: Output, *, features: bool = False) -> None:
        super().__init__()
        self.net = net
        self.output = output
        self.logits = "features" if features else "logits"
        self.outputs: tuple[str, ...] = {
            "embedding": ("embedding",),
            "logits": (self.logits,),
            "both": ("embedding", self.logits),
            "detection": tuple(net.return_stages),
        }[output]

    def forward(self, images: torch.Tensor) -> Tensors:
        """Outputs of images, (B, 3, H, W) float32, normalised."""
        if self.output == "detection":
            maps = self.net.detection_features(images)
            return maps if len(maps) > 1 else next(iter(maps.values()))
        embedding = self.net.embedding(images)
        if self.output == "embedding":
            return embedding
        logits = self.net.classify(embedding)
        return logits if self.output == "logits" else {"embedding": embedding, self.logits: logits}


class TextGraph(nn.Module):
    """CLIP's text encoder: features (B, E) of tokens (B, L), int64, L as long as the context."""

    outputs: tuple[str, ...] = ("features",)

    def __init__(self, net: TextEncoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Features (B, E), not normalised."""
        return self.net.encode(tokens, tokens.argmax(dim=-1))


class FromPixels(nn.Module):
    """A graph with the transform in front: RGB images (B, H, W, 3) uint8 of any size in.

    They are resized as Pillow does it for Birder (bicubic with antialiasing, rounded to whole numbers after each of the
    two passes, which stand in Pillow's order: see `onnx_file.add_transform`), then normalised.
    """

    def __init__(self, network: nn.Module, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.size = size
        scale, shift = normalisation(mean, std)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> Tensors:
        """Outputs of the network for images (B, H, W, 3) uint8."""
        x = images.permute(0, 3, 1, 2).float()
        excess_height, excess_width = (torch.scalar_tensor(x.shape[i + 2] - self.size[i]) for i in (0, 1))
        columns_first = (excess_height > 2 * excess_width) & (excess_height > 0)
        narrow = self._resized(self._resized(x, (x.shape[2], self.size[1])), self.size)
        low = self._resized(self._resized(x, (self.size[0], x.shape[3])), self.size)
        x = torch.where(columns_first, low, narrow)  # both, because a traced program does not branch
        outputs: Tensors = self.network(x * self.get_buffer("scale") + self.get_buffer("shift"))
        return outputs

    @staticmethod
    def _resized(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return F.interpolate(x, size=size, mode="bicubic", antialias=True).round().clamp(0.0, 255.0)


class _Widened(nn.Module):
    """A parameter that is stored in half precision and used in single."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


def with_half_weights(graph: nn.Module) -> nn.Module:
    """A copy of a graph whose matrices are stored in half precision and widened when it runs.

    Its file is half as large and runs wherever one in single precision does. Biases, norms and the like keep theirs.
    """
    graph = copy.deepcopy(graph)
    for module in list(graph.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim > 1:
                parametrize.register_parametrization(module, name, _Widened(), unsafe=True)
                stored = nn.Parameter(parameter.detach().half(), requires_grad=False)
                module.parametrizations[name].original = stored  # type: ignore[index,union-attr]
    return graph


def normalisation(mean: Sequence[float], std: Sequence[float]) -> tuple[list[float], list[float]]:
    """Factors and summands, one a channel, that normalise pixels of 0 to 255."""
    return [1.0 / (255.0 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]


def traced(module: nn.Module, example: torch.Tensor, *, any_size: bool = False) -> torch.export.ExportedProgram:
    """The program of a graph for batches of any size, without the paths and the line numbers of what it came from.

    Parameters
    ----------
    module
        Of a `Graph`, or one with the transform in front.
    example
        An input with a batch of two.
    any_size
        Height and width, the second and third axis of pixels, are left open too.
    """
    shape: dict[int, Any] = {0: Dim("batch")}
    if any_size:
        shape |= {1: Dim("height", min=2), 2: Dim("width", min=2)}
    with quiet(), torch.no_grad():
        program = torch.export.export(module.eval(), (example,), dynamic_shapes=(shape,))
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say about themselves: notes on packages that Birder does not use, and on their future."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
