"""What the collection is, what can be asked for, and tables of what is in it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from birder.collection.maintenance import worth_tidying
from birder.collection.schema import TECHNICAL_COLUMNS
from birder.plots.colouring import NONE, PALETTE
from birder.server.catalogue import Snapshot
from birder.server.responses import CollectionInfo
from birder.server.site import PROBLEMS, CurrentSite, Site
from birder.taxonomy import RANKS

router = APIRouter(tags=["collection"], responses=PROBLEMS)


@router.get("/collection", response_model=CollectionInfo)
def collection(site: CurrentSite) -> dict[str, Any]:
    """Describe the collection: its model, size, columns, and what this machine can do with it."""
    # The page asks for this when it is opened or reloaded: it should show the current state.
    snapshot = site.catalogue.refresh()
    model = snapshot.collection.model
    return {
        "name": site.path.resolve().name,
        "path": str(site.path),
        "model": {
            "name": model.name,
            "precision": model.precision,
            "engine": model.engine,
            "embedding_size": model.embedding_size,
        },
        "rows": len(snapshot),
        "failures": site.catalogue.count_failures(),
        "columns": [
            {"name": name, "type": kind, "filled": snapshot.filled[name]} for name, kind in snapshot.types.items()
        ],
        "can": site.model.abilities(),
        "map": {key: value for key, value in site.map.state(snapshot).items() if key in ("state", "points", "missing")},
        "writable": site.writable,
        "version": snapshot.version,
        "tidy": _tidying(site, snapshot),
        "ranks": list(RANKS),
        "technical_columns": list(TECHNICAL_COLUMNS),
        "palette": list(PALETTE),
        "missing_colour": NONE,
    }


def _tidying(site: Site, snapshot: Snapshot) -> dict[str, Any]:
    if site.worth is None or site.worth[0] != snapshot.rows_version:
        site.worth = (snapshot.rows_version, worth_tidying(site.path))
    worth = site.worth[1]
    return {"worth": worth.is_much, **worth._asdict(), "pending": snapshot.pending}
