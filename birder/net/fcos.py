"""FCOS, a detector without anchors (Tian et al., arXiv 1904.01355), in the Birder format's parameter names.

Each cell of each map of a feature pyramid stands for a point of the input, and says how likely an object of each class
is there, how far the four sides of its box are, and how near the point is to the box's centre.

B images, H x W pixels, C classes, P points: the cells of all maps, finest map first, row by row. Boxes are left, top,
right and bottom in pixels of the input. Classes are counted from 1, as in the published package: 0 is the background.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from birder.errors import ConfigError
from birder.net.base import Backbone, known_config
from birder.net.boxes import areas, clip_boxes, focal_loss, giou_loss, suppress
from birder.net.fpn import FeaturePyramid, SimplePyramid

CONFIG: dict[str, Any] = {"fpn_width": 256, "pyramid": "fpn"}
_NEUTRAL: dict[str, Any] = {"soft_nms": False}
_CONVS = 4
_GROUPS = 32
_PRIOR = 0.01
"""The probability of each class at each point before training."""
_CENTRE = 1.5
"""A point belongs to a box only within so many strides of its centre."""
_SCORE, _OVERLAP, _CANDIDATES, _MOST = 0.2, 0.6, 1000, 100

Target = dict[str, torch.Tensor]
Detections = dict[str, torch.Tensor]


class Points(NamedTuple):
    """Where the cells of the maps are: x and y (P, 2), their level's stride (P,), and how many each level has."""

    xy: torch.Tensor
    stride: torch.Tensor
    per_level: list[int]


class Outputs(NamedTuple):
    """What the head says at each point.

    `logits` (B, P, C) of the classes; `sides` (B, P, 4), distances from the point to the left, top, right and bottom
    side, in strides; `centreness` (B, P), a logit.
    """

    logits: torch.Tensor
    sides: torch.Tensor
    centreness: torch.Tensor


class _Tower(nn.Module):
    """Four convolutions that all maps share."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(_CONVS):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(_GROUPS, width), nn.ReLU()]
        self.conv = nn.Sequential(*layers)

    def initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)


class ClassificationHead(_Tower):
    """Logits (B, C, ...) of the classes on each map."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__(width)
        self.cls_logits = nn.Conv2d(width, num_classes, 3, padding=1)
        self.initialise()
        assert self.cls_logits.bias is not None
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - _PRIOR) / _PRIOR))

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        return _points_last([self.cls_logits(self.conv(x)) for x in maps])


class RegressionHead(_Tower):
    """Sides (B, 4, ...) and centreness (B, 1, ...) on each map."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.bbox_reg = nn.Conv2d(width, 4, 3, padding=1)
        self.bbox_ctrness = nn.Conv2d(width, 1, 3, padding=1)
        self.initialise()

    def forward(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        maps = [self.conv(x) for x in maps]
        sides = _points_last([F.relu(self.bbox_reg(x)) for x in maps])
        return sides, _points_last([self.bbox_ctrness(x) for x in maps])[..., 0]


class Head(nn.Module):
    """Both heads."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.classification_head = ClassificationHead(width, num_classes)
        self.regression_head = RegressionHead(width)

    def forward(self, maps: list[torch.Tensor]) -> Outputs:
        return Outputs(self.classification_head(maps), *self.regression_head(maps))


