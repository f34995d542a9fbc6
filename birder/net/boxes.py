"""Boxes as tensors (..., 4): left, top, right, bottom in pixels. Overlap, suppression, and the losses of a detector."""

from __future__ import annotations

import torch
import torch.nn.functional as F

_EPS = 1e-7
_ALPHA, _GAMMA = 0.25, 2.0


def areas(boxes: torch.Tensor) -> torch.Tensor:
    """Areas (...) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each box (N, 4) with each of another set (M, 4): (N, M)."""
    top_left = torch.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (bottom_right - top_left).clamp(min=0).prod(-1)
    return shared / (areas(first)[:, None] + areas(second)[None] - shared)


def clip_boxes(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Boxes (..., 4) cut to an image of (height, width) pixels."""
    height, width = size
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def suppress(boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, overlap: float) -> torch.Tensor:
    """Non-maximum suppression, class by class.

    Parameters
    ----------
    boxes, scores, classes
        (N, 4), (N,) and (N,).
    overlap
        A box is dropped if its intersection over union with a higher-scored one of its class, which is kept, is above.

    Returns
    -------
    Indices (K,) of the boxes that are kept, highest score first.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, classes = boxes[order], classes[order]
    clash = (pairwise_iou(boxes, boxes) > overlap) & (classes[:, None] == classes[None])
    dropped = torch.zeros(len(order), dtype=torch.bool, device=boxes.device)
    for i in range(len(order)):
        if not dropped[i]:
            dropped[i + 1 :] |= clash[i, i + 1 :]
    return order[~dropped]


def focal_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum of the sigmoid focal loss (Lin et al., arXiv 1708.02002, equation 5; alpha 0.25, gamma 2).

    `logits` and `targets` (0 or 1) have the same shape.
    """
    p = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p_true = p * targets + (1 - p) * (1 - targets)
    alpha = _ALPHA * targets + (1 - _ALPHA) * (1 - targets)
    return (alpha * cross_entropy * (1 - p_true) ** _GAMMA).sum()


def giou_loss(boxes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum of 1 - generalised intersection over union (Rezatofighi et al., arXiv 1902.09630) of pairs (N, 4)."""
    top_left = torch.maximum(boxes[:, :2], targets[:, :2])
    bottom_right = torch.minimum(boxes[:, 2:], targets[:, 2:])
    sides = bottom_right - top_left
    # Boxes that do not meet share nothing, and no gradient flows through what they share.
    shared = torch.where((sides > 0).all(-1), sides.prod(-1), sides.new_zeros(()))
    union = areas(boxes) + areas(targets) - shared
    outer = torch.maximum(boxes[:, 2:], targets[:, 2:]) - torch.minimum(boxes[:, :2], targets[:, :2])
    enclosing = outer.prod(-1)
    giou = shared / (union + _EPS) - (enclosing - union) / (enclosing + _EPS)
    return (1 - giou).sum()
