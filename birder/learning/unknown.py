"""What a classifier does not know: the distance of an image to the nearest training images, and its threshold.

The score is the mean cosine distance to the 5 nearest examples, a nearest-neighbour score as in Sun et al.,
"Out-of-distribution detection with deep nearest neighbors", arXiv 2204.06507. Five, because one alone is often a
duplicate or a wrong label, and classes may have as few as five examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birder.inference.classifier import as_examples, directions, mean_distances
from birder.naming.by_examples import draw_examples
from birder.vectors import take_rows

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]

NEAREST = 5
MOST_EXAMPLES = 20_000
_MOST_BYTES = 48 * 2**20
_REPEATS = 5
_LEFT_OUT = 0.2
_MOST_ASKED = 5_000
_AT_ONCE = 4096


@dataclass(frozen=True)
class Unknown:
    """How the unknown is told.

    Attributes
    ----------
    examples
        int8 (M, D): what a classifier keeps; see `birder.inference.classifier.as_examples`.
    threshold
        Scores above it are unknown.
    scores
        float32 (N,): of each row, by the examples of other folds; nan for rows that are in no fold.
    asked, rounds, known, found
        (A,), of all repeats together: the position of a row, int64; the repeat, int32; whether its class was known
        then, bool; and its score then, float32. Empty where there are too few classes to leave one out.
    """

    examples: npt.NDArray[np.int8]
    threshold: float
    scores: Floats
    asked: Codes
    rounds: npt.NDArray[np.int32]
    known: npt.NDArray[np.bool_]
    found: Floats


def learn_unknown(embeddings: Floats, codes: Codes, folds: Codes, apart: Codes, *, kept: float, seed: int) -> Unknown:
    """Find the threshold that keeps a share of known images, and how well the score tells images of other classes.

    Parameters
    ----------
    embeddings, codes
        (N, D) and (N,).
    folds
        int64 (N,): the fold that judges each row, or -1.
    apart
        int64 (N,): the fold whose rows must not be compared with this row, or -1.
    kept
        Above 0 and below 1.
    seed
        Of the examples kept and of the classes left out. More than 20,000 examples (or 48 MB) are not kept; of large
        classes more are left out than of small ones.
    """
    nothing = np.empty(0, np.int64)
    most = min(MOST_EXAMPLES, _MOST_BYTES // embeddings.shape[1])
    random = np.random.default_rng(seed)
    chosen = draw_examples(codes, most, random.random(len(codes)))
    examples = as_examples(take_rows(embeddings, chosen))
    compared = _Compared(embeddings, directions(examples), codes[chosen], apart[chosen])
    judged = np.flatnonzero(folds >= 0)
    scores = np.full(len(codes), np.nan, np.float32)
    scores[judged] = compared.scores(judged, folds[judged], nothing)
    threshold = float(np.quantile(scores[judged], kept, method="higher"))
    classes = np.unique(codes[judged])
    every: list[tuple[Codes, npt.NDArray[np.int32], npt.NDArray[np.bool_], Floats]] = []
    for repeat in range(_REPEATS if len(classes) > 2 else 0):
        left_out = random.choice(classes, max(1, round(_LEFT_OUT * len(classes))), replace=False)
        asked = np.sort(random.permutation(judged)[:_MOST_ASKED])
        found = compared.scores(asked, folds[asked], left_out)
        outside = np.isin(codes[asked], left_out)
        if not outside.any() or outside.all():
            continue
        every.append((asked, np.full(len(asked), repeat, np.int32), ~outside, found))
    none = (np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.bool_), np.empty(0, np.float32))
    asked, rounds, known, found = map(np.concatenate, zip(none, *every, strict=True))
    return Unknown(examples, threshold, scores, asked, rounds, known, found)


@dataclass(frozen=True)
class _Compared:
    """Embeddings, and the examples that they are compared with: unit vectors (M, D), their classes and folds (M,)."""

    embeddings: Floats
    examples: Floats
    codes: Codes
    apart: Codes

    def scores(self, rows: Codes, folds: Codes, left_out: Codes) -> Floats:
        """Scores of rows by the examples that are not of their fold, nor of a class that is left out."""
        found = np.empty(len(rows), np.float32)
        known = ~np.isin(self.codes, left_out)
        for fold in np.unique(folds):
            examples = self.examples[known & (self.apart != fold)]
            here = folds == fold
            if not len(examples):
                found[here] = 2.0
                continue
            places = np.flatnonzero(here)
            for start in range(0, len(places), _AT_ONCE):
                some = places[start : start + _AT_ONCE]
                found[some] = mean_distances(take_rows(self.embeddings, rows[some]), examples, NEAREST)
        return found
