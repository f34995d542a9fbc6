"""From image features and text embeddings to names with probabilities, in bounded memory.

This is zero-shot classification as in Radford et al. (arXiv 2103.00020, section 3.1.2): the softmax over all labels of
the scaled cosine similarities. The matrix of text embeddings is read in slices and the softmax kept as running sums
(online softmax: Milakov & Gimelshein, arXiv 1805.02867), so memory does not grow with labels times images.

B is the number of images, D the width of the shared space, N the number of labels, G the number of groups.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from birder.errors import ConfigError
from birder.naming.label_sets import Groups, Labels
from birder.naming.predictions import Top

_LABELS_AT_ONCE = 8192
_IMAGES_AT_ONCE = 256
_SUMS_AT_ONCE = 2**25  # group sums in memory, 128 MiB
_HEADROOM = 40.0  # exp(40) times a million labels is far below float32's largest number

Features = npt.NDArray[np.float32]


def top_labels(features: Features, labels: Labels, logit_scale: float, k: int) -> Top:
    """The k most probable labels of each image.

    Parameters
    ----------
    features
        Image features in the shared space, float32 (B, D); their length does not matter.
    labels
        The N labels to choose from.
    logit_scale
        What cosine similarities are multiplied by (100 for BioCLIP).
    k
        How many; all N if there are fewer.

    Returns
    -------
    Indices of labels and their probabilities (all N sum to 1).
    """
    k = _checked_k(k, labels.names.num_rows)
    matrix = torch.from_numpy(labels.matrix)
    tops = [_top_labels(block, matrix, k) for block in _blocks(features, labels, logit_scale, _IMAGES_AT_ONCE)]
    return _joined(tops, k)


def top_groups(features: Features, labels: Labels, groups: Groups, logit_scale: float, k: int) -> Top:
    """The k most probable groups of each image: a group's probability is the sum over its labels.

    Parameters are those of `top_labels`; `groups` says which of the G groups each label is in.

    Returns
    -------
    Indices of groups (rows of `groups.names`) and their probabilities (all G sum to 1).
    """
    count = groups.names.num_rows
    if len(groups.codes) != labels.names.num_rows:
        raise ConfigError(f"{len(groups.codes)} group codes do not match {labels.names.num_rows} labels.")
    k = _checked_k(k, count)
    matrix = torch.from_numpy(labels.matrix)
    # Where the labels of a slice go: the groups it touches, and for each label the number of its group among those.
    slices = [
        torch.unique(torch.from_numpy(groups.codes[start : start + _LABELS_AT_ONCE]), return_inverse=True)
        for start in range(0, len(groups.codes), _LABELS_AT_ONCE)
    ]
    at_once = min(_IMAGES_AT_ONCE, max(1, _SUMS_AT_ONCE // count))
    blocks = _blocks(features, labels, logit_scale, at_once)
    return _joined([_top_groups(block, matrix, slices, count, k) for block in blocks], k)


def log_probabilities(
    features: Features, labels: Labels, logit_scale: float, groups: Groups | None = None
) -> npt.NDArray[np.float32]:
    """The logarithms of the probabilities of all labels, or of all groups; parameters as for `top_groups`.

    Returns
    -------
    float32 (B, N), or (B, G) with groups, -inf for a group without labels.
    """
    matrix = torch.from_numpy(labels.matrix)
    found = []
    for x in _blocks(features, labels, logit_scale, _IMAGES_AT_ONCE):
        logs = (x @ matrix).log_softmax(1)
        if groups is not None:
            sums = torch.zeros(len(x), groups.names.num_rows, dtype=torch.float64)  # holds exp(-700)
            logs = sums.index_add_(1, torch.from_numpy(groups.codes), logs.double().exp()).log().float()
        found.append(logs)
    count = (labels.names if groups is None else groups.names).num_rows
    return torch.cat(found).numpy() if found else np.empty((0, count), np.float32)


def _checked_k(k: int, available: int) -> int:
    if k < 1:
        raise ConfigError(f"k must be at least 1, not {k}.")
    return min(k, available)


def _blocks(features: Features, labels: Labels, logit_scale: float, at_once: int) -> Iterator[torch.Tensor]:
    """The features in blocks, with the length `logit_scale`: float32 (at most `at_once`, D)."""
    width = labels.matrix.shape[0]
    if features.ndim != 2 or features.shape[1] != width:
        raise ConfigError(
            f"Image features of shape {features.shape} do not match {width}-dimensional text embeddings: they "
            f"come from different models. Use the labels of the model that the images were embedded with."
        )
    if not np.isfinite(features).all():
        raise ConfigError("Some image features are not finite: embed those images again.")
    for start in range(0, len(features), at_once):
        block = torch.from_numpy(np.array(features[start : start + at_once], dtype=np.float32))
        yield torch.nn.functional.normalize(block, dim=1) * logit_scale


def _joined(tops: list[tuple[torch.Tensor, torch.Tensor]], k: int) -> Top:
    if not tops:
        return Top(np.empty((0, k), dtype=np.int64), np.empty((0, k), dtype=np.float32))
    return Top(torch.cat([indices for indices, _ in tops]).numpy(), torch.cat([scores for _, scores in tops]).numpy())


def _top_labels(x: torch.Tensor, matrix: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices and probabilities (B, k) of the best labels. x: (B, D), scaled; matrix: (D, N)."""
    best = torch.full((len(x), 0), 0.0)
    indices = torch.full((len(x), 0), 0)
    shift = torch.full((len(x), 1), -torch.inf)
    total = torch.zeros(len(x), 1, dtype=torch.float64)
    for start in range(0, matrix.shape[1], _LABELS_AT_ONCE):
        logits = x @ matrix[:, start : start + _LABELS_AT_ONCE]
        values, positions = logits.topk(min(k, logits.shape[1]))
        best, order = torch.cat([best, values], dim=1).topk(min(k, best.shape[1] + values.shape[1]))
        indices = torch.cat([indices, positions + start], dim=1).gather(1, order)
        total *= (shift - best[:, :1]).exp()
        shift = best[:, :1]
        total += logits.sub_(shift).exp_().sum(1, keepdim=True)
    return indices, ((best - shift).exp() / total).float()


def _top_groups(
    x: torch.Tensor, matrix: torch.Tensor, slices: list[tuple[torch.Tensor, torch.Tensor]], count: int, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices and probabilities (B, k) of the best groups. x: (B, D), scaled; matrix: (D, N)."""
    x = x.T.contiguous()
    sums = torch.zeros(count, x.shape[1])
    shift: torch.Tensor | None = None
    for i, (touched, positions) in enumerate(slices):
        # One row a label, so that adding labels up is adding rows.
        logits = matrix[:, i * _LABELS_AT_ONCE : (i + 1) * _LABELS_AT_ONCE].T @ x
        top = logits.amax(0)
        if shift is None:
            shift = top
        elif bool((top > shift + _HEADROOM).any()):
            # Rescaling all sums is expensive, and not needed while the exponentials stay in float32's range.
            larger = torch.maximum(shift, top)
            sums *= (shift - larger).exp()
            shift = larger
        # Summed by slice first: thousands of small numbers added one by one to a large one would be lost.
        part = torch.zeros(len(touched), x.shape[1]).index_add_(0, positions, logits.sub_(shift).exp_())
        sums.index_add_(0, touched, part)
    total = sums.sum(0, dtype=torch.float64)
    values, indices = sums.topk(k, dim=0)
    return indices.T.contiguous(), (values / total).float().T.contiguous()
