"""The protocols that embeddings themselves are judged by, by name: what came of each, with intervals and in words.

N is the number of rows, D the embedding dimension, E that of the space that images and texts share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError, NoTextEncoderError, unknown_name
from birder.evaluation.clusters import adjusted_mutual_information, cluster
from birder.evaluation.few_shot import FOLDS, LEAST, SHOTS, Variant, few_shot
from birder.evaluation.intervals import Bootstrap, Estimate
from birder.evaluation.linear_probe import linear_probe
from birder.evaluation.neighbours import leave_one_out, named_by_neighbours
from birder.evaluation.retrieval import retrieve
from birder.evaluation.zero_shot import zero_shot
from birder.naming.by_examples import NEIGHBOURS, TEMPERATURE
from birder.naming.prompts import OPENAI_TEMPLATES

if TYPE_CHECKING:
    from birder.weights.clip import LoadedClip

ProtocolName = Literal["few-shot", "knn", "linear", "retrieval", "clusters", "zero-shot"]
PROTOCOLS: tuple[ProtocolName, ...] = ("few-shot", "knn", "linear", "retrieval", "clusters", "zero-shot")
"""The names of all protocols."""
RECALL_AT = (1, 5, 10)
"""The numbers of highest ranked images among which one of the class is looked for."""

Codes = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Judged:
    """What a protocol judges.

    Attributes
    ----------
    embeddings
        float32 (N, D).
    codes
        Class of each row, int64 (N): a position in `classes`.
    classes
        Names, sorted.
    groups
        Group of each row, int64 (N); None where rows are taken for independent.
    folds
        Fold of each row, int64 (N), -1 where its class cannot be judged; None where they were not made.
    seed
        Of the random numbers.
    variant
        The published few-shot protocol; None for ours.
    features
        Embeddings projected into the space of the texts, float32 (N, E); None where the model has no such space.
    clip
        The model with a text encoder; None without one.
    progress
        Called with the share that is done.
    """

    embeddings: Vectors
    codes: Codes
    classes: tuple[str, ...]
    groups: Codes | None
    folds: Codes | None = None
    seed: int = 0
    variant: Variant | None = None
    features: Vectors | None = None
    clip: LoadedClip | None = None
    progress: Callable[[float], None] | None = None

    def judgeable(self) -> npt.NDArray[np.bool_]:
        """Rows whose class has a row in another group, bool (N)."""
        groups = np.arange(len(self.codes)) if self.groups is None else self.groups
        pairs = np.unique(np.stack([self.codes, groups]), axis=1)
        several: npt.NDArray[np.bool_] = np.bincount(pairs[0], minlength=len(self.classes))[self.codes] > 1
        return several

    def bootstrap(self, rows: npt.NDArray[np.bool_]) -> Bootstrap:
        """What gives intervals of figures of some of the rows."""
        groups = None if self.groups is None else self.groups[rows]
        return Bootstrap(groups, self.codes[rows], seed=self.seed)


@dataclass(frozen=True)
class Outcome:
    """What came of a protocol: its figures, how they came about, what it was run with, and rows that were left out."""

    metrics: dict[str, Estimate]
    how: str
    parameters: dict[str, Any] = field(default_factory=dict)
    left_out: int = 0


def run(
    name: str,
    embeddings: Vectors,
    labels: Sequence[str],
    *,
    groups: Codes | None,
    folds: Codes | None = None,
    seed: int = 0,
    as_: Variant | None = None,
    features: Vectors | None = None,
    clip: LoadedClip | None = None,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Judge embeddings by a protocol.

    Parameters
    ----------
    name
        One of `PROTOCOLS`.
    embeddings
        float32 (N, D), as the network gave them.
    labels
        N class names.
    groups
        Group of each row, int64 (N): a row is never judged by rows of its own group. None takes all rows for
        independent.
    folds
        Fold of each row, int64 (N), -1 where its class cannot be judged; needed for "linear".
    seed
        Of intervals and of clusters.
    as_
        "bioclip-v1" or "bioclip-v2": few-shot folds as published, for which rows must be in their published order.
    features
        Embeddings projected into the space of the texts, float32 (N, E): needed for "zero-shot", and used with `as_`.
    clip
        The model with a text encoder, needed for "zero-shot".
    progress
        Called with the share that is done, where a protocol takes long.

    Returns
    -------
    `protocol`; `metrics`, each with estimate, low, high, n and interval; `how`, a sentence or more; `classes`, their
    number; `left_out`, the number of rows that could not be judged; and the parameters.

    Raises
    ------
    UnknownNameError
        There is no such protocol.
    ConfigError
        Fewer than two classes, or what the protocol needs is missing.
    NoTextEncoderError
        "zero-shot" without a text encoder.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    if len(embeddings) != len(labels):
        raise ConfigError(f"{len(embeddings)} embeddings do not match {len(labels)} labels.")
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise ConfigError(f"The protocol {name} needs labels of at least two classes; there are {len(classes)}.")
    position = {each: code for code, each in enumerate(classes)}
    codes = np.array([position[label] for label in labels], np.int64)
    judged = Judged(embeddings, codes, classes, groups, folds, seed, as_, features, clip, progress)
    outcome = _RUN[name](judged)
    return {
        "protocol": name,
        "metrics": {metric: estimate.as_dict() for metric, estimate in outcome.metrics.items()},
        "how": outcome.how,
        "classes": len(classes),
        "left_out": outcome.left_out,
        **outcome.parameters,
    }


def _few_shot(judged: Judged) -> Outcome:
    vectors, space = judged.embeddings, "the embeddings as stored"
    if judged.variant is not None and judged.features is not None:
        vectors, space = judged.features, "features in the space that the model's images and texts share"
    elif judged.variant is not None:
        space += (
            " (published figures are of features projected into the space that images and texts share, for which the "
            "model's text encoder is needed on this machine)"
        )
    results = few_shot(vectors, judged.codes, variant=judged.variant, groups=judged.groups)
    metrics = {}
    for result in results:
        rows = result.named > 0
        right, named = result.right[rows].astype(np.float32), result.named[rows].astype(np.float32)
        share = partial(_weighted_share, right, named)
        metrics[f"top1_{result.shots}_shot"] = judged.bootstrap(rows).statistic(share, limits=(0.0, 1.0))
    shots = " and ".join(map(str, SHOTS))
    apart = (
        f"as published ({judged.variant}), which takes all images for independent"
        if judged.variant is not None
        else "images that share a group with an example are not named"
        if judged.groups is not None
        else "all images are taken for independent"
    )
    return Outcome(
        metrics,
        f"SimpleShot (CL2N) on {shots} examples of each class, the mean of {FOLDS} folds, on {space}; {apart}. Classes "
        f"with fewer than {LEAST} images are left out. The interval tells how far other images would change this mean, "
        "not how far other examples would.",
        {
            "as": judged.variant,
            "projected": vectors is judged.features,
            "shots": list(SHOTS),
            "folds": {f"{result.shots}": list(result.accuracies) for result in results},
        },
        int((np.sum([result.named for result in results], axis=0) == 0).sum()),
    )


def _knn(judged: Judged) -> Outcome:
    rows = judged.judgeable()
    neighbours = leave_one_out(
        judged.embeddings,
        min(NEIGHBOURS, len(judged.codes) - 1),
        groups=judged.groups,
        progress=judged.progress,
    )
    nearest = _right(named_by_neighbours(neighbours, judged.codes, 1), judged, rows)
    voted = _right(named_by_neighbours(neighbours, judged.codes, NEIGHBOURS), judged, rows)
    bootstrap = judged.bootstrap(rows)
    return Outcome(
        {
            "top1_k1": bootstrap.mean(nearest),
            f"top1_k{NEIGHBOURS}": bootstrap.mean(voted),
            f"mean_recall_k{NEIGHBOURS}": bootstrap.macro(voted),
        },
        f"Every image is named by the nearest of all others, and by the {NEIGHBOURS} nearest, weighted by exp(cosine / "
        f"{TEMPERATURE}); {_apart(judged)}",
        {"k": [1, NEIGHBOURS], "temperature": TEMPERATURE},
        int((~rows).sum()),
    )


def _linear(judged: Judged) -> Outcome:
    if judged.folds is None:
        raise ConfigError("The protocol linear needs the fold of each row: make folds first.")
    rows = judged.folds >= 0
    _need(rows)
    logits, strength = linear_probe(judged.embeddings, judged.codes, judged.folds)
    right = _right(logits.argmax(axis=1), judged, rows)
    bootstrap = judged.bootstrap(rows)
    return Outcome(
        {"top1": bootstrap.mean(right), "mean_recall": bootstrap.macro(right)},
        f"Multinomial logistic regression on standardised embeddings (L2, C = {strength:g}, by the log loss over the "
        f"folds); every image is named by what was fitted on the other folds; {_apart(judged)}",
        {"strength": strength, "folds": int(judged.folds.max()) + 1},
        int((~rows).sum()),
    )


def _retrieval(judged: Judged) -> Outcome:
    found = retrieve(judged.embeddings, judged.codes, groups=judged.groups, progress=judged.progress)
    rows = found.judged
    _need(rows)
    bootstrap = judged.bootstrap(rows)
    metrics = {"map": bootstrap.mean(found.average_precision[rows])}
    for k in RECALL_AT:
        metrics[f"recall_at_{k}"] = bootstrap.mean((found.first[rows] <= k).astype(np.float64))
    return Outcome(
        metrics,
        f"Every image is a query, and all others are ranked by their cosine with it; {_apart(judged)}",
        {"recall_at": list(RECALL_AT)},
        int((~rows).sum()),
    )


def _clusters(judged: Judged) -> Outcome:
    found = cluster(judged.embeddings, len(judged.classes), seed=judged.seed)
    agreement = adjusted_mutual_information(judged.codes, found)
    return Outcome(
        {"ami": Estimate(agreement, None, None, len(found), "none")},
        f"k-means with {len(judged.classes)} clusters, as many as classes, compared with the classes by the adjusted "
        "mutual information. There is no interval: other images would give other clusters.",
        {"clusters": len(judged.classes), "seed": judged.seed},
    )


def _zero_shot(judged: Judged) -> Outcome:
    if judged.clip is None or judged.features is None:
        raise NoTextEncoderError(
            "The protocol zero-shot needs a model with a text encoder: use a collection of such a model, or leave "
            "zero-shot out."
        )
    top = zero_shot(judged.features, judged.classes, judged.clip)
    rows = np.ones(len(judged.codes), np.bool_)
    right = (top == judged.codes[:, None]).astype(np.float64)
    bootstrap = judged.bootstrap(rows)
    return Outcome(
        {
            "top1": bootstrap.mean(right[:, 0]),
            "top5": bootstrap.mean(right.max(axis=1)),
            "mean_recall": bootstrap.macro(right[:, 0]),
        },
        f"The names of the {len(judged.classes)} classes, in {len(OPENAI_TEMPLATES)} templates each, name every image; "
        "no label was used.",
        {"model": judged.clip.name, "templates": len(OPENAI_TEMPLATES)},
    )


def _weighted_share(
    right: npt.NDArray[np.float32], named: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Right names among all, for each row of weights (R, N)."""
    shares: npt.NDArray[np.float32] = (weights @ right) / (weights @ named)
    return shares


def _right(named: Codes, judged: Judged, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """1 for each judged row that is named right, else 0."""
    _need(rows)
    right: npt.NDArray[np.float64] = (named[rows] == judged.codes[rows]).astype(np.float64)
    return right


def _need(rows: npt.NDArray[np.bool_]) -> None:
    if not rows.any():
        raise ConfigError("Each class is in one group only, so no image can be judged by images of another group.")


def _apart(judged: Judged) -> str:
    if judged.groups is None:
        return "all images are taken for independent."
    return "images of its own group do not count, and images whose class is in one group only are left out."


_RUN: dict[str, Callable[[Judged], Outcome]] = {
    "few-shot": _few_shot,
    "knn": _knn,
    "linear": _linear,
    "retrieval": _retrieval,
    "clusters": _clusters,
    "zero-shot": _zero_shot,
}
