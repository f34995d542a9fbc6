"""Names for the images without a label, by a classifier that is learned from those with one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from birder.collection.filter import Filter
from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.learning.adapt import Progress
from birder.learning.lesson import learn, probability_for, without_label
from birder.naming.by_classifier import ClassifierNames
from birder.words import counted

_LEARNED = 0.7  # of the progress


@dataclass(frozen=True)
class NamedRest:
    """What was named.

    Attributes
    ----------
    images
        How many images without a label were looked at.
    named, unknown
        How many of them got a name, and how many are unlike everything that was learned.
    probability
        The lowest that a name had to have; None: any.
    """

    images: int
    named: int
    unknown: int
    probability: float | None

    @property
    def note(self) -> str:
        """One sentence for people."""
        least = "" if self.probability is None else f", each with a probability of {self.probability:.0%} or more"
        strange = f" {counted(self.unknown, 'image')} are marked as unknown." if self.unknown > 1 else ""
        strange = " One image is marked as unknown." if self.unknown == 1 else strange
        return f"{self.named:,} of {counted(self.images, 'image')} without a label named{least}.{strange}"


def name_rest(
    storage: Storage,
    column: str,
    *,
    precision: float | None = 0.95,
    unknown: bool = True,
    where: str | Filter | None = None,
    progress: Progress | None = None,
) -> NamedRest:
    """Learn from the labels of a column, and write names into the predictions of the rows without a label.

    As `birder adapt` and `birder predict --save` with its classifier: names go into the columns `predicted_...`, in one
    commit, and no label is changed. What former predictions left in the rows named here is removed. Some 1 KB a row is
    held beside what `adapt` takes.

    Parameters
    ----------
    storage
        The collection.
    column
        The labels.
    precision
        Only names whose probability was right so often in cross-validation; None: all.
    unknown
        Images unlike everything that was learned get no name, and `predicted_unknown` is true.
    where
        Only these rows.
    progress
        Called with the name of a stage and the share of the whole that is done.

    Raises
    ------
    ConfigError
        The labels cannot be learned from, or no probability is as precise.
    UnknownNameError, FilterError, CollectionError, MissingExtraError
        As `birder.learning.adapt.adapt` and `Storage.save_predictions`.
    """
    told = progress or (lambda stage, share: None)
    adapted = learn(storage, column, progress=lambda stage, share: told(stage, _LEARNED * share))
    limit = None if precision is None else probability_for(adapted.out_of_fold, precision)
    if precision is not None and limit is None:
        raise ConfigError(
            f"No probability of this classifier is right in {precision:.0%} of cases. Label more images, choose a "
            "lower precision, or name all images."
        )
    names = ClassifierNames(adapted.classifier, f"taught by {column}", "", "")
    rows = max(storage.count(), 1)
    best: list[tuple[str, dict[str, Any] | None]] = []
    named = strange = 0
    for _, uris, embeddings in without_label(storage, column, where):
        for uri, found in zip(uris, names.predict(embeddings, 1), strict=True):
            first = found[0]
            if unknown and first["unknown"]:
                best.append((uri, {"unknown": True, "unknown_score": first["unknown_score"]}))
                strange += 1
            elif limit is None or first["score"] >= limit:
                best.append((uri, {**first, "set": "; ".join(first["set"])}))
                named += 1
            else:
                best.append((uri, None))
        told("naming the images without a label", _LEARNED + (0.95 - _LEARNED) * len(best) / rows)
    told("writing the names", 0.95)
    if best:
        labels = sum(adapted.classifier.adaptation["counts"].values())
        by = f"{counted(len(adapted.classes), 'class', 'classes')} of {column}, taught by {labels:,} labels"
        further = {"unknown": pa.bool_(), "unknown_score": pa.float32(), "set": pa.string()}
        storage.save_predictions(best, names.columns, by, datetime.now(UTC), further)
    told("writing the names", 1.0)
    return NamedRest(len(best), named, strange, limit)
