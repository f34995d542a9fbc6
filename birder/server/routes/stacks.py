"""Lists of images with those of a sequence folded into one stack."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Query, Response
from pydantic_core import to_json

from birder.server.responses import StackIds, StackList
from birder.server.review import with_predictions
from birder.server.site import BYTES, MOST_SHOWN, PROBLEMS, AsBytes, CurrentSite, Order, Where, with_values

router = APIRouter(tags=["images"], responses=PROBLEMS)

_GIVEN = 50
"""Images of a stack that a list has; the others are counted, and `GET /stacks/ids` has their ids."""

_BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
        "description": "With Accept: application/octet-stream, numbers of 32 bits, little-endian: how many stacks "
        "there are and the size of each; then the 16 bytes of each id. JSON if the ids are not UUIDs",
    }
}


@router.get("/stacks", response_model=StackList, response_model_exclude_unset=True)
def stacks(
    site: CurrentSite,
    where: Where = None,
    order: Order = "",
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 200,
    columns: Annotated[
        list[str] | None, Query(max_length=MOST_SHOWN, description="Columns whose values come with the images")
    ] = None,
) -> dict[str, Any]:
    """List the images that match a filter, those of a sequence together as one stack, some stacks at a time.

    A stack stands where the first of its images would, and has the first 50 of them. An image without a sequence is a
    stack of its own.
    """
    snapshot = site.catalogue.current()
    found = site.folding.stacks(snapshot, where, order)
    some = found.some(offset, limit)
    given = [rows[:_GIVEN] for rows in some]
    listed = with_predictions(snapshot, np.concatenate([*given, np.zeros(0, np.int64)]))
    photos = iter(with_values(snapshot, listed, columns or []))
    return {
        "total": len(found.starts),
        "images": len(found.positions),
        "offset": offset,
        "version": snapshot.version,
        "stacks": [
            {"count": len(rows), "photos": [next(photos) for _ in few]} for rows, few in zip(some, given, strict=True)
        ],
    }


@router.get("/stacks/ids", response_model=StackIds, responses=_BYTES)
def stack_ids(site: CurrentSite, as_bytes: AsBytes, where: Where = None, order: Order = "") -> Response:
    """List the ids of all images that match a filter, those of a stack together, and the size of each stack."""
    snapshot = site.catalogue.current()
    found = site.folding.stacks(snapshot, where, order)
    sizes, version = found.sizes, snapshot.version
    if as_bytes and (uuids := snapshot.ids.uuids) is not None:
        head = np.concatenate([[len(sizes)], sizes]).astype("<u4").tobytes()
        body = uuids[found.positions].tobytes()
        return Response(head + body, media_type=BYTES, headers={"X-Birder-Version": str(version)})
    ids = snapshot.ids.ids.take(pa.array(found.positions)).to_pylist()
    answer = {"total": len(sizes), "version": version, "sizes": sizes.tolist(), "ids": ids}
    return Response(to_json(answer), media_type="application/json")
