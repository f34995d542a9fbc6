"""Names by words, without a text encoder: each label is a word that classes of the model are known by.

B is the number of images in a batch, D the embedding dimension, L the number of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.naming.class_words import ClassWords, Places, summed
from birder.naming.label_files import read_label_list
from birder.naming.label_sets import LABEL, label_names
from birder.naming.predictions import Predictions, Top, rows_of

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class WordNames:
    """Names by words.

    Attributes
    ----------
    words
        Of the model's classes.
    pooled_names
        The labels, as `all_scores` has them.
    places
        The classes of each label.
    """

    words: ClassWords
    pooled_names: pa.Table
    places: tuple[Places, ...]

    @property
    def columns(self) -> list[str]:
        """The columns of a prediction."""
        return [LABEL]

    @property
    def gives_probabilities(self) -> bool:
        """Scores are probabilities."""
        return True

    @property
    def note(self) -> str:
        """What scores are, in a sentence."""
        return (
            f"Named by the class names of {self.words.model}, not by a text encoder: a label's score is the summed "
            "probability of its classes, among all classes of the model."
        )

    def all_scores(self, vectors: Vectors) -> npt.NDArray[np.float64]:
        """Logarithms of the probabilities of all labels for embeddings (B, D), float64 (B, L)."""
        with np.errstate(divide="ignore"):
            logs: npt.NDArray[np.float64] = np.log(self._scores(vectors).astype(np.float64))
        return logs

    def predict(self, vectors: Vectors, k: int, min_score: float = 0.0) -> Predictions:
        """Name embeddings (B, D); errors are those of `Classifier.decision_function`."""
        scores = self._scores(vectors)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return rows_of(Top(best, np.take_along_axis(scores, best, axis=1)), self.pooled_names, min_score)

    def _scores(self, vectors: Vectors) -> Vectors:
        probabilities = self.words.classifier.predict_proba(vectors)
        return np.stack([summed(probabilities, each) for each in self.places], axis=1)


def are_words(labels: str | Path | Sequence[str] | None) -> bool:
    """Whether labels are a list, or a text file with one; not a table of taxa or published embeddings."""
    if labels is None:
        return False
    return not isinstance(labels, str | Path) or Path(labels).suffix.lower() not in (".csv", ".parquet", ".npy")


def name_by_words(words: ClassWords, labels: str | Path | Sequence[str]) -> WordNames:
    """Name by some of the words that a model's classes are known by.

    Parameters
    ----------
    words
        Of the model.
    labels
        A list; "a,b,c"; or a text file with one a line.

    Raises
    ------
    UnknownNameError
        No class is known by one of them.
    ConfigError
        There are none, or one occurs twice.
    """
    names = label_names(read_label_list(str(labels)) if isinstance(labels, str | Path) else labels)
    places = []
    for label in names[LABEL].to_pylist():
        found = words.places(label)
        if found is None:
            raise words.unknown(label)
        places.append(found)
    return WordNames(words, names, tuple(places))
