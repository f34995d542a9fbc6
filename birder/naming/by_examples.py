"""Names by labelled examples, with any model and without texts: one function for the page, the command line and Python.

Two methods. SimpleShot (Wang et al., arXiv 1911.04623) as BioCLIP's few-shot evaluation has it (arXiv 2311.18803):
embeddings are scaled to length 1, centred by the examples' mean and scaled to length 1 again ("CL2N"), and the class
with the nearest mean wins, by Euclidean distance; the means are not scaled again. Nearest neighbours (Wu et al., arXiv
1805.01978): the 24 examples with the highest cosine vote, weighted by exp(cosine / 0.07).

The embeddings are those of a collection, as the image encoder gave them. BioCLIP projects them into the space of the
texts first. The projection belongs to the text encoder's model, which a collection need not have at hand, and names
must not depend on what is in a cache; who wants it hands in projected features (`Collection.features`), as the few-shot
protocol of `birder.evaluation` does.

SimpleShot is the default because it is better with few examples of a class, and where the images to be named were not
taken together with the examples; docs/names.md has the figures.

N is the number of examples, C of classes, B of images to be named, D the embedding dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.errors import ConfigError, unknown_name
from birder.naming.label_sets import LABEL
from birder.naming.method import DEFAULT_METHOD, Method
from birder.naming.predictions import Predictions, Top, rows_of
from birder.taxonomy import ranks_in
from birder.vectors import room, unit

_AT_ONCE = 4096
_CELLS = 2**24  # cosines at once: 64 MB
_PER_BLOCK = 128  # images whose candidates are compared exactly at once
_TO_COMPARE = 8  # further candidates, beside those that vote, whose cosines are computed exactly
_ROUNDING = 2e-6  # of a cosine in single precision
NEIGHBOURS = 24
"""How many examples vote."""
TEMPERATURE = 0.07
"""What cosines are divided by before the exponential that weights votes."""

Features = npt.NDArray[np.float32]
Stream = Callable[[], Iterable[Features]]
"""Gives the embeddings of N examples from the first on, float32 (B, D) at a time, as often as it is called."""


class NamesEmbeddings(Protocol):
    """What names embeddings by examples."""

    @property
    def classes(self) -> list[str]:
        """C names, sorted."""

    def predict(self, embeddings: Features, k: int) -> Top:
        """The k best classes of each embedding, float32 (B, D), as indices into `classes`."""


@dataclass(frozen=True)
class SimpleShot:
    """Class means of labelled examples.

    Attributes
    ----------
    classes
        C names, sorted.
    centre
        Mean of the examples' unit-length embeddings, float64 (D).
    means
        Class means of the examples in CL2N, float64 (C, D).
    """

    classes: list[str]
    centre: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, embeddings: Features, codes: npt.NDArray[np.int64], classes: list[str]) -> SimpleShot:
        """Fit it to examples: float32 (N, D) and, for each, the position of its class in `classes`, int64 (N)."""
        return cls.fit_stream(lambda: (embeddings,), codes, classes)

    @classmethod
    def fit_stream(cls, embeddings: Stream, codes: npt.NDArray[np.int64], classes: list[str]) -> SimpleShot:
        """Fit it as `fit` does, with some 4,096 of the examples in memory; they are read twice.

        The sums are taken over the same rows together, in whatever blocks the examples come: the result is the same to
        the last bit.
        """
        centre: npt.NDArray[np.float64] | None = None
        for part in _blocks(embeddings()):
            total = unit(part).sum(axis=0, dtype=np.float64)
            centre = total if centre is None else centre + total
        assert centre is not None
        centre /= len(codes)
        sums, counts, done = np.zeros((len(classes), len(centre))), np.bincount(codes, minlength=len(classes)), 0
        for part in _blocks(embeddings()):
            np.add.at(sums, codes[done : done + len(part)], _cl2n(part, centre))
            done += len(part)
        return cls(classes, centre, sums / counts[:, None])

    def predict(self, embeddings: Features, k: int) -> Top:
        """The k nearest classes of each embedding, float32 (B, D).

        Returns
        -------
        Indices into `classes`, and scores 1 - distance / 2: between 0 and 1, 1 at the class mean itself. They rank the
        classes; they are not probabilities.
        """
        k = _checked_k(k, self.classes)
        _check(embeddings, len(self.centre))
        indices, scores = np.empty((len(embeddings), k), np.int64), np.empty((len(embeddings), k), np.float32)
        for start in range(0, len(embeddings), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            x = _cl2n(embeddings[part], self.centre)
            nearest = self._nearest(x, k)
            distances = np.stack([np.linalg.norm(x - self.means[column], axis=1) for column in nearest.T], axis=1)
            order = np.argsort(distances, axis=1, kind="stable")
            indices[part] = np.take_along_axis(nearest, order, axis=1)
            scores[part] = 1.0 - np.take_along_axis(distances, order, axis=1) / 2.0
        return Top(indices, scores)

    def _nearest(self, x: Features, k: int) -> npt.NDArray[np.int64]:
        """The k classes with the lowest distances (B, k), told by half their squares less |x|^2, to some 1e-7."""
        means = self.means.astype(np.float32)
        squares = x @ -means.T
        squares += (means**2).sum(axis=1) / 2
        if k == 1:  # some ten times as fast as sorting
            first: npt.NDArray[np.int64] = np.argmin(squares, axis=1, keepdims=True)
            return first
        return np.argsort(squares, axis=1, kind="stable")[:, :k]


@dataclass(frozen=True)
class NearestNeighbours:
    """Labelled examples that vote.

    Attributes
    ----------
    classes
        C names, sorted.
    codes
        Class of each example, int64 (N).
    units
        Unit-length embeddings of the examples, float32 (N, D). They may be a memory-mapped file: they are read from the
        first to the last.
    """

    classes: list[str]
    codes: npt.NDArray[np.int64]
    units: Features

    def predict(self, embeddings: Features, k: int) -> Top:
        """The k classes of each embedding, float32 (B, D), with the largest shares of the votes.

        Returns
        -------
        Indices into `classes`, and shares: all C sum to 1, and are 0 for classes without a vote.
        """
        k = _checked_k(k, self.classes)
        _check(embeddings, self.units.shape[1])
        indices, scores = np.empty((len(embeddings), k), np.int64), np.empty((len(embeddings), k), np.float32)
        # As many images at once as keep the votes of all classes in 128 MB.
        at_once = max(1, min(_AT_ONCE, _CELLS // len(self.classes)))
        for start in range(0, len(embeddings), at_once):
            part = slice(start, start + at_once)
            shares = self._shares(embeddings[part])
            best = np.argsort(-shares, axis=1, kind="stable")[:, :k]
            indices[part], scores[part] = best, np.take_along_axis(shares, best, axis=1)
        return Top(indices, scores)

    def _shares(self, embeddings: Features) -> npt.NDArray[np.float64]:
        """Shares of the votes (B, C)."""
        queries = unit(embeddings.astype(np.float64))
        nearest, cosines = self._nearest(queries)
        return vote(self.codes[nearest], cosines, len(self.classes))

    def _nearest(self, queries: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The examples that vote, (B, 24), the nearest first, and their cosines in double precision.

        Cosines in single precision tell which examples may be among them, a block of examples at a time.
        """
        single = queries.astype(np.float32)
        kept = np.zeros((len(queries), 0), np.int64)
        cosines = np.zeros((len(queries), 0))
        step = max(_CELLS // _AT_ONCE, _CELLS // max(len(queries), 1))
        for start in range(0, len(self.units), step):
            block = self.units[start : start + step]
            similar = single @ block.T
            found = _highest(similar, min(NEIGHBOURS + _TO_COMPARE, len(block)))
            exact = np.empty(found.shape)
            for some in range(0, len(queries), _PER_BLOCK):
                own = slice(some, some + _PER_BLOCK)
                exact[own] = np.einsum("bkd,bd->bk", block[found[own]], queries[own])
            kept = np.concatenate([kept, found + start], axis=1)
            cosines = np.concatenate([cosines, exact], axis=1)
            order = np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS]
            kept, cosines = np.take_along_axis(kept, order, axis=1), np.take_along_axis(cosines, order, axis=1)
        return kept, cosines


