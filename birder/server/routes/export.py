"""Exports: the rows of a filter or a selection as a file that a browser saves."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.background import BackgroundTask

from birder.collection.filter import quoted
from birder.collection.storage import Storage
from birder.formats.export import export
from birder.formats.table import FOLDER, FORMATS, export_formats
from birder.server.catalogue import Snapshot
from birder.server.encoded import Positions
from birder.server.responses import ExportFormats, plain
from birder.server.site import PROBLEMS, CurrentSite, Site
from birder.sources import uri_to_name

router = APIRouter(tags=["images"], responses=PROBLEMS)

MOST_IDS = 10_000
_ROWS_AT_ONCE = 10_000
_NEEDS_MORE = ("megadetector",)  # than a collection: the results that predictions are merged into
_IN_FILES = {
    name: next(ending for ending in FORMATS[name].endings if ending != FOLDER)
    for name in export_formats()
    if name not in _NEEDS_MORE and any(ending != FOLDER for ending in FORMATS[name].endings)
}
_OF_THE_PAGE = {"paths": ".txt", "json": ".json"}
_DESCRIBED = {"paths": "the path of each image on a line", "json": "all columns but the embeddings, by name"}

ExportFormat = StrEnum("ExportFormat", {name.replace("-", "_"): name for name in [*_OF_THE_PAGE, *_IN_FILES]})  # type: ignore[misc]  # the names are data
ExportFormat.__doc__ = "The formats of one file, and those of this interface."


class ExportRequest(BaseModel):
    """What to export, and how."""

    format: ExportFormat = Field(description="As `birder export --format` names it, or paths or json.")
    where: str | None = Field(None, max_length=10_000, description="A filter: an SQL expression on the columns.")
    ids: list[Annotated[str, Field(min_length=1, max_length=300)]] | None = Field(
        None, min_length=1, max_length=MOST_IDS, description="Only these images; with a filter, those that match it."
    )


@router.get("/export/formats", response_model=ExportFormats)
def formats(site: CurrentSite) -> dict[str, Any]:
    """List the formats that the rows of a collection can be exported in, as one file each."""
    described = _DESCRIBED | {name: f"{FORMATS[name].title}: {FORMATS[name].writes}" for name in _IN_FILES}
    return {"formats": [{"name": each.value, "writes": described[each.value]} for each in ExportFormat]}


@router.post(
    "/export",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The file"}},
)
async def exported(site: CurrentSite, asked: ExportRequest) -> Response:
    """Export the rows that match, as `birder export` does; the file has the name of the collection.

    A draft of it is written into the folder for temporary files of the server's machine, and deleted once it is sent.
    """
    return await site.analysis.run(_export, site, asked)


def _export(site: Site, asked: ExportRequest) -> Response:
    name = asked.format.value
    ending = (_OF_THE_PAGE | _IN_FILES)[name]
    folder = Path(tempfile.mkdtemp(prefix="birder-export-"))
    try:
        file = folder / f"{site.path.name.removesuffix('.birder')}{ending}"
        if name in _OF_THE_PAGE:
            _WRITERS[name](site.catalogue.current(), asked, file)
        else:
            export(Storage.open(site.path), file, name, where=_filter(asked))  # type: ignore[arg-type]  # one of the formats
        task = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(file, filename=file.name, media_type="application/octet-stream", background=task)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _filter(asked: ExportRequest) -> str | None:
    """The filter of the rows; those of ids are named by a short list each, which SQL reads faster than a long one."""
    if asked.ids is None:
        return asked.where
    ids = f"id IN ({', '.join(map(quoted, asked.ids))})"
    return f"({asked.where}) AND {ids}" if asked.where else ids


def _rows(snapshot: Snapshot, asked: ExportRequest) -> Positions:
    """The rows that are asked for, in the order of the catalogue."""
    found = snapshot.select(snapshot.filter(asked.where))
    if asked.ids is None:
        return found
    return found[np.isin(found, snapshot.positions(asked.ids))]


def _write_paths(snapshot: Snapshot, asked: ExportRequest, file: Path) -> None:
    names = (uri_to_name(uri) for uri in snapshot.column("uri", _rows(snapshot, asked)).to_pylist())
    file.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _write_json(snapshot: Snapshot, asked: ExportRequest, file: Path) -> None:
    rows = _rows(snapshot, asked)
    columns = list(snapshot.types)
    with file.open("wb") as out:
        out.write(b"[")
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = snapshot.rows(rows[start : start + _ROWS_AT_ONCE], columns)
            lines = [to_json({name: plain(value) for name, value in row.items()}) for row in some]
            out.write((b"\n" if start == 0 else b",\n") + b",\n".join(lines))
        out.write(b"\n]\n")


_WRITERS: dict[str, Callable[[Snapshot, ExportRequest, Path], None]] = {"paths": _write_paths, "json": _write_json}
