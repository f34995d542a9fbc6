"""Names by the nearest image of another group: what embeddings alone say of labelled images.

N is the number of labelled images, D the embedding dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError

Codes = npt.NDArray[np.int64]


def nearest_labels(labels: Sequence[str], embeddings: npt.NDArray[np.float32], groups: Codes) -> list[str | None]:
    """The label of the nearest image of another group; None where there is none.

    Parameters
    ----------
    labels, embeddings, groups
        N labels, float32 (N, D), int64 (N,).

    Raises
    ------
    ConfigError
        The labels are of fewer than two classes.
    """
    from birder.evaluation.neighbours import leave_one_out, named_by_neighbours

    classes, codes = np.unique(np.array(labels, object), return_inverse=True)
    if len(classes) < 2:
        raise ConfigError("Two collections are compared by their embeddings on labels of at least two classes.")
    named = named_by_neighbours(leave_one_out(embeddings, 1, groups=groups), codes.astype(np.int64), 1)
    return [None if code < 0 else str(classes[code]) for code in named]


def nameable(labels: Sequence[str], groups: Codes) -> npt.NDArray[np.bool_]:
    """Images whose label another group has as well, so that an image of another group can name them rightly: (N,)."""
    _, codes = np.unique(np.array(labels, object), return_inverse=True)
    pairs = np.unique(np.stack([codes.astype(np.int64), groups]), axis=1)
    found: npt.NDArray[np.bool_] = np.bincount(pairs[0])[codes] > 1
    return found