class BackboneWithPyramid(nn.Module):
    """A backbone and the pyramid over its maps."""

    def __init__(self, backbone: Backbone, pyramid: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.fpn = pyramid

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.fpn(self.backbone.detection_features(x))  # type: ignore[no-any-return]


class FCOS(nn.Module):
    """A detector on a backbone's maps; of several, the last three.

    Parameters
    ----------
    num_classes
        C, without the background.
    backbone
        Its layers behind the maps are dropped.
    config
        `fpn_width`, channels of the pyramid and the heads, a multiple of 32, at least 64 (default: 256); `pyramid`:
        "fpn" over the backbone's maps as in the published package, or "simple" from the last of them, which that
        package does not have for this detector.
    size
        Input (height, width) in pixels; default: the backbone's.

    Raises
    ------
    UnknownNameError
        The configuration has an unknown key.
    ConfigError
        A value that the detector does not have.
    """

    task = "object_detection"

    def __init__(
        self,
        num_classes: int,
        backbone: Backbone,
        *,
        config: dict[str, Any] | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.config = known_config("FCOS", config or {}, CONFIG, _NEUTRAL)
        width, pyramid = self.config["fpn_width"], self.config["pyramid"]
        # With 32 channels, group norm would have one value a group on a map of one cell.
        if type(width) is not int or width % _GROUPS or not 2 * _GROUPS <= width <= 4096:
            raise ConfigError(
                f"The width of the pyramid must be a multiple of {_GROUPS}, and at least 64, not {width!r}."
            )
        if pyramid not in ("fpn", "simple"):
            raise ConfigError(f"FCOS has no pyramid {pyramid!r}: use fpn or simple.")
        if num_classes < 1:
            raise ConfigError("A detector needs at least one class.")
        self.num_classes = num_classes
        self.size = backbone.size if size is None else (int(size[0]), int(size[1]))
        backbone.strip_for_detection_features()
        kept = -3 if pyramid == "fpn" else -1
        backbone.return_stages = backbone.return_stages[kept:]
        backbone.return_channels = backbone.return_channels[kept:]
        self.backbone = backbone
        self.backbone_with_fpn = BackboneWithPyramid(
            backbone,
            FeaturePyramid(backbone.return_channels, width)
            if pyramid == "fpn"
            else SimplePyramid(backbone.return_channels[-1], width),
        )
        self.head = Head(width, num_classes)
        self.strides = _strides(backbone, pyramid)

    def adjust_size(self, new_size: tuple[int, int]) -> None:
        """Make the detector take another input (height, width) in pixels."""
        self.backbone.adjust_size(new_size)
        self.size = (int(new_size[0]), int(new_size[1]))

    def maps(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The backbone's maps that the pyramid stands on, finest first. x: (B, 3, H, W) float, normalised."""
        found = self.backbone.detection_features(x)
        return {name: found[name] for name in self.backbone.return_stages}

    def outputs(self, maps: dict[str, torch.Tensor]) -> tuple[Outputs, Points]:
        """What the head says of `maps`, and at which points of an input of the detector's size."""
        levels = list(self.backbone_with_fpn.fpn(maps).values())
        return self.head(levels), self._points(levels)

    def _points(self, levels: list[torch.Tensor]) -> Points:
        """The points of maps: cell (row, column) of a level stands at (column, row) times what a cell is apart."""
        xy, strides = [], []
        for level, stride in zip(levels, self.strides, strict=True):
            rows, columns = (int(each) for each in level.shape[-2:])
            y = torch.arange(rows, device=level.device) * (self.size[0] // rows)
            x = torch.arange(columns, device=level.device) * (self.size[1] // columns)
            down, across = torch.meshgrid(y, x, indexing="ij")
            xy.append(torch.stack([across.flatten(), down.flatten()], dim=-1))
            strides.append(torch.full((rows * columns,), stride, device=level.device))
        return Points(torch.cat(xy).float(), torch.cat(strides).float(), [len(each) for each in strides])

    def forward(
        self, x: torch.Tensor, targets: list[Target] | None = None
    ) -> tuple[list[Detections], dict[str, torch.Tensor]]:
        """Detections in evaluation mode, losses in training mode; the other is empty.

        Parameters
        ----------
        x
            (B, 3, H, W) float, normalised.
        targets
            For each image `boxes` (N, 4) float and `labels` (N,) int64, from 1; for training.
        """
        outputs, points = self.outputs(self.maps(x))
        if self.training:
            if targets is None:
                raise ConfigError("A detector in training mode needs targets; for detections, call eval() first.")
            return [], self.losses(outputs, points, targets)
        return self.detections(outputs, points), {}

    def losses(self, outputs: Outputs, points: Points, targets: list[Target]) -> dict[str, torch.Tensor]:
        """The losses "classification", "bbox_regression" and "bbox_ctrness", each divided by the points with a box."""
        boxes, labels = [], []
        for target in targets:
            which = assign(points, target["boxes"])
            inside = which >= 0
            label = torch.zeros_like(which)
            label[inside] = target["labels"][which[inside]]
            box = points.xy.new_zeros(len(which), 4)
            box[inside] = target["boxes"][which[inside]].to(box.dtype)
            boxes.append(box)
            labels.append(label)
        wanted, label = torch.stack(boxes), torch.stack(labels)
        positive = label > 0
        count = positive.sum().clamp(min=1)
        classes = torch.zeros_like(outputs.logits)
        classes[positive, label[positive] - 1] = 1.0
        found = decode(outputs.sides, points)[positive]
        centreness = F.binary_cross_entropy_with_logits(
            outputs.centreness[positive],
            centreness_of(points.xy.expand(len(targets), -1, -1)[positive], wanted[positive]),
            reduction="sum",
        )
        return {
            "classification": focal_loss(outputs.logits, classes) / count,
            "bbox_regression": giou_loss(found, wanted[positive]) / count,
            "bbox_ctrness": centreness / count,
        }

    def detections(
        self,
        outputs: Outputs,
        points: Points,
        *,
        min_score: float = _SCORE,
        overlap: float = _OVERLAP,
        most: int = _MOST,
    ) -> list[Detections]:
        """The boxes of each image, highest score first.

        Parameters
        ----------
        outputs, points
            From `outputs`.
        min_score
            Boxes score above it.
        overlap
            Intersection over union above which the lower of two boxes of a class is suppressed.
        most
            Boxes of an image at most.

        Returns
        -------
        For each image `boxes` (N, 4) within the input, `scores` (N,), the geometric mean of the class's probability and
        centreness, and `labels` (N,), from 1.
        """
        scores = scores_of(outputs)
        found = []
        for i in range(len(scores)):
            chosen: list[torch.Tensor] = []
            first = 0
            for count in points.per_level:
                level = scores[i, first : first + count].flatten()
                likely = torch.where(level > min_score)[0]
                best = level[likely].topk(min(_CANDIDATES, len(likely))).indices
                chosen.append(likely[best] + first * self.num_classes)
                first += count
            at = torch.cat(chosen)
            place, label = at // self.num_classes, at % self.num_classes + 1
            score = scores[i].flatten()[at]
            each = Points(points.xy[place], points.stride[place], [])
            boxes = clip_boxes(decode(outputs.sides[i, place], each), self.size)
            kept = suppress(boxes, score, label, overlap)[:most]
            found.append({"boxes": boxes[kept], "scores": score[kept], "labels": label[kept]})
        return found


class RawDetections(nn.Module):
    """A detector as one graph: pixels (B, 3, H, W) in [0, 1] to (B, 4 + C, P), nothing suppressed.

    Rows are a box's centre x, centre y, width and height in pixels, and its score for each class: the form of YOLO
    without objectness, which `birder.inference.detector` and other tools read.

    Parameters
    ----------
    net
        The detector.
    rgb_stats
        "mean" and "std" of pixel values in [0, 1].
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: FCOS, rgb_stats: dict[str, Any]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(rgb_stats["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(rgb_stats["std"]).view(3, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs, points = self.net.outputs(self.net.maps((x - self.mean) / self.std))
        boxes = clip_boxes(decode(outputs.sides, points), self.net.size)
        corner, other = boxes[..., :2], boxes[..., 2:]
        rows = torch.cat([(corner + other) / 2, other - corner, scores_of(outputs)], dim=-1)
        return rows.transpose(1, 2)


def assign(points: Points, boxes: torch.Tensor) -> torch.Tensor:
    """Which of an image's boxes each point is responsible for.

    A point belongs to a box if it is inside it, less than 1.5 strides from its centre in x and y, and if the farthest
    side is between 4 and 8 strides away (the finest level also takes nearer ones, the coarsest farther ones); to the
    smallest one, if there are several.

    Parameters
    ----------
    points
        P points.
    boxes
        (N, 4); N may be 0.

    Returns
    -------
    Indices (P,) of boxes; -1 for points that belong to none.
    """
    if len(boxes) == 0:
        return torch.full((len(points.xy),), -1, dtype=torch.int64, device=points.xy.device)
    xy, stride = points.xy[:, None], points.stride[:, None]
    sides = torch.cat([xy - boxes[None, :, :2], boxes[None, :, 2:] - xy], dim=-1)
    lower, upper = stride * 4, stride * 8
    lower[: points.per_level[0]] = 0
    upper[-points.per_level[-1] :] = math.inf
    farthest = sides.amax(-1)
    fits = (sides.amin(-1) > 0) & (farthest > lower) & (farthest < upper)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    fits &= (xy - centres).abs().amax(-1) < _CENTRE * stride
    area = torch.where(fits, areas(boxes).expand(len(xy), -1), math.inf)
    smallest, which = area.min(dim=1)
    which[smallest.isinf()] = -1
    return which


def decode(sides: torch.Tensor, points: Points) -> torch.Tensor:
    """Boxes (..., P, 4) of sides in strides."""
    away = sides * points.stride[:, None]
    return torch.cat([points.xy - away[..., :2], points.xy + away[..., 2:]], dim=-1)


def centreness_of(xy: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """How near points (N, 2) are to the centres of the boxes (N, 4) that they are in: 1 there, 0 on a side (N,)."""
    near, far = xy - boxes[:, :2], boxes[:, 2:] - xy
    return (torch.minimum(near, far) / torch.maximum(near, far)).prod(-1).sqrt()


def scores_of(outputs: Outputs) -> torch.Tensor:
    """The geometric mean of each class's probability and centreness, (B, P, C)."""
    return (outputs.logits.sigmoid() * outputs.centreness.sigmoid()[..., None]).sqrt()


def _points_last(maps: list[torch.Tensor]) -> torch.Tensor:
    """Maps (B, K, ...) of all levels as (B, P, K)."""
    return torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)


def _strides(backbone: Backbone, pyramid: str) -> list[int]:
    """Pixels between the points of each level, finest first."""
    coarsest = backbone.max_stride
    if pyramid == "simple":
        return [coarsest // 2, coarsest, 2 * coarsest, 4 * coarsest, 8 * coarsest]
    count = len(backbone.return_stages)
    if count > 1 and backbone.stem_stride == coarsest:  # a ViT: all its maps have one stride
        return [coarsest] * count + [2 * coarsest, 4 * coarsest]
    first = coarsest // 2 ** (count - 1)
    return [first * 2**i for i in range(count + 2)]
