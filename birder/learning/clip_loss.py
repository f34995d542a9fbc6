"""CLIP's loss over the processes of a training, and its exact gradient where an update has more rows than fit at once.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020), figure 3:
InfoNCE in both directions. As OpenCLIP's ClipLoss with `local_loss=True, gather_with_grad=True`: a process compares its
own rows with those of all processes, and gradients flow back to the processes that the rows came from. The mean over
the processes is the loss, and the gradient, of one process with all rows.

B is the number of a process's rows, P that of the processes, E the embedding dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F

from birder.learning.parallel import Parallel

Pair = tuple[torch.Tensor, torch.Tensor]
"""Image features and text features, (B, E) each: row i of one belongs to row i of the other."""
Batch = TypeVar("Batch")


def clip_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, parallel: Parallel) -> torch.Tensor:
    """Half the mean cross-entropy of each image among all texts, and half that of each text among all images.

    Parameters
    ----------
    images, texts
        Features of length 1, float32 (B, E); row i of one belongs to row i of the other. B is the same in all
        processes.
    scale
        What cosine similarities are multiplied by, float32 ().
    parallel
        The processes.

    Returns
    -------
    The loss of this process's rows, ().
    """
    all_images, all_texts = (
        (images, texts) if parallel.processes == 1 else (_gathered(each, parallel) for each in (images, texts))
    )
    own = torch.arange(len(images), device=images.device) + parallel.rank * len(images)
    to_texts = F.cross_entropy(scale * images @ all_texts.T, own)
    to_images = F.cross_entropy(scale * texts @ all_images.T, own)
    return (to_texts + to_images) / 2


def add_gradients(
    batches: Sequence[Batch],
    encode: Callable[[Batch], Sequence[Pair]],
    log_scale: torch.Tensor,
    parallel: Parallel,
    backward: Callable[[torch.Tensor], object],
) -> list[torch.Tensor]:
    """Add to the parameters' gradients that of the loss of some batches as one, of which one fits in memory at once.

    Of several batches, the features are computed first, without gradients; then those of each again, with gradients,
    and the loss of all features. The gradients add up to those of one large batch (Gao et al., arXiv 2101.06983;
    OpenCLIP's `--accum-freq`). That of the scale, which is the same each time, is counted once; OpenCLIP adds it up.

    Parameters
    ----------
    batches
        The batches.
    encode
        From a batch to its features of length 1: a pair of images and texts, or several, whose losses are added. Of the
        same batch it must give the same features again, so what it draws must follow from the batch.
    log_scale
        The logarithm of the scale, ().
    parallel
        The processes.
    backward
        Called with each loss, to compute its gradients.

    Returns
    -------
    The loss of each of the pairs, this process's share of it.
    """
    if len(batches) == 1:
        losses = [clip_loss(*pair, log_scale.exp(), parallel) for pair in encode(batches[0])]
        backward(torch.stack(losses).sum())
        return [each.detach() for each in losses]
    with torch.no_grad():
        kept = [encode(batch) for batch in batches]
    for number, batch in enumerate(batches):
        scale = (log_scale if number == 0 else log_scale.detach()).exp()
        losses = []
        for place, (images, texts) in enumerate(encode(batch)):
            others = [features[place] for features in kept]
            losses.append(
                clip_loss(
                    torch.cat([*(each[0] for each in others[:number]), images, *(e[0] for e in others[number + 1 :])]),
                    torch.cat([*(each[1] for each in others[:number]), texts, *(e[1] for e in others[number + 1 :])]),
                    scale,
                    parallel,
                )
            )
        backward(torch.stack(losses).sum())
    return [each.detach() for each in losses]


def _gathered(rows: torch.Tensor, parallel: Parallel) -> torch.Tensor:
    return _Gathered.apply(rows, parallel.rank, parallel.processes)  # type: ignore[no-untyped-call, no-any-return]


class _Gathered(torch.autograd.Function):
    """The rows of all processes, (P * B, E), in the order of the processes."""

    @staticmethod
    def forward(context: Any, rows: torch.Tensor, rank: int, processes: int) -> torch.Tensor:
        context.rank, context.count = rank, len(rows)
        found = [torch.empty_like(rows) for _ in range(processes)]
        dist.all_gather(found, rows.contiguous())
        return torch.cat(found)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """What the losses of all processes say about this one's rows, added up."""
        (gradient,) = gradients
        together = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(together)
        first = context.rank * context.count
        return together[first : first + context.count], None, None
