"""Giving labels, undoing that, and the history of both."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field

from birder.collection.store import Collection
from birder.errors import CollectionError
from birder.explore.labels import MAX_VALUE, check_label, give_label, history, undo
from birder.server.answers import History, LabelChange, Restored
from birder.server.site import CONFLICT, PROBLEMS, Here, Site

router = APIRouter(tags=["labels"], responses=PROBLEMS)

Name = Annotated[str, Field(min_length=1, max_length=300)]


class Labelling(BaseModel):
    """A label for photographs."""

    ids: list[Name] = Field(min_length=1, max_length=100_000)
    column: Name = Field("label", description="A column of text; it is added if it is not there.")
    value: str | None = Field(
        min_length=1, max_length=MAX_VALUE, description="The label; null takes away what is there."
    )


class Undoing(BaseModel):
    """Which change to undo."""

    change: Name | None = Field(None, description="The last one that is not undone, without it.")


@router.post("/labels", response_model=LabelChange, responses=CONFLICT)
def label(site: Here, asked: Labelling) -> dict[str, Any]:
    """Write a label into the rows of photographs. It can be undone."""
    with site.writing:
        collection = Collection.open(site.path)
        check_label(collection, asked.column, asked.value)
        try:
            change = give_label(collection, asked.ids, asked.column, asked.value)
        except CollectionError as error:
            raise HTTPException(409, str(error)) from error
        site.catalogue.refresh()
    return {
        "change": change.change,
        "column": change.column,
        "value": change.value,
        "changed": change.count,
        "can_undo": change.count > 0,
    }


@router.get("/labels/history", response_model=History)
def past(site: Here, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> dict[str, Any]:
    """List what labels were given, the latest first."""
    changes = history(Collection.open(site.path), limit)
    return {"changes": [{**asdict(change), "at": change.at.isoformat()} for change in changes]}


@router.post("/labels/undo", response_model=Restored, responses=CONFLICT)
def take_back(site: Here, asked: Undoing | None = None) -> dict[str, Any]:
    """Undo a change of labels; rows that have been changed since stay as they are."""
    return _undo(site, asked.change if asked else None)


def _undo(site: Site, change: str | None) -> dict[str, Any]:
    with site.writing:
        try:
            undone = undo(Collection.open(site.path), change)
        except CollectionError as error:
            raise HTTPException(409, str(error)) from error
        site.catalogue.refresh()
    return undone._asdict()
