"""Vectors of a collection whose nearest are known: by them the axes and the breadth of its graph are chosen.

What a graph finds depends on how many rows it has and on how alike they are, so it is measured whenever it is built or
grows. N is the number of vectors that are asked for, D the embedding dimension, P the number of places in the files.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from birder.faiss_threads import apart

if TYPE_CHECKING:
    from pathlib import Path

Single = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

ENOUGH = 0.98
"""The share of the nearest that must be found."""
BREADTH = 128
"""Candidates that a search of the graph keeps in view, of which `COMPARED` are compared again: the narrowest search."""
COMPARED = 40
_TIMES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_ASKED, _WANTED = 100, 10


@dataclass(frozen=True)
class Best:
    """The places (N, n) with the highest scores (N, n) so far, in no order."""

    places: Places
    scores: Single

    def with_more(self, start: int, scores: Single, most: int) -> Best:
        """Of these and of places from `start` on, scored (N, M), the best `most` of each row."""
        places = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        all_places, all_scores = np.hstack([self.places, places]), np.hstack([self.scores, scores])
        best = np.argpartition(-all_scores, min(most, all_scores.shape[1]) - 1, axis=1)[:, :most]
        return Best(np.take_along_axis(all_places, best, axis=1), np.take_along_axis(all_scores, best, axis=1))


@dataclass(frozen=True)
class Probe:
    """Some of the vectors, and which others are nearest to each.

    Attributes
    ----------
    asked
        (N, D) float32, of length 1 each.
    own
        (N,) the places that they are in.
    nearest
        The nearest of the places that were seen, by their cosines; among them themselves.
    """

    asked: Single
    own: Places
    nearest: Best

    @classmethod
    def of(cls, vectors: Single, places: Places) -> Probe:
        """Some of the vectors (M, D) that are at these places (M,); none was compared yet."""
        chosen = np.linspace(0, len(vectors) - 1, min(_ASKED, len(vectors))).astype(np.int64)
        return cls(vectors[chosen], places[chosen], nothing(len(chosen)))

    def seen(self, start: int, block: Single) -> Probe:
        """With the vectors of a block (M, D) of places, the first of which is `start`."""
        return replace(self, nearest=self.nearest.with_more(start, self.asked @ block.T, _WANTED + 1))

    def share(self, found: Places) -> float:
        """Of the nearest of each, how many are among those that were found for it, (N, n)."""
        hits = [
            np.isin(right[right != own], some)
            for right, own, some in zip(self.nearest.places, self.own, found, strict=True)
        ]
        return float(np.concatenate(hits).mean())

    def breadth(self, graph: Any, turned: Single) -> float:
        """How many times `BREADTH` a graph (of faiss) must be searched to find enough of the nearest.

        Parameters
        ----------
        graph
            An HNSW over the places that were seen.
        turned
            `asked` as the graph compares vectors, (N, d).
        """
        import faiss

        for times in _TIMES[:-1]:
            parameters = faiss.SearchParametersHNSW(efSearch=int(times * BREADTH))
            search = functools.partial(graph.search, turned, int(times * COMPARED), params=parameters)
            if self.share(apart(search)[1]) >= ENOUGH:
                return times
        return _TIMES[-1]

    def arrays(self) -> dict[str, Any]:
        """What `read` makes it of."""
        return {"asked": self.asked, "own": self.own, "places": self.nearest.places, "scores": self.nearest.scores}

    @classmethod
    def read(cls, file: Path) -> Probe:
        """From a .npz with its arrays."""
        with np.load(file) as held:
            return cls(held["asked"], held["own"], Best(held["places"], held["scores"]))


def nothing(count: int) -> Best:
    """No places yet, for so many vectors."""
    return Best(np.zeros((count, 0), np.int64), np.zeros((count, 0), np.float32))
