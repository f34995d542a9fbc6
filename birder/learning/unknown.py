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

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]

NEAREST = 5
MOST_EXAMPLES = 20_000
_MOST_BYTES = 48 * 2**20
_REPEATS = 5
_LEFT_OUT = 0.2
_MOST_ASKED = 5_000


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
    known, unknown
        float32 (K,), (U,): scores of rows of known classes and of classes left out, of all repeats together; empty
        where there are too few classes to leave one out.
    known_rows, unknown_rows
        int64 (K,), (U,): the row that each of these is of; a row may have a score in each repeat.
    """

    examples: npt.NDArray[np.int8]
    threshold: float
    scores: Floats
    known: Floats
    unknown: Floats
    known_rows: Codes
    unknown_rows: Codes


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
    examples = as_examples(embeddings[chosen])
    compared = _Compared(embeddings, directions(examples), codes[chosen], apart[chosen])
    judged = np.flatnonzero(folds >= 0)
    scores = np.full(len(codes), np.nan, np.float32)
    scores[judged] = compared.scores(judged, folds[judged], nothing)
    threshold = float(np.quantile(scores[judged], kept, method="higher"))
    classes = np.unique(codes[judged])
    known: list[tuple[Floats, Codes]] = [(np.empty(0, np.float32), nothing)]
    unknown = list(known)
    for _ in range(_REPEATS if len(classes) > 2 else 0):
        left_out = random.choice(classes, max(1, round(_LEFT_OUT * len(classes))), replace=False)
        asked = np.sort(random.permutation(judged)[:_MOST_ASKED])
        found = compared.scores(asked, folds[asked], left_out)
        outside = np.isin(codes[asked], left_out)
        if not outside.any() or outside.all():
            continue
        known.append((found[~outside], asked[~outside]))
        unknown.append((found[outside], asked[outside]))
    (of_known, known_rows), (of_unknown, unknown_rows) = (
        (np.concatenate([scores for scores, _ in each]), np.concatenate([rows for _, rows in each]))
        for each in (known, unknown)
    )
    return Unknown(examples, threshold, scores, of_known, of_unknown, known_rows, unknown_rows)


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
            found[here] = mean_distances(self.embeddings[rows[here]], examples, NEAREST) if len(examples) else 2.0
        return found
