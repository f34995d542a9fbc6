"""What a classifier has learned from the labels of a column so far: the figures of `adapt`, for the page's view Teach.

Nothing is measured here that `adapt` does not measure: this chooses what a person who labels needs to know, and counts
how many of the images without a label the classifier could name. Memory: as `adapt`, and one batch of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.filter import Filter, quoted
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import ConfigError
from birder.evaluation.judged import Judged
from birder.evaluation.selective import PERCENTS, risk_coverage
from birder.inference.classifier import Classifier
from birder.learning.adapt import Adapted, Progress, adapt
from birder.learning.suggest import name_of, read_labels
from birder.learning.wanted_labels import FEWEST_LABELS
from birder.words import counted

MOST_ROWS = 5_000
"""The most labelled rows to measure on: a sample by id, which a hash makes."""
MOST_OF_REST = 20_000
"""The most rows without a label to count on; the others are taken to be like these."""
_STAGES = {
    "reading labels": (0.0, 0.05),
    "finding groups": (0.05, 0.15),
    "choosing the strength": (0.15, 0.75),
    "learning the unknown": (0.75, 0.85),
    "fitting": (0.85, 0.92),
    "measuring": (0.92, 1.0),
}
"""Where each stage of `adapt` begins and ends, as a share of the whole."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Confusion:
    """How often a class was taken for another, and a few of these images by id."""

    true: str
    predicted: str
    count: int
    ids: list[str]


@dataclass(frozen=True)
class DoubtfulLabel:
    """A label that the classifier disagrees with: what it suggests, and the probability that it gives the label."""

    id: str
    label: str
    suggested: str
    score: float


@dataclass(frozen=True)
class Nameable:
    """What can be named at a precision.

    Attributes
    ----------
    precision
        The share of the names given that should be right.
    probability
        The lowest probability at which held-out images were named as precisely; None if no probability does.
    share
        The share of held-out images that reach it, with its interval, as JSON holds it.
    images
        How many images without a label reach it and are not unknown.
    """

    precision: float
    probability: float | None
    share: dict[str, Any]
    images: int


@dataclass(frozen=True)
class Lesson:
    """What was learned from the labels of a column.

    Attributes
    ----------
    accuracy
        The share of held-out images that get their own label, with its interval, as JSON holds it.
    classes, groups
        How many classes were judged, in how many groups.
    how
        What the groups are, and what a person should look at first.
    confusions, doubtful
        The most frequent first; the most suspicious first.
    nameable
        For each precision of `birder.evaluation.selective.PERCENTS`.
    rest, unknown
        How many images have no label, and how many of them are unlike everything that was learned.
    """

    accuracy: dict[str, Any]
    classes: int
    groups: int
    how: str
    confusions: list[Confusion]
    doubtful: list[DoubtfulLabel]
    nameable: list[Nameable]
    rest: int
    unknown: int

    @property
    def note(self) -> str:
        """One sentence for people."""
        low, high = self.accuracy["low"], self.accuracy["high"]
        interval = "" if low is None else f" ({low:.0%} to {high:.0%})"
        return (
            f"On labelled images that it had not seen, this is right for {self.accuracy['estimate']:.0%}{interval}: "
            f"{self.accuracy['n']:,} images of {counted(self.classes, 'class', 'classes')}, in "
            f"{counted(self.groups, 'group')}."
        )


def learn(storage: Storage, column: str, *, most: int | None = None, progress: Progress | None = None) -> Adapted:
    """Learn from the labels of a column by `adapt`, with its defaults; of more than `most` rows, from a sample.

    `progress` is called with the name of a stage and the share of the whole that is done.

    Raises
    ------
    UnknownNameError, ConfigError, MissingExtraError
        As `adapt`.
    """
    labelled = [] if most is None else [id_ for id_, name in read_labels(storage, column).items() if name is not None]

    def tell(stage: str, share: float) -> None:
        begin, end = _STAGES[stage]
        if progress is not None:
            progress(stage, begin + (end - begin) * share)

    return adapt(storage, column, where=_sample(labelled, most), min_examples=FEWEST_LABELS, progress=tell)


