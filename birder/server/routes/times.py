"""Shifted times: what was shifted, and how it is undone."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from birder.collection.labels import MAX_NAME, checked_name
from birder.collection.sequencing import undo_shift
from birder.collection.storage import Storage
from birder.collection.times import read_times
from birder.errors import CollectionError
from birder.server.responses import Restored, Shifts
from birder.server.site import CONFLICT, PROBLEMS, CurrentSite

router = APIRouter(tags=["times"], responses=PROBLEMS)


class UndoingShift(BaseModel):
    """The shift to undo."""

    act: Annotated[str, Field(min_length=1, max_length=64)]
    by: Annotated[str, Field(min_length=1, max_length=4 * MAX_NAME)] | None = Field(None, description="Who undoes it.")


@router.get("/times/history", response_model=Shifts)
def shifts(site: CurrentSite) -> dict[str, Any]:
    """List the shifts of times, the latest first."""
    done = read_times(site.path).shifts
    undone = {shift.undoes for shift in done}
    return {
        "shifts": [
            {
                "act": shift.act,
                "at": shift.at,
                "by": shift.by,
                "where": shift.where,
                "seconds": shift.microseconds / 1e6,
                "rows": shift.rows,
                "undone": shift.act in undone,
            }
            for shift in reversed(done)
            if shift.undoes is None
        ]
    }


@router.post("/times/undo", response_model=Restored, responses=CONFLICT)
def undo(site: CurrentSite, asked: UndoingShift) -> dict[str, Any]:
    """Undo a shift of times; rows whose time has been changed since stay as they are, and sequences follow."""
    by = None if asked.by is None else checked_name(asked.by)
    try:
        undone = undo_shift(Storage.open(site.path), asked.act, by=by)
    except CollectionError as error:
        raise HTTPException(409, str(error)) from error
    site.catalogue.refresh()
    return undone._asdict()
