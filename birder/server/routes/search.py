"""Searching: by images of the collection, words, embeddings, and what is not wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field

from birder.errors import ConfigError, UnknownNameError
from birder.server.nearest import nearest
from birder.server.responses import FoundPhotos, Hits, KnownWords
from birder.server.site import MOST_SHOWN, PROBLEMS, CurrentSite, Site, Where, row_of, with_values

router = APIRouter(tags=["search"], responses=PROBLEMS)

Vector = npt.NDArray[np.float32]
Key = Annotated[str, Field(min_length=1, max_length=1000)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-3e38, le=3e38)]


class SearchRequest(BaseModel):
    """What to search for; at least one of ids, texts, embedding, unlike and where."""

    ids: list[Key] = Field([], max_length=1000, description="Images of the collection, by id.")
    texts: list[Key] = Field(
        [], max_length=20, description="Descriptions, for the model's text encoder; without one, words for its classes."
    )
    unlike: list[Key] = Field([], max_length=1000, description="Ids or words that it should be unlike.")
    embedding: list[Number] | None = Field(
        None, min_length=1, max_length=16_384, description="As POST /embed gives it."
    )
    where: str | None = Field(None, max_length=10_000, description="A filter: an SQL expression on the columns.")
    k: int = Field(50, ge=1, le=1000)
    columns: list[str] = Field([], max_length=MOST_SHOWN, description="Columns whose values come with the images.")


@router.post("/search", response_model=FoundPhotos, response_model_exclude_unset=True)
async def find(site: CurrentSite, asked: SearchRequest) -> dict[str, Any]:
    """Find the images nearest to what is wanted and far from what is not, nearest first."""
    vectors = [] if asked.embedding is None else [np.array(asked.embedding, np.float32)]
    unlike_texts = await site.searches.run(_texts_of, site, asked.unlike) if asked.unlike else []
    with_texts = bool(asked.texts or unlike_texts)
    can = site.model.abilities() if with_texts else {}
    by_words = with_texts and can["text_by"] == "class names"

    def found() -> tuple[list[dict[str, Any]], str | None]:
        snapshot = site.catalogue.current()
        words = site.model.words() if by_words else None
        texts = [*((text, True) for text in asked.texts), *((text, False) for text in unlike_texts)]
        note = None if words is None else words.scorer(texts)[1]
        photos = nearest(
            snapshot,
            ids=asked.ids,
            texts=asked.texts,
            unlike=asked.unlike,
            vectors=vectors,
            where=asked.where,
            k=asked.k,
            clip=site.model.clip() if with_texts and not by_words else None,
            words=words,
        )
        return with_values(snapshot, photos, asked.columns), note

    if with_texts and not can["search_text"]:
        raise HTTPException(400, str(can["why"]))
    photos, note = await (site.model.workers if with_texts else site.searches).run(found)
    return {
        "photos": photos,
        "query": asked.model_dump(exclude={"embedding", "columns"}, exclude_none=True),
        "note": note,
    }


def _texts_of(site: Site, unlike: Sequence[str]) -> list[str]:
    """Those of some ids and words that are not ids."""
    snapshot = site.catalogue.current()
    return [each for each in unlike if snapshot.position(each) is None]


@router.get("/words", response_model=KnownWords)
async def known_words(
    site: CurrentSite,
    text: Annotated[str, Query(max_length=1000, description="What was typed so far.")],
    limit: Annotated[int, Query(ge=1, le=100)] = 8,
) -> dict[str, Any]:
    """The words that the model's classes are known by, for what was typed; of a model without a text encoder."""
    can = site.model.abilities()
    if can["text_by"] != "class names":
        raise HTTPException(400, "Texts are not looked up among class names here: the model understands any, or none.")

    def completed() -> dict[str, Any]:
        words = site.model.words()
        problem = None
        try:
            words.parse(text)
        except (UnknownNameError, ConfigError) as error:
            problem = str(error)
        found = [{"text": each, "classes": count} for each, count in words.complete(text, limit)]
        return {"words": found, "problem": problem}

    return await site.model.workers.run(completed)


@router.get("/photos/{id}/neighbours", response_model=Hits)
async def neighbours(
    site: CurrentSite, id: str, k: Annotated[int, Query(ge=1, le=1000)] = 12, where: Where = None
) -> dict[str, Any]:
    """The images nearest to one, nearest first, without itself."""
    snapshot = await site.searches.run(site.catalogue.current)
    row_of(snapshot, id)
    # In the threads for searches: in those for all requests they would keep lists and labels waiting.
    return {"photos": await site.searches.run(nearest, snapshot, ids=[id], where=where, k=k)}
