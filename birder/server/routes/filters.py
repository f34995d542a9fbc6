"""Filters with names, which are kept in the collection for all who use it."""

from __future__ import annotations

import threading
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from birder.collection.saved_filters import SavedFilter, read_filters, remove_filter, save_filter
from birder.errors import CollectionError, WriteError
from birder.server.responses import SavedFilters
from birder.server.site import CONFLICT, PROBLEMS, CurrentSite

router = APIRouter(tags=["columns"], responses=PROBLEMS)
_writing = threading.Lock()

Name = Annotated[str, Field(min_length=1, max_length=100)]


class NewFilter(BaseModel):
    """A filter to keep."""

    name: Name
    where: str = Field(min_length=1, max_length=10_000, description="The filter as SQL.")
    shown: list[dict[str, Any]] = Field([], max_length=100, description="The filter as the page shows it.")


class NameOfFilter(BaseModel):
    """The filter to remove."""

    name: Name


@router.get("/filters", response_model=SavedFilters)
def filters(site: CurrentSite) -> dict[str, Any]:
    """List the filters that are kept in the collection, by name."""
    return _listed(read_filters(site.path))


@router.post("/filters", response_model=SavedFilters, responses=CONFLICT)
def keep(site: CurrentSite, asked: NewFilter) -> dict[str, Any]:
    """Keep a filter under a name, in place of one that has the name; it must be valid here."""
    snapshot = site.catalogue.current()
    snapshot.select(snapshot.filter(asked.where))
    try:
        with _writing:
            return _listed(save_filter(site.path, SavedFilter(asked.name, asked.where, tuple(asked.shown))))
    except (CollectionError, WriteError) as error:
        raise HTTPException(409, str(error)) from error


@router.post("/filters/remove", response_model=SavedFilters, responses=CONFLICT)
def remove(site: CurrentSite, asked: NameOfFilter) -> dict[str, Any]:
    """Remove a filter that was kept; gives those that remain."""
    try:
        with _writing:
            return _listed(remove_filter(site.path, asked.name))
    except (CollectionError, WriteError) as error:
        raise HTTPException(409, str(error)) from error


def _listed(filters: list[SavedFilter]) -> dict[str, Any]:
    return {"filters": [{"name": each.name, "where": each.where, "shown": list(each.shown)} for each in filters]}
