"""Finding values of text columns by words, for the page's search box."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from birder.server.responses import FoundByWords
from birder.server.site import PROBLEMS, CurrentSite
from birder.server.values_by_word import Found

router = APIRouter(tags=["columns"], responses=PROBLEMS)


@router.get("/values", response_model=FoundByWords)
def find_values(
    site: CurrentSite,
    text: Annotated[str, Query(min_length=1, max_length=300, description="One or several words")],
    limit: Annotated[int, Query(ge=1, le=100, description="The most values to list")] = 8,
) -> Found:
    """The values of all text columns that have these words: whole words first, then beginnings, then other parts.

    Case and accents make no difference. Where no value has all words, `together` may have two columns that have them.
    """
    return site.values.find(site.catalogue.current(), text, limit)
