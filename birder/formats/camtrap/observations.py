"""Observations from the rows of a collection, as lines of Camtrap DP's observations.csv."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from birder.collection.predictions import COLUMNS as PREDICTED
from birder.collection.predictions import PREFIX, SEQUENCE, SEQUENCE_COLUMNS, Prediction, prediction_of
from birder.collection.provenance import Source
from birder.collection.schema import LABEL_SOURCE, whole_number
from birder.taxonomy import RANKS, lowest_name, ranks_down_to, taxon_of

BOX = {"bboxX": "box_x", "bboxY": "box_y", "bboxWidth": "box_width", "bboxHeight": "box_height"}
_KEPT = ("eventID", "lifeStage", "sex", "behavior")
COLUMNS = (
    "id",
    "uri",
    "label",
    LABEL_SOURCE,
    *RANKS,
    "scientificName",
    "observationType",
    *_KEPT,
    "count",
    "category",
    "confidence",
    *BOX.values(),
    *PREDICTED,
    *SEQUENCE_COLUMNS,
)
"""Columns of a collection that observations are made of, where it has them."""

NOT_ANIMALS = {"blank": "blank", "empty": "blank", "human": "human", "person": "human", "people": "human"}
NOT_ANIMALS |= {"homo sapiens": "human", "vehicle": "vehicle", "unknown": "unknown"}
"""How tools for camera traps name what is not an animal -> observationType."""
_DETECTED = {"empty": "blank", "person": "human", "vehicle": "vehicle"}
"""What a detector says of an image without an animal -> observationType."""
_ALLOWED = {
    "observationType": {"animal", "human", "vehicle", "blank", "unknown", "unclassified"},
    "lifeStage": {"adult", "subadult", "juvenile"},
    "sex": {"female", "male"},
}
_SMALLEST = 1e-15
Line = dict[str, Any]


class Classifiers(NamedTuple):
    """Who or what classified the images.

    Attributes
    ----------
    person
        Who gave the labels, if known; a name that somebody gave with a label takes precedence.
    model
        The model that made the predictions; one that a prediction names takes precedence.
    label_source
        Returns where the label of a row comes from.
    folder_labels
        Whether names of folders count as observations.
    detector
        The detector that told what is on images, if known.
    """

    person: str | None
    model: str
    label_source: Callable[[Mapping[str, Any]], Source]
    folder_labels: bool = False
    detector: str | None = None


def observations(row: Mapping[str, Any], classifiers: Classifiers) -> Iterator[Line]:
    """The observations of a row: by people (its label or ranks), else by a model (its prediction), or by a detector.

    The name of a folder, which nobody determined, stands beside the prediction.

    Of an image without an animal, the detector says what is on it; of a box, that it has no name.

    Values of the medium and its deployment are missing in all: their IDs and times.
    """
    shared = {"observationLevel": "media", **_box(row)}
    found = by_people = False
    for number, line in enumerate(_by_people(row, classifiers)):
        found = True
        method = "human" if "classificationMethod" in line else "folder"
        by_people |= method == "human"
        yield {"observationID": f"{row['id']}-{method}" + (f"-{number + 1}" if number else "")} | shared | line
    prediction = None if by_people else prediction_of(row)
    if prediction is not None:
        found = True
        yield {"observationID": f"{row['id']}-machine"} | shared | by_machine(prediction, classifiers.model)
    if not found and (kind := _DETECTED.get(str(row.get("category")))):
        found = True
        confidence = row.get("confidence")
        yield (
            {"observationID": f"{row['id']}-detector"}
            | shared
            | {
                "observationType": kind,
                "classificationMethod": "machine",
                "classifiedBy": classifiers.detector,
                "classificationProbability": round(confidence, 6) if isinstance(confidence, float) else None,
            }
        )
    if not found and "bboxX" in shared:
        yield {"observationID": f"{row['id']}-box"} | shared | {"observationType": "unclassified"}


def by_machine(prediction: Prediction, model: str) -> Line:
    """What a model says is there; `model` if the prediction names none."""
    kind = NOT_ANIMALS.get(prediction.name.lower(), "animal")
    ranks = list(prediction.ranks.values())
    return {
        "observationType": kind,
        "scientificName": (ranks[-1] if ranks else prediction.name) if kind == "animal" else None,
        "classificationMethod": "machine",
        "classifiedBy": prediction.by or model,
        "classificationTimestamp": _utc(prediction.at),
        "classificationProbability": round(prediction.score, 6),
    }


def taxon(row: Mapping[str, Any], name: str) -> Line:
    """A taxon for the package's `taxonomic`, with its rank and the ranks above it, as far as the row has them."""
    for prefix in ("", PREFIX, SEQUENCE):
        names = taxon_of(row, prefix)
        rank = next((rank for rank in reversed(names) if names[rank] == name), None)
        if rank is not None:
            above = {each: names[each] for each in ranks_down_to(rank)[:-1] if each in names}
            return {"scientificName": name, "taxonRank": rank, **above}
    return {"scientificName": name}


def _by_people(row: Mapping[str, Any], classifiers: Classifiers) -> Iterator[Line]:
    """The observations by people; with `folder_labels` also the name of the folder, which nobody determined."""
    label = row.get("label")
    source = classifiers.label_source(row) if label else None
    of_folder = source is not None and source.kind == "folder"
    if of_folder and not classifiers.folder_labels:
        label = source = None
    lowest = lowest_name(taxon_of(row))
    given = row.get("observationType") if row.get("observationType") in _ALLOWED["observationType"] else None
    other = NOT_ANIMALS.get(str(label).lower()) if label else None
    kind = other or given or "animal"
    if not (label or lowest or row.get("scientificName") or given not in (None, "unclassified")):
        return
    # for several species on an image, a Camtrap DP package gives all, joined, and no label
    several = str(row.get("scientificName") or "").split(" | ")
    names = several if not label and len(several) > 1 else [lowest or label or several[0]]
    kept = {name: row[name] for name in _KEPT if row.get(name) is not None and _is_allowed(name, row[name])}
    if count := whole_number(row.get("count")):
        kept["count"] = count
    if len(names) > 1 or kind != "animal":
        kept.pop("count", None)
    by_folder = source is not None and of_folder and (other is not None or names == [label])
    people: Line = {
        "classificationMethod": "human",
        "classifiedBy": (source.by if source is not None else None) or classifiers.person,
        "classificationTimestamp": _utc(source.at if source is not None else None),
    }
    for name in names:
        yield {
            "observationType": kind,
            "scientificName": name if kind == "animal" else None,
            **kept,
            **({"observationComments": "The name of the image's folder."} if by_folder else people),
            "observationTags": f"label:{label}" if label and kind == "animal" and label != name else None,
        }


def _is_allowed(name: str, value: object) -> bool:
    return name not in _ALLOWED or value in _ALLOWED[name]


def _box(row: Mapping[str, Any]) -> Line:
    values = {theirs: row.get(ours) for theirs, ours in BOX.items()}
    numbers = [value for value in values.values() if isinstance(value, int | float) and 0 <= value <= 1]
    wide = all((values[name] or 0) >= _SMALLEST for name in ("bboxWidth", "bboxHeight"))
    return values if len(numbers) == len(BOX) and wide else {}


def _utc(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