def _highest(values: Features, k: int) -> npt.NDArray[np.int64]:
    """The positions of the k highest cosines of each row (B, k), ascending; of those as good as equal the first.

    The product of the same two vectors differs in its last bits with their place in the matrices.
    """
    found = np.argpartition(-values, k - 1, axis=1)[:, :k]
    least = np.take_along_axis(values, found, axis=1).min(axis=1)
    for row in np.flatnonzero((values >= least[:, None] - _ROUNDING).sum(axis=1) > k):
        above = np.flatnonzero(values[row] > least[row] + _ROUNDING)
        equal = np.flatnonzero(np.abs(values[row] - least[row]) <= _ROUNDING)
        found[row] = np.concatenate([above, equal[: k - len(above)]])
    return np.sort(found, axis=1)


def vote(codes: npt.NDArray[np.int64], cosines: npt.NDArray[Any], classes: int) -> npt.NDArray[np.float64]:
    """Let neighbours vote, weighted by exp(cosine / 0.07).

    Parameters
    ----------
    codes
        Classes of the neighbours, int64 (B, k).
    cosines
        Their cosines, (B, k), the highest first. A neighbour of cosine -inf has no vote; the first must have one.
    classes
        C.

    Returns
    -------
    Shares of the votes, float64 (B, C).
    """
    weights = np.exp((cosines - cosines[:, :1]) / TEMPERATURE)
    shares = np.zeros((len(codes), classes))
    np.add.at(shares, (np.arange(len(codes))[:, None], codes), weights)
    shares /= weights.sum(axis=1, keepdims=True)
    return shares


