"""The review: names that models gave, in the order in which a person accepts or rejects them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, HTTPException, Query

from birder.errors import CollectionError
from birder.learning.suggest import suggest
from birder.server.catalogue import Snapshot
from birder.server.responses import Review
from birder.server.review import (
    Named,
    Order,
    in_order,
    judgements,
    labels_of,
    open_ones,
    predicted,
    sequence_names,
    stacked,
    whole_stacks,
    with_predictions,
)
from birder.server.site import PROBLEMS, CurrentSite, Site, Where

router = APIRouter(tags=["names"], responses=PROBLEMS)

_MOST_SUGGESTED = 20_000


@router.get("/review", response_model=Review)
async def review(
    site: CurrentSite,
    source: Annotated[
        Literal["predictions", "suggestions"],
        Query(description="Those in the rows, or those of a classifier that is fitted to the labels now"),
    ] = "predictions",
    column: Annotated[
        str, Query(min_length=1, max_length=300, description="suggestions: the column of labels")
    ] = "label",
    name: Annotated[str | None, Query(max_length=300, description="Only images with this name")] = None,
    order: Annotated[Order, Query(description="Which come first")] = "doubtful",
    stacks: Annotated[bool, Query(description="Give the images of a sequence together")] = False,
    where: Where = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> dict[str, Any]:
    """Images whose names await a decision: a label, or a note that the name is wrong (the column `rejected`).

    With `stacks`, the last sequence is given whole. The agreement with predictions is the share of decided images
    whose label is the prediction, with Wilson's interval, or by bootstrap over sequences where there are any; labels
    taken from the names of folders and "unknown" do not count.
    """

    def listed_names() -> dict[str, Any]:
        snapshot = site.catalogue.current()
        rows = snapshot.select(snapshot.filter(where))
        if source == "predictions":
            named, note, target = predicted(snapshot, rows), "", "label"
            agreement = _agreement(site, snapshot, named)
        else:
            named, note = _suggested(site, snapshot, rows, column)
            agreement, target = None, column
        waiting = named.take(open_ones(snapshot, named, target))
        classes = _counted(waiting)
        if name:
            waiting = waiting.take(_is(waiting.names, name))
        total = len(waiting.positions)
        waiting = in_order(snapshot, waiting, order)
        if stacks:
            waiting = stacked(snapshot, waiting)
        sequences = sequence_names(snapshot, waiting.positions[: limit + 1000])
        end = whole_stacks(sequences, limit) if stacks else min(limit, total)
        waiting = waiting.take(np.arange(end))
        shown = zip(
            with_predictions(snapshot, waiting.positions),
            waiting.names.to_pylist(),
            waiting.scores.tolist(),
            sequences,
            strict=False,
        )
        photos = [
            {"rejected": None, **photo, "predicted": each, "predicted_score": score, "sequence": sequence}
            for photo, each, score, sequence in shown
        ]
        return {"photos": photos, "total": total, "classes": classes, "agreement": agreement, "note": note}

    try:
        return await (site.searches if source == "predictions" else site.analysis).run(listed_names)
    except CollectionError as error:
        raise HTTPException(400, str(error)) from error


def _agreement(site: Site, snapshot: Snapshot, named: Named) -> dict[str, Any] | None:
    from birder.evaluation.intervals import share_of_groups  # it brings SciPy

    right, sequences = judgements(snapshot, named, site.catalogue.journal)
    if not len(right):
        return None
    return share_of_groups(right.astype(np.float64), sequences).as_dict()


def _suggested(site: Site, snapshot: Snapshot, rows: Any, column: str) -> tuple[Named, str]:
    labels = labels_of(snapshot, column)
    batches = site.embeddings.batches(snapshot)
    found = suggest(snapshot.collection, column, limit=_MOST_SUGGESTED, labels=labels, batches=batches)
    positions = snapshot.positions([each.id for each in found.rows])
    order = np.argsort(positions, kind="stable")
    order = order[np.isin(positions[order], rows)]
    named = Named(
        positions[order],
        pa.array([found.rows[each].label for each in order], pa.string()),
        np.array([found.rows[each].score for each in order], np.float64),
    )
    return named, found.note


def _counted(named: Named) -> list[dict[str, Any]]:
    counts = [(each["values"], each["counts"]) for each in pc.value_counts(named.names).to_pylist()]
    return [{"name": name, "count": count} for name, count in sorted(counts, key=lambda item: (-item[1], item[0]))]


def _is(names: pa.Array, name: str) -> Any:
    return pc.equal(names, name).to_numpy(zero_copy_only=False)
