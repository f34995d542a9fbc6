"""Teaching a classifier by labels: what it has learned so far, the classifier as a file, names for the other images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from birder.errors import CollectionBusyError, unknown_name
from birder.learning.suggest import name_of
from birder.learning.wanted_labels import FEWEST_LABELS, can_learn, wants
from birder.server.catalogue import Snapshot
from birder.server.responses import Taught, TeachJobs
from birder.server.review import Named, rejects
from birder.server.site import CONFLICT, PROBLEMS, CurrentSite, listed

router = APIRouter(tags=["whole collection"], responses=PROBLEMS)

ColumnName = Annotated[str, Field(min_length=1, max_length=300, description="The column of labels")]


class SavingClassifier(BaseModel):
    """Which classifier to save, and how."""

    column: ColumnName = "label"
    network: bool = Field(
        False,
        strict=True,
        description="With the network that made the embeddings, so that it works by itself; else the head alone.",
    )


class NamingRest(BaseModel):
    """Which images to name, and how."""

    column: ColumnName = "label"
    precision: float | None = Field(
        0.95,
        ge=0.5,
        le=0.999,
        strict=True,
        description="The share of the names given that should be right; null: name all.",
    )
    unknown: bool = Field(True, strict=True, description="Give no name to images unlike everything that was learned.")
    where: str | None = Field(None, max_length=10_000, description="A filter: an SQL expression on the columns.")


class Cancelling(BaseModel):
    """What to cancel."""

    job: Literal["save", "name"]


@router.get("/teach", response_model=Taught)
def taught(
    site: CurrentSite,
    column: Annotated[str, Query(min_length=1, max_length=300, description="The column of labels")] = "label",
) -> dict[str, Any]:
    """What the labels of a column have taught a classifier so far, by the cross-validation of `birder adapt`.

    It is measured on at most 5,000 of the labelled images. Measuring takes a while: the first request with labels
    enough begins it, and is answered with the state "computing"; ask again until it is "ready". It is measured again
    when 10 % of the labels have changed (and at least 5); until then, the last figures are given.
    """
    snapshot = site.catalogue.current()
    counts = _counts(snapshot, column)
    classes = [
        {"name": name, "count": count, "missing": max(0, FEWEST_LABELS - count)}
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    told = {"wanted": FEWEST_LABELS, "wants": wants(counts) or "", "classes": classes}
    if not can_learn(counts):
        return {**told, "state": "waiting", "progress": 0.0, "stage": "", "problem": "", "lesson": None}
    found = site.lesson.state(snapshot, column)
    lesson = found["lesson"]
    if lesson is not None:
        lesson = {**lesson, "doubtful": _still_doubtful(snapshot, column, lesson["doubtful"])}
    return {**told, **found, "lesson": lesson}


@router.get("/teach/jobs", response_model=TeachJobs)
def jobs(site: CurrentSite) -> dict[str, Any]:
    """How far saving a classifier and naming the rest are, and what came of them last."""
    return site.teach.states()


@router.post("/teach/save", response_model=TeachJobs, status_code=202, responses=CONFLICT)
def save(site: CurrentSite, asked: SavingClassifier) -> dict[str, Any]:
    """Begin to learn a classifier from all labels of a column, as `birder adapt` does, and to write it to a file.

    Ask `GET /teach/jobs` how far that is; `GET /teach/classifier` sends the file.
    """
    _counts(site.catalogue.current(), asked.column)
    try:
        site.teach.save_classifier(asked.column, network=asked.network)
    except CollectionBusyError as error:
        raise HTTPException(409, str(error)) from error
    return site.teach.states()


@router.get(
    "/teach/classifier",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The file"}},
)
def classifier(site: CurrentSite) -> Response:
    """The classifier that was saved last, a file for `birder predict --model`."""
    file = site.teach.file()
    if file is None or not file.exists():
        raise HTTPException(404, "No classifier has been saved yet: POST /api/v1/teach/save.")
    return FileResponse(file, filename=file.name, media_type="application/octet-stream")


@router.post("/teach/name", response_model=TeachJobs, status_code=202, responses=CONFLICT)
def name(site: CurrentSite, asked: NamingRest) -> dict[str, Any]:
    """Begin to name the images without a label, by a classifier that is learned from all labels of a column.

    As `birder predict --save`: names go into the columns `predicted_...`, all at once in the end, and no label is
    changed. Ask `GET /teach/jobs` how far that is.
    """
    snapshot = site.catalogue.current()
    _counts(snapshot, asked.column)
    snapshot.select(snapshot.filter(asked.where))
    try:
        site.teach.name_rest(asked.column, precision=asked.precision, unknown=asked.unknown, where=asked.where or "")
    except CollectionBusyError as error:
        raise HTTPException(409, str(error)) from error
    return site.teach.states()


@router.post("/teach/cancel", response_model=TeachJobs)
def cancel(site: CurrentSite, asked: Cancelling) -> dict[str, Any]:
    """End saving a classifier or naming the rest; names that are not written yet are not written."""
    (site.teach.save if asked.job == "save" else site.teach.name).cancel()
    return site.teach.states()


def _counts(snapshot: Snapshot, column: str) -> dict[str, int]:
    """Class -> labelled rows."""
    if snapshot.types.get(column) != "text":
        texts = [name for name, kind in snapshot.types.items() if kind == "text"]
        raise unknown_name("column of text", column, texts)
    counted = pc.value_counts(snapshot.column(column, snapshot.select(snapshot.filter(None)))).to_pylist()
    return {each["values"]: each["counts"] for each in counted if name_of(each["values"]) is not None}


def _still_doubtful(snapshot: Snapshot, column: str, doubtful: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with the label that was doubted, whose suggestion nobody has rejected, as a list shows them."""
    positions = snapshot.positions([each["id"] for each in doubtful])
    there = [each for each, position in zip(doubtful, positions, strict=True) if position >= 0]
    rows = positions[positions >= 0]
    suggested = Named(
        rows, pa.array([each["suggested"] for each in there], pa.string()), np.array([each["score"] for each in there])
    )
    labels = snapshot.column(column, rows).to_pylist()
    rejected = rejects(snapshot, suggested)
    return [
        {**photo, "label": each["label"], "suggested": each["suggested"], "score": each["score"]}
        for each, photo, label, out in zip(there, listed(snapshot, rows), labels, rejected, strict=True)
        if label == each["label"] and not out
    ]
