"""Where a training starts: which images it learns from, and the classifier that the network begins with.

N is the number of labelled rows, C of classes, D the embedding dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError
from birder.evaluation.linear_fit import choose, fit, temperature
from birder.learning.rows import LabelledRows
from birder.learning.splits import Groups, make_folds
from birder.weights.head import Head

Codes = npt.NDArray[np.int64]

FOLDS, MANY, FOLDS_OF_MANY = 5, 1000, 10
"""A fifth of the images is for validation; of 1,000 and more, a tenth."""
_STRENGTH = 1.0  # where there are too few groups to choose it
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Parts:
    """Labelled rows in two parts, of whole groups.

    Attributes
    ----------
    learned, held_out
        int64, positions: the rows to learn from, and those to validate on.
    folds
        int64, as long as `learned`: folds to choose a strength by; -1 for rows that are in none.
    """

    learned: Codes
    held_out: Codes
    folds: Codes


def in_parts(rows: LabelledRows, groups: Groups, seed: int) -> Parts:
    """Hold the first of five folds out for validation, of ten where there are 1,000 rows or more.

    Raises
    ------
    ConfigError
        The groups leave nothing to validate on, or nothing to learn a class from.
    """
    parts = make_folds(rows.codes, groups.codes, FOLDS if len(rows.codes) < MANY else FOLDS_OF_MANY, seed)
    if parts.count < 2:
        raise ConfigError(
            "No class has images in two groups or more, so nothing would be left to validate on: "
            f"{' '.join(groups.how)} Label images of other places or days, or name other columns with --group-by."
        )
    held_out = np.flatnonzero(parts.of == 0)
    learned = np.flatnonzero(~np.isin(groups.codes, groups.codes[held_out]))
    missing = np.setdiff1d(np.arange(len(rows.classes)), rows.codes[learned])
    if len(missing):
        raise ConfigError(
            f"All images of {_some([rows.classes[code] for code in missing])} are in groups with validation images, so "
            "nothing would be left to learn from. Label more images, or name other columns with --group-by."
        )
    numbers, folds = np.unique(parts.of[learned], return_inverse=True)
    return Parts(learned, held_out, folds.astype(np.int64) - int(numbers[0] < 0))


def fitted_head(rows: LabelledRows, parts: Parts, seed: int, progress: Callable[[float], None]) -> tuple[Head, float]:
    """The classifier that `birder adapt` fits to embeddings, of the rows to learn from alone; and its strength."""
    X, y = rows.embeddings[parts.learned], rows.codes[parts.learned]
    if parts.folds.max() < 1:
        layer, divisor, strength = fit(X, y, _STRENGTH, classes=len(rows.classes)), 1.0, _STRENGTH
    else:
        chosen = choose(X, y, parts.folds, classes=len(rows.classes), seed=seed, progress=progress)
        strength = chosen.strength
        layer = fit(X, y, strength, classes=len(rows.classes), start=chosen.start)
        judged = np.flatnonzero(parts.folds >= 0)
        divisor = temperature(chosen.out_of_fold_logits[judged], y[judged])
    weight, bias = (each / divisor for each in layer)
    return Head(rows.classes, weight.astype(np.float32), bias.astype(np.float32)), strength


def head_of_classes(head: Head, classes: Sequence[str], file: Path) -> Head:
    """The classifier of a file, its classes in another order.

    Raises
    ------
    ConfigError
        It has other classes.
    """
    apart = [
        f"{where}: {_some(sorted(names))}"
        for where, names in (
            ("only in the file", set(head.classes) - set(classes)),
            ("only among the labels", set(classes) - set(head.classes)),
        )
        if names
    ]
    if apart:
        raise ConfigError(
            f"The classes of {file} are not those of the labels ({'; '.join(apart)}). Without --init, a classifier of "
            "the labels is fitted first."
        )
    order = [head.classes.index(name) for name in classes]
    return replace(head, classes=tuple(classes), weight=head.weight[order], bias=head.bias[order], examples=None)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (" ..." if len(names) > _NAMES_SHOWN else "")
