"""The boxes of an image: all rows that are of the same one, and boxes that a person draws on it."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from birder.collection.labels import Recorder, check_column, checked_name, checked_value
from birder.collection.schema import Row
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import BOX
from birder.errors import CollectionError, ImageError
from birder.formats.megadetector import box_on_image
from birder.pipeline.drawn import embed_box, is_box, uri_of_box, wishes_of_box, write_box
from birder.server.boxes import boxes_on, rows_of_image
from birder.server.responses import BoxesOfImage, DrawnBox
from birder.server.routes.labels import Key, Person, Text, Value
from birder.server.site import CONFLICT, PROBLEMS, CurrentSite, Site, row_of
from birder.sources import Box, image_of
from birder.sources.row_images import exists, place_of

router = APIRouter(tags=["images"], responses=PROBLEMS)

Share = Annotated[float, Field(ge=0, le=1)]


class Drawn(BaseModel):
    """A box that a person draws, as fractions of the upright image from its upper left corner."""

    x: Share
    y: Share
    width: Share
    height: Share
    corrects: bool = Field(False, description="Whether it is the row's own box, put right: that one is wrong then.")
    label: Value | None = Field(None, description="What it shows.")
    column: Text = Field("label", description="The column of the label.")
    act: Key | None = Field(None, description="Your id of the act, which is undone as a whole.")
    by: Person | None = Field(None, description="Who draws it.")


@router.get("/photos/{id}/boxes", response_model=BoxesOfImage, response_model_exclude_unset=True)
def boxes(site: CurrentSite, id: str) -> dict[str, Any]:
    """The boxes on an image, from left to right, whether the row is one of them or the whole image."""
    snapshot = site.catalogue.current()
    row = row_of(snapshot, id)
    found = rows_of_image(snapshot, image_of(row["uri"]))
    asked = snapshot.positions([id] if is_box(row["uri"]) else [])  # even if it is not among the first
    whole = None if found.whole is None else snapshot.ids.ids[found.whole].as_py()
    return {"whole": whole, "boxes": boxes_on(snapshot, np.union1d(found.boxes, asked))}


@router.post("/photos/{id}/boxes", response_model=DrawnBox, responses=CONFLICT)
async def draw(site: CurrentSite, id: str, asked: Drawn) -> dict[str, Any]:
    """Draw a box on an image, or correct one: it is embedded, and becomes a row. Undone, it is wrong."""
    by = None if asked.by is None else checked_name(asked.by)
    label = None if asked.label is None else (asked.column, checked_value(asked.label))
    uri = await run_in_threadpool(lambda: str(row_of(site.catalogue.current(), id)["uri"]))
    box = box_on_image([asked.x, asked.y, asked.width, asked.height])
    if box is None or min(box.width, box.height) <= 0:
        raise HTTPException(400, "The box has no area on the image: draw it larger.")
    if asked.corrects and not is_box(uri):
        raise HTTPException(400, "This row is a whole image, which has no box to correct: draw a new one.")
    if uri_of_box(uri, box) == uri:
        raise HTTPException(400, "The box is where it was: there is nothing to correct.")
    if label is not None:
        check_column(site.catalogue.current().collection.columns, asked.column)
    new = await _row_of_box(site, uri, box, corrects=asked.corrects)
    for column in [BOX, *([] if label is None else [asked.column])]:
        await _or_conflict(run_in_threadpool(site.labels.have_column, column))
    act = asked.act or str(uuid.uuid4())
    corrected = id if asked.corrects else None

    def give(recorder: Recorder) -> None:
        storage = site.catalogue.current().collection
        recorder.give(wishes_of_box(storage, new, label=label, corrected=corrected), act=act, by=by)

    await _or_conflict(site.labels.do(give))
    return {"id": new, "act": act}


async def _row_of_box(site: Site, uri: str, box: Box, *, corrects: bool) -> str:
    """The id of a box's row, which is embedded and written if it is not there yet."""
    there = await run_in_threadpool(_id_of, site, uri_of_box(uri, box))
    if there is not None:
        return there
    able = site.model.abilities()
    if not able["search_image"]:
        raise HTTPException(400, f"A box cannot be drawn here, because what it shows has to be embedded: {able['why']}")
    if not exists(place_of(image_of(uri))):
        raise HTTPException(400, "A box cannot be drawn here: the file of the image is not on this machine.")

    def embed() -> Row:
        storage = Storage.open(site.path, labels=False)
        return embed_box(storage, site.model.encoder(), uri, box, corrects=corrects)

    try:
        row = await site.model.workers.run(embed)
    except ImageError as error:
        raise HTTPException(400, f"The box cannot be cut out of the image: {error}.") from None
    await _or_conflict(run_in_threadpool(write_box, Storage.open(site.path, labels=False), row))
    await run_in_threadpool(site.catalogue.refresh)
    written = await run_in_threadpool(_id_of, site, row.uri)
    if written is None:
        raise HTTPException(409, "The box was written, but cannot be found: reload the page and draw it again.")
    return written


def _id_of(site: Site, uri: str) -> str | None:
    snapshot = site.catalogue.current()
    found = rows_of_image(snapshot, image_of(uri)).boxes
    ids = dict(zip(snapshot.encoded("uri", found).to_pylist(), found.tolist(), strict=True))
    return snapshot.ids.ids[ids[uri]].as_py() if uri in ids else None


async def _or_conflict(work: Any) -> Any:
    try:
        return await work
    except CollectionError as error:
        raise HTTPException(409, str(error)) from error
