"""Names for a photograph: by its nearest labelled neighbours, or by the classes of the network's own head."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query

from birder.errors import unknown_name
from birder.server.catalogue import Snapshot
from birder.server.nearest import nearest
from birder.server.responses import Predictions
from birder.server.site import PROBLEMS, CurrentSite, Site, row_of

router = APIRouter(tags=["names"], responses=PROBLEMS)

_NEIGHBOURS = 24
_TEMPERATURE = 0.07

Vector = npt.NDArray[np.float32]


@router.get("/photos/{id}/predictions", response_model=Predictions)
async def predictions(
    site: CurrentSite,
    id: str,
    k: Annotated[int, Query(ge=1, le=100)] = 5,
    column: Annotated[str, Query(min_length=1, max_length=300, description="The column of labels")] = "label",
) -> dict[str, Any]:
    """Names for a photograph of the collection.

    By its nearest labelled neighbours where there are any, else by the classes of the network's head.
    """

    def by_examples() -> dict[str, Any] | None:
        snapshot = site.catalogue.current()
        row_of(snapshot, id)
        return names_of_neighbours(snapshot, column, k, ids=[id])

    found = await site.searches.run(by_examples)
    return found or await names_of_head(site, await site.searches.run(_embedding_of, site, id), k)


def names_of_neighbours(
    snapshot: Snapshot, column: str, k: int, *, ids: list[str] | None = None, vectors: list[Vector] | None = None
) -> dict[str, Any] | None:
    """Names by the nearest labelled rows; None if no row has a label.

    Votes are weighted by exp(cosine / 0.07): Wu, Xiong, Yu and Lin, Unsupervised Feature Learning via Non-Parametric
    Instance Discrimination, 2018 (https://arxiv.org/abs/1805.01978). Scores are shares of the votes.

    Raises
    ------
    UnknownNameError
        There is no such column of text.
    """
    if snapshot.types.get(column) != "text":
        raise unknown_name("column of text", column, [name for name, kind in snapshot.types.items() if kind == "text"])
    if not snapshot.filled[column]:
        return None
    quoted = "`" + column.replace("`", "``") + "`"
    found = nearest(
        snapshot, ids=ids or [], vectors=vectors or [], where=f"{quoted} IS NOT NULL AND {quoted} <> ''", k=_NEIGHBOURS
    )
    if not found:
        return None
    rows = snapshot.positions([each["id"] for each in found])
    names = [row[column] for row in snapshot.rows(rows, [column])]
    similarities = np.array([each["similarity"] for each in found])
    weights = np.exp((similarities - similarities.max()) / _TEMPERATURE)
    votes: dict[str, float] = {}
    for name, weight in zip(names, weights / weights.sum(), strict=True):
        votes[name] = votes.get(name, 0.0) + float(weight)
    best = sorted(votes.items(), key=lambda item: (-item[1], item[0]))[:k]
    return {
        "method": "examples",
        "column": column,
        "predictions": [{"name": name, "score": min(score, 1.0)} for name, score in best],
        "note": f"By the {len(found)} nearest photographs that have a {column}.",
    }


async def names_of_head(site: Site, embedding: Vector, k: int) -> dict[str, Any]:
    """Names by the classes of the network's head, if it has one and is on this machine."""
    best = []
    if site.model.has_classes():
        best = await site.model.workers.run(site.model.classify, embedding, k)
    model = site.catalogue.current().collection.model.name
    if best:
        note = f"By the classes that {model} was trained on."
    else:
        note = f"No photograph has a label yet, and {model} has no classes of its own here: label some."
    return {
        "method": "classes" if best else "none",
        "column": None,
        "predictions": [{"name": name, "score": score} for name, score in best],
        "note": note,
    }


def _embedding_of(site: Site, id_: str) -> Vector:
    from birder.collection.search import find_row

    row = find_row(site.catalogue.current().collection, id_)
    assert row is not None  # it was there a moment ago; a row that goes meanwhile is a defect nobody can see
    return np.asarray(row["embedding"], np.float32)
