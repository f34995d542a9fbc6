"""What the requests to one server share: the collection's catalogue, its thumbnails, its model, its work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Depends, HTTPException, Query, Request, Response
from pydantic_core import to_json

from birder.collection.maintenance import Worth
from birder.images.apart import Decoders
from birder.server.catalogue import LISTED, Catalogue, Snapshot
from birder.server.classifier import served_classifier
from birder.server.duplicates_job import DuplicatesJob
from birder.server.encoded import Positions
from birder.server.event_streams import Events
from birder.server.examples import Examples
from birder.server.id_index import IdIndex
from birder.server.kept_embeddings import KeptEmbeddings
from birder.server.label_desk import LabelDesk
from birder.server.lesson_job import LessonJob
from birder.server.limits.work import Workers
from birder.server.map_job import MapJob
from birder.server.model import ModelWorker
from birder.server.places import KnownPlaces
from birder.server.responses import Problem, plain
from birder.server.teach_desk import TeachDesk
from birder.server.thumbnails import Thumbnails
from birder.server.values_by_word import ValuesByWord
from birder.sources import readable_path
from birder.sources.row_images import RowImages

PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "An invalid filter, value or image"},
    401: {"model": Problem, "description": "The token is missing or wrong"},
    403: {"model": Problem, "description": "A request from another site's page, or to another host's name"},
    404: {"model": Problem, "description": "The image, column or label does not exist"},
    408: {"model": Problem, "description": "The request came too slowly"},
    413: {"model": Problem, "description": "Too large"},
    422: {"model": Problem, "description": "A parameter that is missing, or of another kind"},
    429: {"model": Problem, "description": "Too many wrong tokens: wait for the seconds of Retry-After"},
    503: {"model": Problem, "description": "Busy: try again after the seconds of Retry-After"},
}
"""What any request under /api/v1 may answer with."""

CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": Problem, "description": "Another process is writing"}}

Where = Annotated[
    str | None,
    Query(max_length=10_000, description="A filter: an SQL expression on the columns, as in: label = 'owl'"),
]
Order = Annotated[
    str, Query(max_length=300, description="A column's name, with - before it for descending; default: by uri")
]

MOST_SHOWN = 8
"""Columns whose values a list gives with its images, at most."""

_JSON = "application/json"
BYTES = "application/octet-stream"
_DECODERS = 2  # processes for uploads


class Site:
    """One collection being served; `model` is the file of a classifier that names its images."""

    def __init__(self, path: Path, model: str | Path | None = None) -> None:
        self.path = path
        self.catalogue = Catalogue(path)
        self.classifier = None if model is None else served_classifier(self.catalogue, model)
        self.row_images = RowImages()
        self.thumbnails = Thumbnails(path, self.row_images)
        self.images = Workers("images", threads=2, waiting=500)
        self.searches = Workers("searches", threads=4, waiting=500)
        self.analysis = Workers("analysis", threads=1, waiting=128)
        self.map = MapJob(self.catalogue)
        self.duplicates = DuplicatesJob(self.catalogue)
        self.lesson = LessonJob(self.catalogue)
        self.teach = TeachDesk(self.catalogue)
        self.embeddings = KeptEmbeddings()
        self.model = ModelWorker(self.catalogue)
        self.examples = Examples()
        self.values = ValuesByWord()
        self.places = KnownPlaces()
        self.uploads = Workers("uploads", threads=_DECODERS, waiting=128)
        self.decoders = Decoders(_DECODERS, seconds=20.0)
        self.worth: tuple[int, Worth] | None = None
        self.events = Events(self.catalogue)
        self.labels = LabelDesk(path, self.catalogue, self.events.look)

    @property
    def writable(self) -> bool:
        """Whether labels can be written."""
        return os.access(self.path, os.W_OK)

    @property
    def _all_workers(self) -> list[Workers]:
        return [self.thumbnails.workers, self.images, self.searches, self.analysis, self.uploads, self.model.workers]

    def stop(self) -> None:
        """End what is under way, as far as it can be ended."""
        for workers in self._all_workers:
            workers.stop()
        self.decoders.stop()
        self.events.stop()
        self.labels.stop()
        self.map.stop()
        self.duplicates.stop()
        self.lesson.stop()
        self.teach.stop()


async def _site(request: Request) -> Site:  # FastAPI runs what is not async in a thread
    site: Site = request.app.state.site
    return site


CurrentSite = Annotated[Site, Depends(_site)]


def row_of(snapshot: Snapshot, id_: str) -> dict[str, Any]:
    """The row of an image, or 404."""
    position = snapshot.position(id_)
    if position is None:
        raise HTTPException(404, "There is no image with this id: it may have been removed. Reload the list.")
    row: dict[str, Any] = snapshot.table.slice(position, 1).to_pylist()[0]
    return row


def listed(snapshot: Snapshot, positions: Positions) -> list[dict[str, Any]]:
    """Images as a list shows them."""
    rows = snapshot.rows(positions, list(LISTED))
    return [{**row, "name": readable_path(row.pop("uri")), "v": row.pop("sha256")[:16]} for row in rows]


def with_values(snapshot: Snapshot, photos: list[dict[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Images of a list together with their values of some columns; as they are if none are asked for.

    Raises
    ------
    UnknownNameError
        A column does not exist or cannot be shown.
    """
    if not columns:
        return photos
    positions = snapshot.positions([photo["id"] for photo in photos])
    values = {name: snapshot.column(name, positions).to_pylist() for name in columns}
    return [
        photo | {"values": {name: plain(column[place]) for name, column in values.items()}}
        for place, photo in enumerate(photos)
    ]


async def _as_bytes(request: Request) -> bool:
    return BYTES in request.headers.get("accept", "")


IDS_AS_BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
        "description": "With Accept: application/octet-stream, the 16 bytes of each id; JSON if they are not UUIDs",
    }
}
"""What else lists of ids may answer with."""

AsBytes = Annotated[bool, Depends(_as_bytes)]
"""Whether the client asks for bytes in place of JSON, by `Accept: application/octet-stream`."""


def listed_ids(index: IdIndex, positions: Positions, version: int, *, as_bytes: bool) -> Response:
    """The answer `Ids`, or the 16 bytes of each id where they are UUIDs; no object is made for each of a million."""
    if as_bytes and (uuids := index.uuids) is not None:
        return Response(uuids[positions].tobytes(), media_type=BYTES, headers={"X-Birder-Version": str(version)})
    ids = index.ids.take(pa.array(positions))
    if not len(ids) or not index.need_no_escape:
        return Response(to_json({"total": len(ids), "version": version, "ids": ids.to_pylist()}), media_type=_JSON)
    joined = pc.binary_join(pa.ListArray.from_arrays([0, len(ids)], ids), '","')[0].as_buffer()
    head = f'{{"total":{len(ids)},"version":{version},"ids":["'
    return Response(b"".join((head.encode(), joined, b'"]}')), media_type=_JSON)
