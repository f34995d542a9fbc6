"""The classifier of a file that `birder serve --model` names: names for stored and uploaded images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from birder.collection.backbone import check_backbone
from birder.naming.by_classifier import backbone_told, names_by_classifier
from birder.server.catalogue import Catalogue, Snapshot

if TYPE_CHECKING:
    from birder.naming.by_classifier import ClassifierNames


def served_classifier(catalogue: Catalogue, model: str | Path) -> ClassifierNames:
    """Read a classifier that is to name a collection's images.

    Raises
    ------
    WeightsError
        The file is not one of a classifier.
    WrongModelError
        It was made for other embeddings than the collection's.
    """
    names = names_by_classifier(model)
    check_backbone(catalogue.current().collection, backbone_told(names), names.name)
    return names


def named(names: ClassifierNames, snapshot: Snapshot, vector: npt.NDArray[np.float32], k: int) -> dict[str, Any]:
    """Names for an embedding (D,), as the interface answers: best first, and whether the image is unknown."""
    found = names.predict(vector[None], k)[0]
    column = names.classifier.adaptation.get("column")
    notes = [f"By {names.name}: {names.description}."]
    if found[0].get("unknown"):
        notes.insert(0, "Unknown: it is unlike anything that the classifier learned from.")
    members = found[0].get("set")
    if members is not None and len(members) != 1:
        notes.append(f"Cannot be ruled out: {', '.join(members)}." if members else "No class is probable enough.")
    return {
        "method": "classifier",
        "column": column if snapshot.types.get(str(column)) == "text" else None,
        "predictions": [{"name": each["label"], "score": min(each["score"], 1.0)} for each in found],
        "note": " ".join(notes),
    }