@dataclass(frozen=True)
class ExampleNames:
    """Names by labelled examples, made by `name_by_examples`.

    Attributes
    ----------
    method
        How they were fitted.
    classifier
        What was fitted.
    examples
        N.
    column
        What a name is called in a prediction: "label", or its rank.
    lineages
        The names above each class, by rank.
    """

    method: Method
    classifier: NamesEmbeddings
    examples: int
    column: str = LABEL
    lineages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The columns of a prediction: the ranks above that are known, and the name itself."""
        return [*ranks_in(rank for each in self.lineages.values() for rank in each), self.column]

    @property
    def description(self) -> str:
        """What names, for people: "SimpleShot on 97 examples of 21 classes"."""
        classes = len(self.classifier.classes)
        return f"{self.method.display_name} on {self.examples:,} examples of {classes:,} classes"

    @property
    def pooled_names(self) -> pa.Table:
        """All names, as `all_scores` has them."""
        classes = self.classifier.classes
        above = {
            rank: pa.array([self.lineages.get(name, {}).get(rank) for name in classes], pa.string())
            for rank in self.columns[:-1]
        }
        return pa.table({**above, self.column: pa.array(classes, pa.string())})

    @property
    def gives_probabilities(self) -> bool:
        """Scores rank classes; they are not probabilities."""
        return False

    def all_scores(self, vectors: Features) -> Features:
        """The scores of all C classes, float32 (B, C), for embeddings as in `predict`."""
        indices, scores = self.classifier.predict(vectors, len(self.classifier.classes))
        found = np.empty_like(scores)
        np.put_along_axis(found, indices, scores, axis=1)
        return found

    def predict(self, embeddings: Features, k: int, min_score: float = 0.0) -> Predictions:
        """Name embeddings, float32 (B, D), as the network gave them; only scores above 0 of nearest neighbours."""
        least = max(min_score, 1e-9) if self.method == Method.knn else min_score
        return rows_of(self.classifier.predict(embeddings, k), self.pooled_names, least)


def name_by_examples(embeddings: Features, labels: Sequence[str], *, method: str = DEFAULT_METHOD) -> ExampleNames:
    """Fit what names images to labelled examples.

    Parameters
    ----------
    embeddings
        float32 (N, D), of one model, not normalised.
    labels
        N class names.
    method
        "simpleshot" or "knn".

    Raises
    ------
    UnknownNameError
        No such method.
    ConfigError
        No examples, examples of one class only, or shapes that do not match.
    """
    if len(embeddings) != len(labels):
        raise ConfigError(f"{len(embeddings)} embeddings do not match {len(labels)} labels.")
    return name_by_stream(lambda: (embeddings,), labels, method=method)


def name_by_stream(embeddings: Stream, labels: Sequence[str], *, method: str = DEFAULT_METHOD) -> ExampleNames:
    """Fit what names images to labelled examples that are read a block at a time; the same as `name_by_examples`.

    "simpleshot" holds some thousands of them in memory, and reads them twice; "knn" holds all, those above 1 GB in a
    temporary file. Parameters and errors are as for `name_by_examples`.
    """
    if method not in list(Method):
        raise unknown_name("method", method, Method)
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise ConfigError(
            f"The labelled examples have {len(classes)} class{'es' if not classes else ''}: at least two are needed to "
            "choose from. Label more examples, or name another column."
        )
    position = {name: i for i, name in enumerate(classes)}
    codes = np.array([position[label] for label in labels])

    def checked() -> Iterator[Features]:
        for part in embeddings():
            _check(part, part.shape[-1])
            yield part

    fit = SimpleShot.fit_stream if method == Method.simpleshot else _fit_nearest_neighbours
    return ExampleNames(Method(method), fit(checked, codes, classes), len(labels))


def _blocks(embeddings: Iterable[Features]) -> Iterator[Features]:
    """The same rows, `_AT_ONCE` at a time, in whatever blocks they come."""
    waiting: list[Features] = []
    count = 0
    for each in embeddings:
        given = 0
        while given < len(each):
            some = each[given : given + _AT_ONCE - count]
            waiting.append(some)
            count += len(some)
            given += len(some)
            if count == _AT_ONCE:
                yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
                waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _cl2n(embeddings: Features, centre: npt.NDArray[np.float64]) -> Features:
    """Embeddings scaled to length 1, centred, and scaled to length 1 again, float32 (B, D)."""
    scaled = unit(embeddings)
    scaled -= centre.astype(np.float32)
    return unit(scaled, out=scaled)


def _fit_nearest_neighbours(embeddings: Stream, codes: npt.NDArray[np.int64], classes: list[str]) -> NearestNeighbours:
    units: Features | None = None
    done = 0
    for part in _blocks(embeddings()):
        if units is None:
            units = room(len(codes), part.shape[1])
        units[done : done + len(part)] = unit(part.astype(np.float64))
        done += len(part)
    assert units is not None
    return NearestNeighbours(classes, codes, units)


def hold_out(labels: Sequence[str], share: float, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Choose examples at random to leave out, the same share of each class.

    Parameters
    ----------
    labels
        N class names.
    share
        Between 0 and 1. At least one example of each class is kept, so none of a class of one is left out.
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


def draw_examples(codes: npt.NDArray[np.int64], most: int, order: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Choose at most so many examples, of each class alike: what small classes leave goes to the large ones.

    Parameters
    ----------
    codes
        Class of each example, int64 (N).
    most
        How many examples; where there are more classes than that, one of each of the largest.
    order
        A random number of each example; those with the lowest are chosen. While examples keep their numbers, the choice
        changes little when others are added.

    Returns
    -------
    Positions in `codes`, ascending.
    """
    if len(codes) <= most:
        return np.arange(len(codes))
    shuffled = np.lexsort((order, codes))
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    chosen, left = [], most
    by_size = np.argsort(sizes, kind="stable")
    by_size = by_size[sizes[by_size] > 0][-most:]
    for number, code in enumerate(by_size):
        count = min(int(sizes[code]), left // (len(by_size) - number))
        chosen.append(shuffled[starts[code] : starts[code] + count])
        left -= count
    return np.sort(np.concatenate(chosen))


def _checked_k(k: int, classes: list[str]) -> int:
    if k < 1:
        raise ConfigError(f"k must be at least 1, not {k}.")
    return min(k, len(classes))


def _check(embeddings: Features, width: int) -> None:
    if embeddings.ndim != 2 or embeddings.shape[1] != width:
        raise ConfigError(
            f"Embeddings of shape {embeddings.shape} do not match {width}-dimensional examples: they come from "
            f"different models."
        )
    if not np.isfinite(embeddings).all():
        raise ConfigError("Some embeddings are not finite: embed those images again.")
