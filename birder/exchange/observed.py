"""What rows of a collection say was observed, as lines of Camtrap DP's observations.csv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow.compute as pc

from birder.collection.disk import connect
from birder.collection.store import Collection
from birder.exchange.predictions import COLUMNS as PREDICTED
from birder.exchange.predictions import prediction_of
from birder.images.sources import RANKS

BOX = {"bboxX": "box_x", "bboxY": "box_y", "bboxWidth": "box_width", "bboxHeight": "box_height"}
_KEPT = ("eventID", "count", "lifeStage", "sex", "behavior")
COLUMNS = ("id", "uri", "label", *RANKS, "scientificName", "observationType", *_KEPT, *BOX.values(), *PREDICTED)
"""Columns of a collection that observations are made of, where it has them."""

# What tools for camera traps call what is no animal -> observationType
_OTHERS = {"blank": "blank", "empty": "blank", "human": "human", "person": "human", "people": "human"}
_OTHERS |= {"homo sapiens": "human", "vehicle": "vehicle", "unknown": "unknown"}
_ALLOWED = {
    "observationType": {"animal", "human", "vehicle", "blank", "unknown", "unclassified"},
    "lifeStage": {"adult", "subadult", "juvenile"},
    "sex": {"female", "male"},
}
_SMALLEST = 1e-15
Line = dict[str, Any]


class By(NamedTuple):
    """Who classified: people (None if unknown) for labels, which model for predictions; and when labels were given."""

    people: str | None
    machine: str
    labelled: Mapping[str, datetime]


def label_times(collection: Collection) -> dict[str, datetime]:
    """When each row got its label, by uri, as far as the journal of labels given on the page tells it."""
    database = connect(collection.path)
    if not (collection.path / "labels.lance").is_dir():
        return {}
    changes = database.open_table("labels").to_arrow().sort_by("at")
    changes = changes.filter(pc.and_(pc.equal(changes["column"], "label"), pc.equal(changes["state"], "done")))
    return {uri: change["at"] for change in changes.select(["at", "uris"]).to_pylist() for uri in change["uris"]}


def observations(row: Mapping[str, Any], by: By) -> Iterator[Line]:
    """The observations that a row is: what people say (its label or ranks), what a model says, or a box without a name.

    All lack what the medium and its deployment tell: their IDs and times.
    """
    shared = {"observationLevel": "media", **_box(row)}
    found = False
    for number, line in enumerate(_of_people(row, by)):
        found = True
        yield {"observationID": f"{row['id']}-human" + (f"-{number + 1}" if number else "")} | shared | line
    prediction = prediction_of(row)
    if prediction is not None:
        found = True
        kind = _OTHERS.get(prediction.name.lower(), "animal")
        ranks = list(prediction.ranks.values())
        yield (
            {"observationID": f"{row['id']}-machine"}
            | shared
            | {
                "observationType": kind,
                "scientificName": (ranks[-1] if ranks else prediction.name) if kind == "animal" else None,
                "classificationMethod": "machine",
                "classifiedBy": prediction.by or by.machine,
                "classificationTimestamp": _utc(prediction.at),
                "classificationProbability": round(prediction.score, 6),
            }
        )
    if not found and "bboxX" in shared:
        yield {"observationID": f"{row['id']}-box"} | shared | {"observationType": "unclassified"}


def taxon(row: Mapping[str, Any], name: str) -> Line:
    """A taxon of the package's `taxonomic`, with the ranks above it that the row knows of."""
    for prefix in ("", "predicted_"):
        ranks = {rank: str(row[prefix + rank]) for rank in RANKS if row.get(prefix + rank)}
        rank = next((rank for rank in reversed(RANKS) if ranks.get(rank) == name), None)
        if rank is not None:
            above = {each: ranks[each] for each in RANKS[: RANKS.index(rank)] if each in ranks}
            return {"scientificName": name, "taxonRank": rank, **above}
    return {"scientificName": name}


def _of_people(row: Mapping[str, Any], by: By) -> Iterator[Line]:
    label = row.get("label")
    lowest = next((row[rank] for rank in reversed(RANKS) if row.get(rank)), None)
    given = row.get("observationType") if row.get("observationType") in _ALLOWED["observationType"] else None
    other = _OTHERS.get(str(label).lower()) if label else None
    kind = other or given or "animal"
    if not (label or lowest or row.get("scientificName") or given not in (None, "unclassified")):
        return
    # of several species on a photograph, Camtrap DP packages bring all, joined, and no label
    several = str(row.get("scientificName") or "").split(" | ")
    names = several if not label and len(several) > 1 else [lowest or label or several[0]]
    kept = {name: row[name] for name in _KEPT if row.get(name) is not None and _is_allowed(name, row[name])}
    if len(names) > 1 or kind != "animal":
        kept.pop("count", None)
    for name in names:
        yield {
            "observationType": kind,
            "scientificName": name if kind == "animal" else None,
            **kept,
            "classificationMethod": "human",
            "classifiedBy": by.people,
            "classificationTimestamp": _utc(by.labelled.get(row["uri"])),
            "observationTags": f"label:{label}" if label and kind == "animal" and label != name else None,
        }


def _is_allowed(name: str, value: object) -> bool:
    if name == "count":
        return isinstance(value, int) and value >= 1
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
