"""Whether embeddings fall into clusters by themselves: k-means, and how far the clusters agree with the classes.

Adjusted mutual information (Vinh et al., JMLR 11, 2010) is 1 where clusters and classes agree, and 0 on average where
they have nothing to do with each other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from birder.vectors import unit

_STARTS = 4
_MOST_ROWS = 20_000
_BATCH = 4096


def cluster(embeddings: npt.NDArray[np.float32], clusters: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Cluster embeddings by k-means, the best of four starts; from 20,000 rows on in batches of 4,096.

    Parameters
    ----------
    embeddings
        float32 (N, D), which are scaled to length 1.
    clusters
        How many.
    seed
        Of the random numbers.

    Returns
    -------
    The cluster of each row, int64 (N).
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if len(embeddings) < _MOST_ROWS:
        means = KMeans(clusters, n_init=_STARTS, random_state=seed)
    else:
        means = MiniBatchKMeans(clusters, n_init=_STARTS, random_state=seed, batch_size=_BATCH)
    found: npt.NDArray[np.int64] = means.fit_predict(unit(embeddings)).astype(np.int64)
    return found


def adjusted_mutual_information(labels: npt.NDArray[np.int64], clusters: npt.NDArray[np.int64]) -> float:
    """How far clusters agree with classes, both int64 (N)."""
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(labels, clusters))
