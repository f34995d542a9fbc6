"""What was predicted for each image, as indices and scores and as rows of names."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Predictions = list[list[dict[str, Any]]]
"""For each image the names, best first: columns of text, and `score`."""


class Top(NamedTuple):
    """The best of each image: `indices`, int64 (B, k), and their probabilities `scores`, float32 (B, k), best first."""

    indices: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


def rows_of(top: Top, names: pa.Table, min_score: float = 0.0) -> Predictions:
    """What was predicted for each image: the columns of `names` and `score`, best first, none below `min_score`."""
    flat = names.take(pa.array(top.indices.reshape(-1))).to_pylist()
    k = top.indices.shape[1]
    return [
        [flat[i * k + j] | {"score": float(score)} for j, score in enumerate(scores) if score >= min_score]
        for i, scores in enumerate(top.scores)
    ]
