"""Names by a classifier from a file, which may say that it does not know, or name the rank that it is sure of.

B is the number of images in a batch, D the embedding dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.errors import ConfigError, WeightsError
from birder.inference.classifier import Classifier, threshold_for
from birder.naming.predictions import Predictions
from birder.weights.hub import sha256_of
from birder.weights.resolve import Kind, Model, resolve

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClassifierNames:
    """Names by a classifier.

    Attributes
    ----------
    classifier
        What names.
    name, sha256
        Of its file.
    source
        The file, an absolute path.
    floor
        The probability and precision that the deepest rank must reach; None: it is not asked for.
    """

    classifier: Classifier
    name: str
    sha256: str
    source: str
    floor: float | None = None

    @property
    def columns(self) -> list[str]:
        """The columns of a prediction."""
        return ["label"]

    @property
    def further(self) -> dict[str, pa.DataType]:
        """What is said of each image beside its names, by column; `saved` has the taxa of the deepest rank as well."""
        told: dict[str, pa.DataType] = {}
        if self._tells_unknown:
            told |= {"unknown": pa.bool_(), "unknown_score": pa.float32()}
        if self.classifier.adaptation.get("conformal"):
            told["set"] = pa.list_(pa.string())
        if self.floor is not None:
            told |= {"deepest": pa.string(), "deepest_rank": pa.string(), "deepest_score": pa.float32()}
        return told

    @property
    def description(self) -> str:
        """What it chooses from, and what its training measured."""
        top1 = self.classifier.metrics.get("top1")
        measured = "" if not top1 else f" (cross-validated accuracy {float(top1['estimate']):.1%})"
        return f"{len(self.classifier.classes):,} classes{measured}"

    @property
    def pooled_names(self) -> pa.Table:
        """All names, as `all_scores` has them."""
        return pa.table({"label": pa.array(self.classifier.classes, pa.string())})

    @property
    def gives_probabilities(self) -> bool:
        """Scores are probabilities."""
        return True

    def all_scores(self, vectors: Vectors) -> npt.NDArray[np.float64]:
        """Logarithms of the probabilities of all C classes, float64 (B, C); errors as in `predict`."""
        logits = self.classifier.decision_function(vectors).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        found: npt.NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return found

    def predict(self, vectors: Vectors, k: int, min_score: float = 0.0) -> Predictions:
        """Name embeddings (B, D); scores are probabilities. What is said of an image stands beside each of its names.

        Errors are those of `Classifier.decision_function`.
        """
        indices, scores = self.classifier.top(vectors, k)
        told = self._told(vectors)
        classes = self.classifier.classes
        return [
            [
                {"label": classes[index], "score": float(score), **told[row]}
                for index, score in zip(indices[row], scores[row], strict=True)
                if score >= min_score
            ]
            for row in range(len(vectors))
        ]

    def taxa_above(self, prediction: Mapping[str, Any]) -> dict[str, str]:
        """The taxa of a prediction from the highest rank down to the deepest that can be trusted, by rank."""
        ranks = self.classifier.adaptation.get("ranks") or {}
        names: list[str] = ranks.get("names", [])
        deepest = prediction.get("deepest_rank")
        if deepest not in names:
            return {}
        for lineage in ranks["taxa"].values():
            if lineage.get(deepest) == prediction["deepest"]:
                above = names[: names.index(deepest) + 1]
                return {rank: lineage[rank] for rank in above if lineage.get(rank)}
        return {}

    @property
    def _tells_unknown(self) -> bool:
        return bool(self.classifier.adaptation.get("unknown")) and self.classifier.examples is not None

    def _told(self, vectors: Vectors) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = [{} for _ in range(len(vectors))]
        if self._tells_unknown:
            threshold = float(self.classifier.adaptation["unknown"]["threshold"])
            for row, score in enumerate(self.classifier.unknown_score(vectors)):
                told[row] |= {"unknown": bool(score > threshold), "unknown_score": float(score)}
        if self.classifier.adaptation.get("conformal"):
            for row, members in enumerate(self.classifier.sets(vectors)):
                told[row]["set"] = list(members)
        if self.floor is not None:
            for row, found in enumerate(self.classifier.deepest(vectors, self.floor)):
                told[row] |= {
                    "deepest": found and found.name,
                    "deepest_rank": found and found.rank,
                    "deepest_score": found and found.probability,
                }
        return told


def is_classifier(model: str | Path | Model | None) -> bool:
    """Whether a word for a model names the file of a classifier: a detached head, or a checkpoint with class names.

    Raises
    ------
    UnknownNameError, WeightsError
        As `birder.weights.resolve.resolve`; or the file is damaged.
    """
    if model is None:
        return False
    found = resolve(model)
    if found.kind != Kind.file:
        return found.kind == Kind.head
    from birder.weights.checkpoint import read_checkpoint

    return bool(read_checkpoint(found.source).class_to_idx)


def names_by_classifier(model: str | Path | Model, floor: float | None = None) -> ClassifierNames:
    """Read the classifier of a checkpoint file or a detached head.

    Parameters
    ----------
    model
        The file; see `is_classifier`.
    floor
        Also say the deepest rank whose summed probability, and whose precision in cross-validation, reach this.

    Raises
    ------
    WeightsError
        The file is not one of a classifier.
    ConfigError
        The floor is out of range, or the classifier has no ranks.
    """
    found = resolve(model)
    head = found.load_head()
    classifier = Classifier(head.classes, head.weight, head.bias, head.adaptation, head.examples)
    if floor is not None:
        threshold_for(floor)
        if not classifier.adaptation.get("ranks"):
            raise ConfigError(
                f"{found.name} knows no ranks above its classes, so there is no deepest one. Learn it from a "
                "collection with rank columns, or with: birder adapt --taxonomy FILE"
            )
    return ClassifierNames(classifier, Path(found.source).name, sha256_of(Path(found.source)), found.source, floor)


def backbone_told(names: ClassifierNames) -> dict[str, Any]:
    """What a classifier's file tells of its backbone; of a checkpoint that does not name it, computed from its tensors.

    Raises
    ------
    WeightsError
        A detached head does not name its backbone.
    """
    told = dict(names.classifier.adaptation.get("backbone") or {})
    if told.get("sha256") or told.get("weights_sha256") or told.get("name"):
        return told
    model = resolve(names.source)
    if model.kind == Kind.head:
        raise WeightsError(f"{names.name} does not name its backbone: get it again from whoever made it.")
    weights = model.fetch()
    return {
        "name": model.name,
        "network": weights.network,
        "sha256": weights.backbone_sha256(),
        "weights_sha256": weights.sha256,
        "dimension": names.classifier.dimension,
    }