def lesson(storage: Storage, column: str, *, progress: Progress | None = None) -> Lesson:
    """Learn from the labels of a column, and say how good that is and what it could name.

    Raises
    ------
    UnknownNameError, ConfigError, MissingExtraError
        As `adapt`.
    """
    adapted = learn(storage, column, most=MOST_ROWS, progress=progress)
    found = adapted.evaluation
    metrics = found["metrics"]
    limits = [probability_for(adapted.out_of_fold, percent / 100) for percent in PERCENTS]
    if progress is not None:
        progress("looking at the images without a label", 0.0)
    rest, unknown, named = _count_rest(storage, column, adapted.classifier, limits)
    return Lesson(
        accuracy=metrics["top1"],
        classes=len(set(adapted.out_of_fold["true"].to_pylist())),
        groups=found["groups"]["count"],
        how=" ".join(found["notes"]),
        confusions=[
            Confusion(each["true"], each["predicted"], each["n"], each["ids"]) for each in found["top_confusions"]
        ],
        doubtful=[
            DoubtfulLabel(each["id"], each["label"], each["suggested"], each["score"]) for each in found["doubtful"]
        ],
        nameable=[
            Nameable(percent / 100, limit, metrics[f"coverage_at_{percent}"], images)
            for percent, limit, images in zip(PERCENTS, limits, named, strict=True)
        ],
        rest=rest,
        unknown=unknown,
    )


def probability_for(out_of_fold: pa.Table, precision: float) -> float | None:
    """The lowest probability above which held-out images were named with a precision; None if there is none.

    Parameters
    ----------
    out_of_fold
        A table of `birder.evaluation.predictions`.
    precision
        The share of the names above it that is right, 0 to 1.

    Raises
    ------
    ConfigError
        The precision is out of range.
    """
    if not 0.0 < precision < 1.0:
        raise ConfigError(f"The precision must be between 0 and 1, not {precision}.")
    rows = Judged.of(out_of_fold)
    judged = len(rows.right)
    points = risk_coverage(rows.confidence[: rows.sure], rows.right[: rows.sure], judged, points=judged)
    return next((point.threshold for point in reversed(points) if point.risk <= 1 - precision + 1e-9), None)


def without_label(
    storage: Storage, column: str, where: str | Filter | None = None
) -> Iterator[tuple[list[str], list[str], Vectors]]:
    """Ids, uris and embeddings (B, D) of the rows without a label, among those of a filter, a batch at a time."""
    chosen = without_wrong_boxes(where, storage.columns)
    for table, embeddings in storage.embedding_batches(("id", "uri", column), chosen):
        open_ = np.array([name_of(value) is None for value in table[column].to_pylist()], np.bool_)
        if open_.any():
            kept = table.filter(pa.array(open_))
            yield kept["id"].to_pylist(), kept["uri"].to_pylist(), embeddings[open_]


def _count_rest(
    storage: Storage, column: str, classifier: Classifier, limits: list[float | None]
) -> tuple[int, int, list[int]]:
    """How many rows have no label, how many of them are unknown, and how many reach each probability."""
    open_ = [id_ for id_, name in read_labels(storage, column).items() if name is None]
    looked = unknown = 0
    reached = [0] * len(limits)
    for _, _, embeddings in without_label(storage, column, _sample(open_, MOST_OF_REST)) if open_ else ():
        looked += len(embeddings)
        strange = classifier.is_unknown(embeddings)
        unknown += int(strange.sum())
        best = classifier.predict_proba(embeddings).max(axis=1)
        for number, limit in enumerate(limits):
            reached[number] += 0 if limit is None else int(((best >= np.float32(limit)) & ~strange).sum())
    scale = len(open_) / looked if looked else 0.0
    return len(open_), round(unknown * scale), [round(number * scale) for number in reached]


def _sample(ids: list[str], most: int | None) -> str | None:
    """A filter that keeps `most` of some rows: those with the first ids; None where there are not more."""
    if most is None or len(ids) <= most:
        return None
    return f"id < {quoted(sorted(ids)[most])}"
