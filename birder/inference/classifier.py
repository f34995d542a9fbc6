"""A classifier on embeddings: one linear layer, and what its training measured about how far it can be trusted.

N is the number of embeddings, D their dimension, C the number of classes, M the number of examples kept.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError, WrongModelError
from birder.vectors import unit

if TYPE_CHECKING:
    from birder.weights.load import LoadedModel

Floats = npt.NDArray[np.float32]
_AT_ONCE = 4096
_CELLS = 2**24  # cosines at once: 64 MiB
FLOORS: tuple[float, ...] = (*(n / 100 for n in range(50, 100)), 0.995, 0.999)
"""The probabilities at which precision was measured for each rank."""
FEWEST_MEASURED = 20
"""With fewer rows above a threshold, the precision there is not known: 19 right ones of 20 are 0.95."""


class Deepest(NamedTuple):
    """The deepest rank that can be trusted: its name ("genus"), the taxon, and the taxon's summed probability."""

    rank: str
    name: str
    probability: float


@dataclass(frozen=True)
class Classifier:
    """A linear classifier on the embeddings of one model, as `birder adapt` makes it.

    Its methods follow scikit-learn's conventions: embeddings (N, D) in, as the model gives them, not normalised.

    Attributes
    ----------
    classes
        C names; of an adapted classifier sorted.
    weight
        float32 (C, D): logits are `embeddings @ weight.T + bias`.
    bias
        float32 (C,).
    adaptation
        What its training recorded, as JSON holds it; empty for a classifier that came from elsewhere.
    examples
        int8 (M, D): directions of training embeddings, each scaled so that its largest component is 127; None if the
        classifier cannot say "unknown".
    """

    classes: tuple[str, ...]
    weight: Floats
    bias: Floats
    adaptation: Mapping[str, Any] = field(default_factory=dict)
    examples: npt.NDArray[np.int8] | None = None

    @classmethod
    def load(cls, path: str | Path) -> Classifier:
        """Read the classifier of a checkpoint with class names (.pt, .safetensors), or a detached head.

        Raises
        ------
        WeightsError
            The file is missing, damaged, or does not hold a linear classifier with class names.
        """
        from birder.weights.head import load_head

        head = load_head(path)
        return cls(head.classes, head.weight, head.bias, head.adaptation, head.examples)

    def save(self, path: str | Path, *, model: LoadedModel | None = None) -> Path:
        """Write it as a checkpoint of a network, or detached; see `birder.weights.head.save_head`.

        Parameters
        ----------
        path
            Ends in .pt or .safetensors; a detached head is named NAME.head.safetensors.
        model
            The network whose embeddings it takes; None for a detached head.

        Returns
        -------
        The file that was written.

        Raises
        ------
        ConfigError
            Another ending, or too many examples for a file.
        WeightsError
            The classifier was not made for this network.
        """
        from birder.weights.head import Head, save_head

        head = Head(self.classes, self.weight, self.bias, self.adaptation, self.examples)
        return save_head(path, head, model=model)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.weight.shape[1])

    @property
    def metrics(self) -> dict[str, Any]:
        """What cross-validation measured: name -> estimate, low, high, n, interval; empty if nothing did."""
        return dict(self.adaptation.get("metrics", {}))

    def decision_function(self, X: npt.ArrayLike) -> Floats:
        """Logits, float32 (N, C).

        Raises
        ------
        WrongModelError
            The embeddings have another dimension.
        ConfigError
            Some are not finite.
        """
        embeddings = self._checked(X)
        logits = np.empty((len(embeddings), len(self.classes)), np.float32)
        for rows in _blocks(len(embeddings), _AT_ONCE):
            np.matmul(embeddings[rows], self.weight.T, out=logits[rows])
        logits += self.bias
        return logits

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """Calibrated probabilities, float32 (N, C): the softmax of the logits; errors as in `decision_function`."""
        return softmax(self.decision_function(X))

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.object_]:
        """The most probable class of each embedding, an array (N,) of str; errors as in `decision_function`."""
        names = np.array(self.classes, dtype=object)
        best: npt.NDArray[np.object_] = names[self.decision_function(X).argmax(axis=1)]
        return best

    def top(self, X: npt.ArrayLike, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
        """The k most probable classes (all if there are fewer), best first.

        Returns
        -------
        Indices into `classes`, int64 (N, k), and probabilities, float32 (N, k).
        """
        if k < 1:
            raise ConfigError(f"k must be at least 1, not {k}.")
        probabilities = self.predict_proba(X)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        return best.astype(np.int64), np.take_along_axis(probabilities, best, axis=1)

    def unknown_score(self, X: npt.ArrayLike) -> Floats:
        """How far embeddings are from everything learned: the mean cosine distance to the k nearest examples.

        Returns
        -------
        float32 (N,), 0 (equal to examples) to 2. In blocks: some 64 MiB beside the examples as float32.

        Raises
        ------
        ConfigError
            The classifier was made without examples (`--unknown none`), or not by `birder adapt`.
        """
        if self.examples is None or not self.adaptation.get("unknown"):
            raise ConfigError(
                "This classifier cannot tell the unknown: it keeps no examples. Make one with: birder adapt --unknown "
                "0.95."
            )
        return mean_distances(self._checked(X), self._directions, int(self.adaptation["unknown"]["k"]))

    def is_unknown(self, X: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which embeddings are farther from the examples than nearly all held-out images of known classes, bool (N,).

        The share of known images that stays below the threshold is `adaptation["unknown"]["kept"]`; errors as in
        `unknown_score`.
        """
        scores = self.unknown_score(X)
        above: npt.NDArray[np.bool_] = scores > float(self.adaptation["unknown"]["threshold"])
        return above

    def sets(self, X: npt.ArrayLike) -> list[tuple[str, ...]]:
        """The classes that cannot be ruled out, most probable first: split conformal prediction.

        Sets hold the true class of at least the share `adaptation["conformal"]["level"]` of images like those of the
        training; a set may be empty: then no class is probable enough. A class is in the set when its probability is at
        least 1 - its quantile ("least ambiguous set-valued classifiers", Sadinle, Lei and Wasserman, arXiv 1609.00451).

        Returns
        -------
        N tuples of names.

        Raises
        ------
        ConfigError
            The classifier was not made by `birder adapt`.
        """
        conformal = self.adaptation.get("conformal")
        if not conformal:
            raise ConfigError("This classifier has no conformal quantiles. Make one with: birder adapt.")
        return prediction_sets(self.predict_proba(X), self.classes, conformal["quantiles"])

    def deepest(self, X: npt.ArrayLike, floor: float = 0.95) -> list[Deepest | None]:
        """The deepest rank that can be trusted for each embedding.

        That is the lowest one whose most probable taxon has a summed probability of at least `floor`, among the ranks
        whose precision above it, measured in cross-validation on 20 rows or more, was at least `floor` too.

        Parameters
        ----------
        X
            Embeddings (N, D).
        floor
            0.5 to 0.999. Precision was measured at hundredths and at 0.995 and 0.999; a value between two is judged at
            the higher one.

        Returns
        -------
        N values; None where no rank will do.

        Raises
        ------
        ConfigError
            The classifier has no taxonomy, or `floor` is out of range.
        """
        ranks = self.adaptation.get("ranks")
        if not ranks:
            raise ConfigError(
                "This classifier knows no ranks above its classes. Make one with: birder adapt --taxonomy FILE, or "
                "from a collection with columns such as genus and family."
            )
        threshold = threshold_for(floor)
        probabilities = self.predict_proba(X)
        found: list[Deepest | None] = [None] * len(probabilities)
        for rank in ranks["names"]:
            measured = ranks["thresholds"].get(rank, {}).get(str(threshold))
            if measured is None or measured["n"] < FEWEST_MEASURED or measured["precision"] < floor:
                continue
            taxa, summed = roll_up(probabilities, self.classes, ranks["taxa"], rank)
            if not taxa:
                continue
            best = summed.argmax(axis=1)
            reached = summed[np.arange(len(summed)), best]
            for row in np.flatnonzero(reached >= np.float32(threshold)):
                found[row] = Deepest(rank, taxa[best[row]], min(float(reached[row]), 1.0))
        return found

    @functools.cached_property
    def _directions(self) -> Floats:
        assert self.examples is not None  # `unknown_score` has looked
        return directions(self.examples)

    def _checked(self, X: npt.ArrayLike) -> Floats:
        embeddings = np.asarray(X, dtype=np.float32)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimension:
            raise WrongModelError(
                f"Embeddings of shape {embeddings.shape} do not match this classifier, which takes {self.dimension}-"
                "dimensional ones: it was made for another model."
            )
        for rows in _blocks(len(embeddings), _AT_ONCE):
            if not np.isfinite(embeddings[rows]).all():
                raise ConfigError("Some embeddings are not finite: embed those images again.")
        return embeddings


def softmax(logits: Floats) -> Floats:
    """Softmax over the last axis, float32 (N, C)."""
    shifted: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted


def as_examples(embeddings: Floats) -> npt.NDArray[np.int8]:
    """Directions of embeddings (M, D) as int8: each row scaled so that its largest component is 127 in size."""
    largest = np.abs(embeddings).max(axis=1, keepdims=True)
    return np.rint(embeddings * (127.0 / np.where(largest > 0, largest, 1))).astype(np.int8)


def directions(examples: npt.NDArray[np.int8]) -> Floats:
    """Examples (M, D) as unit vectors, float32."""
    vectors = examples.astype(np.float32)
    return unit(vectors, out=vectors)


def mean_distances(embeddings: Floats, examples: Floats, k: int) -> Floats:
    """Mean cosine distance of embeddings (N, D) to their k nearest unit vectors of (M, D), float32 (N,), in blocks."""
    k = min(k, len(examples))
    distances = np.empty(len(embeddings), np.float32)
    for rows in _blocks(len(embeddings), max(1, min(_AT_ONCE, _CELLS // max(len(examples), 1)))):
        cosines = unit(embeddings[rows]) @ examples.T
        nearest = np.partition(cosines, -k, axis=1)[:, -k:]
        nearest.sort(axis=1)
        distances[rows] = 1.0 - nearest.mean(axis=1)
    return distances


def prediction_sets(
    probabilities: Floats, classes: Sequence[str], quantiles: float | Mapping[str, float]
) -> list[tuple[str, ...]]:
    """Conformal sets from probabilities (N, C), most probable class first; see `Classifier.sets`."""
    if isinstance(quantiles, Mapping):
        limits = np.array([quantiles[name] for name in classes], dtype=np.float64)
    else:
        limits = np.full(len(classes), quantiles, dtype=np.float64)
    within = 1.0 - probabilities.astype(np.float64) <= limits
    sets = []
    for row, inside in zip(probabilities, within, strict=True):
        members = np.flatnonzero(inside)
        order = members[np.argsort(-row[members], kind="stable")]
        sets.append(tuple(classes[i] for i in order))
    return sets


def roll_up(
    probabilities: Floats, classes: Sequence[str], taxa: Mapping[str, Mapping[str, str]], rank: str
) -> tuple[list[str], Floats]:
    """Probabilities (N, C) summed over the classes of each taxon at a rank.

    Returns
    -------
    T taxa, sorted, and float32 (N, T). Classes whose taxon at the rank is not known are left out, so rows may sum to
    less than 1.
    """
    of_class = [taxa.get(name, {}).get(rank) for name in classes]
    names = sorted({taxon for taxon in of_class if taxon})
    position = {name: i for i, name in enumerate(names)}
    summed = np.zeros((len(probabilities), len(names)), np.float32)
    for code, taxon in enumerate(of_class):
        if taxon:
            summed[:, position[taxon]] += probabilities[:, code]
    return names, summed


def threshold_for(floor: float) -> float:
    """The lowest threshold at which precision was measured that is not below a floor.

    Raises
    ------
    ConfigError
        The floor is outside of 0.5 to 0.999.
    """
    if not FLOORS[0] <= floor <= FLOORS[-1]:
        raise ConfigError(f"The floor must be between {FLOORS[0]} and {FLOORS[-1]}, not {floor}.")
    return FLOORS[bisect.bisect_left(FLOORS, floor)]


def _blocks(rows: int, at_once: int) -> Iterator[slice]:
    return (slice(start, min(start + at_once, rows)) for start in range(0, rows, at_once))
