"""Few-shot classification: SimpleShot on k examples of each class, everything else is named.

As BioCLIP (Stevens et al., arXiv 2311.18803) and BioCLIP 2 (Gu et al., arXiv 2505.23883) are evaluated: k = 1 and 5,
and five folds, whose random numbers have the seeds 0 to 4. For each fold the rows of each class are shuffled, class
after class in the order in which classes first appear, and the first k are the examples. "bioclip-v1" shuffles the list
of a class where it stands, so that each fold begins from what the fold before left, and k = 5 from what k = 1 left;
"bioclip-v2" begins each fold from the order of the rows.

Both take images of one burst for independent. Without a variant, folds are drawn as in BioCLIP 2, and in each fold the
rows of a group that has an example in it are not named.

N is the number of rows, D the embedding dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError, unknown_name
from birder.naming.by_examples import SimpleShot

Variant = Literal["bioclip-v1", "bioclip-v2"]
VARIANTS: tuple[Variant, ...] = ("bioclip-v1", "bioclip-v2")
"""The published protocols."""
SHOTS = (1, 5)
"""How many examples of each class."""
FOLDS = 5
"""How many folds; the fold is the seed of its random numbers."""
LEAST = 10
"""Classes with fewer rows are left out: too few are left to name."""

Codes = npt.NDArray[np.int64]


class Fold(NamedTuple):
    """A fold: positions of the examples, class after class, and of the rows to name, int64."""

    shots: int
    examples: Codes
    named: Codes


@dataclass(frozen=True)
class FewShot:
    """The accuracies at one number of examples a class.

    Attributes
    ----------
    shots
        Examples of each class.
    accuracies
        The share of right names in each fold.
    right, named
        In how many folds each row was named right, and named at all; int64 (N).
    """

    shots: int
    accuracies: tuple[float, ...]
    right: Codes
    named: Codes


def few_shot(
    embeddings: npt.NDArray[np.float32],
    labels: Codes,
    *,
    variant: Variant | None = None,
    groups: Codes | None = None,
    shots: Sequence[int] = SHOTS,
    folds: int = FOLDS,
) -> list[FewShot]:
    """Name the rows of each fold by its examples.

    Memory beyond the embeddings is some 100 MB, whatever N is.

    Parameters
    ----------
    embeddings
        float32 (N, D). The published figures are of features projected into the space of the texts.
    labels
        Class of each row, int64 (N). The published variants depend on the order of the rows.
    variant
        "bioclip-v1" or "bioclip-v2", which do not look at groups; None keeps groups apart.
    groups
        Group of each row, int64 (N); None: each row is one.
    shots
        Numbers of examples, in the order in which they are drawn.
    folds
        How many folds.

    Returns
    -------
    One result for each number of examples. Rows of classes with fewer than ten rows are not named.

    Raises
    ------
    UnknownNameError
        There is no such variant.
    ConfigError
        Fewer than two classes have ten rows, or no row is left to name.
    """
    if variant is not None and variant not in VARIANTS:
        raise unknown_name("few-shot protocol", variant, VARIANTS)
    results = []
    for k in shots:
        results.append(FewShot(k, (), np.zeros(len(labels), np.int64), np.zeros(len(labels), np.int64)))
    by_shots = {result.shots: result for result in results}
    accuracies: dict[int, list[float]] = {k: [] for k in shots}
    for fold in draw_folds(labels, variant=variant, groups=groups, shots=shots, folds=folds):
        own = labels[fold.examples][:: fold.shots]
        codes = np.repeat(np.arange(len(own)), fold.shots)
        fitted = SimpleShot.fit(embeddings[fold.examples], codes, [str(code) for code in own])
        right = own[fitted.predict(embeddings[fold.named], 1).indices[:, 0]] == labels[fold.named]
        by_shots[fold.shots].right[fold.named] += right
        by_shots[fold.shots].named[fold.named] += 1
        accuracies[fold.shots].append(float(right.mean()))
    return [FewShot(each.shots, tuple(accuracies[each.shots]), each.right, each.named) for each in results]


def draw_folds(
    labels: Codes,
    *,
    variant: Variant | None,
    groups: Codes | None,
    shots: Sequence[int] = SHOTS,
    folds: int = FOLDS,
) -> Iterator[Fold]:
    """Draw the examples of each fold; parameters and errors are those of `few_shot`."""
    members = _members(labels, max(LEAST, *(k + 1 for k in shots)))
    for k in shots:
        for seed in range(folds):
            random = Random(seed)
            examples, named = [], []
            for rows in members:
                order = rows if variant == "bioclip-v1" else rows.copy()
                random.shuffle(order)
                examples += order[:k]
                named += order[k:]
            fold = Fold(k, np.array(examples, np.int64), np.array(named, np.int64))
            if variant is None and groups is not None:
                fold = fold._replace(named=fold.named[~np.isin(groups[fold.named], groups[fold.examples])])
            if not len(fold.named):
                raise ConfigError("Every row shares a group with an example: no row is left for the few-shot protocol.")
            yield fold


def _members(labels: Codes, least: int) -> list[list[int]]:
    """The rows of each class that has enough, in the order in which classes first appear."""
    members: dict[int, list[int]] = {}
    for row, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(row)
    enough = [rows for rows in members.values() if len(rows) >= least]
    if len(enough) < 2:
        raise ConfigError(
            f"The few-shot protocol needs two classes with at least {least} images; there are {len(enough)}."
        )
    return enough
