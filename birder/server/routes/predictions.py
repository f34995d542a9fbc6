"""Names for an image: by a classifier that is served, by labelled examples, or by the network's own classes."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query

from birder.naming.method import DEFAULT_METHOD, Method
from birder.server.classifier import named
from birder.server.responses import Predictions
from birder.server.site import PROBLEMS, CurrentSite, Site, row_of

router = APIRouter(tags=["names"], responses=PROBLEMS)

Vector = npt.NDArray[np.float32]


@router.get("/photos/{id}/predictions", response_model=Predictions)
async def predictions(
    site: CurrentSite,
    id: str,
    k: Annotated[int, Query(ge=1, le=100)] = 5,
    column: Annotated[str, Query(min_length=1, max_length=300, description="The column of labels")] = "label",
    method: Annotated[Method, Query(description="How labelled images name others")] = DEFAULT_METHOD,
) -> dict[str, Any]:
    """Names for an image of the collection.

    By the classifier that the server was given, if it was; else by the labelled images where there are labels of two
    classes or more, else by the classes of the network's classifier. An image's own label has no part in its names.
    """
    snapshot = site.catalogue.current()
    row_of(snapshot, id)
    vector = await site.searches.run(_embedding_of, site, id)
    return await names_of(site, vector, column, k, method, leave_out=snapshot.position(id))


async def names_of(
    site: Site, vector: Vector, column: str, k: int, method: Method, leave_out: int | None = None
) -> dict[str, Any]:
    """Names for an embedding (D,), best first, and what gave them.

    Raises
    ------
    UnknownNameError
        There is no such column of text.
    """

    def by_examples() -> dict[str, Any] | None:
        snapshot = site.catalogue.current()
        found = site.examples.names(snapshot, column, method, leave_out)
        if found is None:
            return None
        names, labelled = found
        drawn = "" if names.examples >= labelled - 1 else f", drawn from {labelled:,}"
        return {
            "method": "examples",
            "by": names.method,
            "column": column,
            "predictions": [
                {"name": each["label"], "score": min(each["score"], 1.0)} for each in names.predict(vector[None], k)[0]
            ],
            "note": f"By {names.description}{drawn}.",
        }

    if (classifier := site.classifier) is not None:
        return await site.searches.run(lambda: named(classifier, site.catalogue.current(), vector, k))
    return await site.searches.run(by_examples) or await _names_of_classifier(site, vector, k)


async def _names_of_classifier(site: Site, embedding: Vector, k: int) -> dict[str, Any]:
    """Names by the classes of the network's classifier, if it has one and is on this machine."""
    best = []
    if site.model.has_classes():
        best = await site.model.workers.run(site.model.classify, embedding, k)
    model = site.catalogue.current().collection.model.name
    if best:
        note = f"By the classes that {model} was trained on."
    else:
        note = (
            f"Fewer than two labels are in use, and {model} has no classes of its own on this machine: label some "
            "images."
        )
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
