"""Names from labelled examples: the nearest class mean, with any model and no text.

SimpleShot (Wang et al., arXiv 1911.04623): features are centred by the examples' mean and scaled to length 1 ("CL2N");
a photograph gets the class whose mean is nearest. BioCLIP's few-shot evaluation (arXiv 2311.18803) is another one: its
features are projected into the space of the texts and scaled to length 1 before they are centred; ours are a
collection's embeddings as the network gave them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError
from birder.naming.from_texts import Top

_AT_ONCE = 4096

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SimpleShot:
    """Class means of labelled examples.

    Attributes
    ----------
    classes
        C names, sorted.
    centre
        Mean of the examples' embeddings, float64 (D).
    means
        Class means of centred, unit-length embeddings, float64 (C, D).
    """

    classes: list[str]
    centre: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]

    def predict(self, embeddings: Features, k: int) -> Top:
        """The k nearest classes of each embedding, float32 (B, D).

        Returns
        -------
        Indices into `classes`, and scores 1 - distance / 2: between 0 and 1, 1 at the class mean itself. They rank the
        classes; they are no probabilities.
        """
        if k < 1:
            raise ConfigError(f"k must be at least 1, not {k}.")
        _check(embeddings, len(self.centre))
        k = min(k, len(self.classes))
        indices, scores = np.empty((len(embeddings), k), np.int64), np.empty((len(embeddings), k), np.float32)
        for start in range(0, len(embeddings), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            distances = self._distances(embeddings[part])
            nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
            indices[part] = nearest
            scores[part] = 1.0 - np.take_along_axis(distances, nearest, axis=1) / 2.0
        return Top(indices, scores)

    def _distances(self, embeddings: Features) -> npt.NDArray[np.float64]:
        """Euclidean distances (B, C) to the class means."""
        x = _unit(embeddings.astype(np.float64) - self.centre)
        squares = (x**2).sum(1)[:, None] - 2.0 * x @ self.means.T + (self.means**2).sum(1)
        distances: npt.NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0))
        return distances


def fit_simpleshot(embeddings: Features, labels: Sequence[str]) -> SimpleShot:
    """Class means of labelled examples.

    Parameters
    ----------
    embeddings
        float32 (N, D), of one model, not normalised.
    labels
        N class names.

    Raises
    ------
    ConfigError
        No examples, examples of one class only, or shapes that do not fit.
    """
    if len(embeddings) != len(labels):
        raise ConfigError(f"{len(embeddings)} embeddings do not fit {len(labels)} labels.")
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise ConfigError(
            f"The labelled examples have {len(classes)} class{'es' if not classes else ''}: at least two are needed to "
            "choose from. Label more examples, or name another column."
        )
    _check(embeddings, embeddings.shape[-1])
    position = {name: i for i, name in enumerate(classes)}
    codes = np.array([position[label] for label in labels])
    centre = embeddings.mean(axis=0, dtype=np.float64)
    sums, counts = np.zeros((len(classes), len(centre))), np.bincount(codes, minlength=len(classes))
    for start in range(0, len(embeddings), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        np.add.at(sums, codes[part], _unit(embeddings[part].astype(np.float64) - centre))
    return SimpleShot(classes, centre, sums / counts[:, None])


def hold_out(labels: Sequence[str], share: float, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Choose examples at random to leave out, the same share of each class.

    Parameters
    ----------
    labels
        N class names.
    share
        Between 0 and 1. A class keeps one example at least, so a class of one has none left out.
    seed
        Of the random numbers.

    Returns
    -------
    bool (N), true where left out.
    """
    if not 0.0 < share < 1.0:
        raise ConfigError(f"The share to leave out must be between 0 and 1, not {share}.")
    rng = np.random.default_rng(seed)
    names = np.array(labels, dtype=object)
    left_out = np.zeros(len(names), dtype=np.bool_)
    for name in sorted(set(labels)):
        members = rng.permutation(np.flatnonzero(names == name))
        left_out[members[: min(round(share * len(members)), len(members) - 1)]] = True
    return left_out


def _unit(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = x / np.maximum(length, 1e-12)
    return unit


def _check(embeddings: Features, width: int) -> None:
    if embeddings.ndim != 2 or embeddings.shape[1] != width:
        raise ConfigError(
            f"Embeddings of shape {embeddings.shape} do not fit examples of {width} numbers: they are of two models."
        )
    if not np.isfinite(embeddings).all():
        raise ConfigError("Some embeddings are no finite numbers: embed those photographs again.")
