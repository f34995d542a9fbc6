"""Giving labels, undoing that, and the history of both."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, HTTPException, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from birder.collection.journal import Change
from birder.collection.labels import (
    MAX_NAME,
    MAX_VALUE,
    HistoryPage,
    Recorder,
    Wish,
    check_column,
    checked_name,
    checked_value,
    history,
    ids_of,
)
from birder.errors import CollectionError
from birder.server.responses import ActIds, GivenLabels, History, Restored
from birder.server.site import CONFLICT, PROBLEMS, CurrentSite, Site

router = APIRouter(tags=["labels"], responses=PROBLEMS)

MOST_IDS = 100_000
T = TypeVar("T")

Text = Annotated[str, Field(min_length=1, max_length=300)]
Key = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z_-]+$")]
# Composing (NFC) may make a text shorter: how long a label may be is counted after that.
Value = Annotated[str, Field(min_length=1, max_length=4 * MAX_VALUE)]
Person = Annotated[str, Field(min_length=1, max_length=4 * MAX_NAME)]


class Label(BaseModel):
    """A label for images."""

    ids: list[Text] = Field(min_length=1, max_length=MOST_IDS)
    column: Text = Field("label", description="A column of text; it is added if it is not there.")
    value: Value | None = Field(description=f"The label, 1 to {MAX_VALUE} characters; null removes the label.")
    change: Key | None = Field(None, description="Your id of the change, by which a repeated request is recognised.")


class OneLabel(Label):
    """A label for images, as an act of its own or a part of one."""

    act: Key | None = Field(None, description="Your id of the act, which is undone as a whole.")
    by: Person | None = Field(None, description="The author of the label.")


class SeveralLabels(BaseModel):
    """Labels that are given as one act."""

    changes: list[Label] = Field(min_length=1, max_length=10_000)
    act: Key | None = Field(None, description="Your id of the act, which is undone as a whole.")
    by: Person | None = Field(None, description="The author of the labels.")


class Undoing(BaseModel):
    """What to undo."""

    act: Key | None = Field(None, description="The act; default: the last one that is not undone.")
    change: Key | None = Field(None, description="The act that this change is a part of.")
    by: Person | None = Field(None, description="If given: the last act of this author (null: without a name).")


@router.post("/labels", response_model=GivenLabels, response_model_exclude_unset=True, responses=CONFLICT)
async def label(site: CurrentSite, asked: OneLabel | SeveralLabels) -> dict[str, Any]:
    """Write labels for images; they are on the disk when this answers. They can be undone."""
    wanted = asked.changes if isinstance(asked, SeveralLabels) else [asked]
    if sum(len(each.ids) for each in wanted) > MOST_IDS:
        raise HTTPException(422, f"A request may label {MOST_IDS:,} images: ask again with the others.")
    by = None if asked.by is None else checked_name(asked.by)
    known = site.catalogue.current().collection.columns
    wishes = []
    for each in wanted:
        check_column(known, each.column)
        value = None if each.value is None else checked_value(each.value)
        wishes.append(Wish(each.ids, each.column, value, each.change))
    for column in {wish.column for wish in wishes} - known.keys():
        await _or_conflict(run_in_threadpool(site.labels.have_column, column))
    act = asked.act or str(uuid.uuid4())
    changes = await _done(site, lambda recorder: recorder.give(wishes, act=act, by=by))
    changed = sum(change.count for change in changes)
    given = [_given_label(change) for change in changes]
    answer = {"act": changes[0].act, "changed": changed, "can_undo": changed > 0, "changes": given}
    return answer if isinstance(asked, SeveralLabels) else answer | given[0]


@router.get("/labels/history", response_model=History)
async def past(
    site: CurrentSite,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    after: Annotated[int | None, Query(ge=0, le=2**53, description="`next` of the part before")] = None,
    by: Annotated[str | None, Query(max_length=4 * MAX_NAME, description="Only acts of this author")] = None,
) -> dict[str, Any]:
    """List the acts of labelling, the latest first."""

    def read() -> HistoryPage:
        return history(site.labels.journal, limit, before=after, whose=None if by is None else (by,))

    page = await run_in_threadpool(read)
    return {
        "acts": [
            {
                "act": act.act,
                "at": act.at.isoformat(),
                "by": act.by,
                "column": act.column,
                "values": [{"value": value, "count": count} for value, count in act.values],
                "former": [{"value": value, "count": count} for value, count in act.former],
                "count": act.count,
                "ids": act.ids,
                "undone": act.undone,
            }
            for act in page.acts
        ],
        "next": page.next,
        "total": page.total,
    }


@router.get("/labels/history/{act}", response_model=ActIds)
async def ids_of_act(site: CurrentSite, act: str) -> dict[str, Any]:
    """The ids of all images that an act of labelling changed."""
    try:
        ids = await run_in_threadpool(ids_of, site.labels.journal, act, MOST_IDS)
    except CollectionError as error:
        raise HTTPException(404, str(error)) from error
    return {"act": act, "ids": ids}


@router.post("/labels/undo", response_model=Restored, responses=CONFLICT)
async def undo(site: CurrentSite, asked: Undoing | None = None) -> dict[str, Any]:
    """Undo an act of labelling; rows that have been changed since stay as they are."""
    act = by = whose = None
    if asked is not None:
        by = None if asked.by is None else checked_name(asked.by)
        act = asked.act or asked.change
        whose = (by,) if "by" in asked.model_fields_set and act is None else None
    undone = await _done(site, lambda recorder: recorder.undo(act, whose=whose, by=by))
    return undone._asdict()


async def _done(site: Site, task: Callable[[Recorder], T]) -> T:
    return await _or_conflict(site.labels.do(task))


async def _or_conflict(work: Awaitable[T]) -> T:
    try:
        return await work
    except CollectionError as error:
        raise HTTPException(409, str(error)) from error


def _given_label(change: Change) -> dict[str, Any]:
    return {"change": change.change, "column": change.column, "value": change.value, "changed": change.count}
