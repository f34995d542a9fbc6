"""The nearest images to a query, as lists show them: shared by the routes that search and those that predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from birder.server.catalogue import Snapshot
from birder.server.site import listed

Vector = npt.NDArray[np.float32]


def nearest(
    snapshot: Snapshot,
    *,
    k: int,
    ids: Sequence[str] = (),
    texts: Sequence[str] = (),
    unlike: Sequence[str] = (),
    vectors: Sequence[Vector] = (),
    where: str | None = None,
    clip: Any = None,
    words: Any = None,
) -> list[dict[str, Any]]:
    """Search, and give the images as a list shows them; arguments as for `birder.collection.search.search`."""
    from birder.collection.search import search  # for which the page's first view need not wait

    asked = where or ids or texts or unlike or len(vectors)
    chosen = snapshot.filter(where) if asked else None  # that leaves out wrong boxes, and is not what was asked for
    filtered = snapshot.with_labels(chosen)
    resembled = [*ids, *unlike]
    by_graph = filtered is None and not texts and clip is None and words is None
    known = snapshot.embedded(resembled, k + len(resembled) if by_graph else None)
    found = search(
        snapshot.collection,
        ids=ids,
        texts=texts,
        unlike=unlike,
        known=known,
        vectors=vectors,
        where=filtered,
        k=k,
        columns=["id"],
        clip=clip,
        words=words,
    ).to_arrow()
    positions = snapshot.positions(found["id"].to_pylist())
    there = positions >= 0  # what was added since the catalogue was read shows with the next one
    photos = listed(snapshot, positions[there])
    if "similarity" not in found.column_names:
        return photos
    similarities = found["similarity"].to_numpy()[there].tolist()
    return [{**photo, "similarity": value} for photo, value in zip(photos, similarities, strict=True)]
