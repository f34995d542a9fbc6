"""How the learning rate goes over a training."""

from __future__ import annotations

import math


def warmed_cosine(update: int, warm_up: int, updates: int) -> float:
    """The share of the peak learning rate: up in a line, then down along half a cosine (arXiv 1608.03983).

    Parameters
    ----------
    update
        0 to `updates` - 1.
    warm_up
        The number of updates until the peak.
    updates
        All of them.
    """
    if update < warm_up:
        return (update + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (update - warm_up) / max(updates - warm_up, 1)))
