"""How good label help is: its classifier by cross-validation, on few enough of the labelled images to be quick.

The same fit and the same groups as `adapt`, without what else `adapt` finds out. Memory: the embeddings of `MOST_ROWS`
rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.filter import quoted
from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.evaluation.intervals import Bootstrap, Estimate
from birder.evaluation.linear_fit import choose
from birder.learning.rows import by_content
from birder.learning.splits import columns_for_groups, find_groups, make_folds
from birder.learning.suggest import read_labels

MOST_ROWS = 2_000
"""The most labelled rows to measure on, drawn at random."""
_FOLDS = 5
_SEED = 0
_TOO_FEW = (
    "How often this is right can be measured when there are two classes with a few images each, which were not all "
    "taken together."
)


@dataclass(frozen=True)
class Measured:
    """The accuracy of a classifier that was fitted to the labels of a column.

    Attributes
    ----------
    accuracy
        The share of held-out images that get their own label, with its interval and n.
    classes, groups
        How many classes and groups there are among them.
    how
        Sentences that say what the groups are.
    """

    accuracy: Estimate
    classes: int
    groups: int
    how: tuple[str, ...]

    @property
    def note(self) -> str:
        """One sentence for people."""
        estimate = self.accuracy
        interval = "" if estimate.low is None else f" ({estimate.low:.0%} to {estimate.high:.0%})"
        return (
            f"On labelled images that it had not seen, this is right for {estimate.value:.0%}{interval}: "
            f"{estimate.n:,} images of {self.classes:,} classes, in {self.groups:,} groups."
        )


def measure(storage: Storage, column: str) -> Measured:
    """Measure how often the best label is right on images that the classifier was not fitted to.

    Raises
    ------
    ConfigError
        There are not yet two classes with images in two groups each.
    """
    labels = _drawn({id_: name for id_, name in read_labels(storage, column).items() if name is not None})
    if len(set(labels.values())) < 2:
        raise ConfigError(_TOO_FEW)
    rows, embeddings = _rows(storage, column, labels)
    names = [labels[id_] for id_ in rows["id"].to_pylist()]
    classes, codes = np.unique(np.array(names, dtype=object), return_inverse=True)
    groups = find_groups(storage, rows, embeddings, column=column)
    folds = make_folds(codes, groups.codes, _FOLDS, _SEED)
    judged = folds.of >= 0
    if len(classes) - len(folds.unjudged) < 2:
        raise ConfigError(_TOO_FEW)
    chosen = choose(embeddings, codes, folds.of)
    right = chosen.out_of_fold_logits[judged].argmax(axis=1) == codes[judged]
    bootstrap = Bootstrap(groups.codes[judged], codes[judged], seed=_SEED)
    classes_judged, groups_judged = (len(np.unique(each[judged])) for each in (codes, groups.codes))
    return Measured(bootstrap.mean(right.astype(np.float64)), classes_judged, groups_judged, groups.how)


def _drawn(labels: Mapping[str, str]) -> dict[str, str]:
    """At most `MOST_ROWS` of the labels, by id."""
    ids = sorted(labels)
    if len(ids) > MOST_ROWS:
        ids = sorted(np.random.default_rng(_SEED).choice(np.array(ids), MOST_ROWS, replace=False).tolist())
    return {id_: labels[id_] for id_ in ids}


def _rows(storage: Storage, column: str, labels: Mapping[str, str]) -> tuple[pa.Table, npt.NDArray[np.float32]]:
    """What grouping needs of the rows with these ids, sorted by content, and their embeddings (N, D)."""
    columns = tuple(dict.fromkeys([*columns_for_groups(storage, ()), column]))
    where = f"id IN ({', '.join(map(quoted, labels))})"
    batches = [(table, vectors.copy()) for table, vectors in storage.embedding_batches(columns, where)]
    rows = pa.concat_tables([table for table, _ in batches])
    order = by_content(rows)
    return rows.take(order), np.concatenate([vectors for _, vectors in batches])[order]
