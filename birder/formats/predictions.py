"""Predictions in the rows of a collection: written by `birder predict --save` and by imports, read by exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa

from birder.collection.annotate import write_columns
from birder.collection.schema import TIME
from birder.collection.storage import Storage
from birder.errors import CollectionError
from birder.taxonomy import RANKS, lowest_name, taxon_of

SCORE = "predicted_score"
COLUMNS = (
    "predicted_label",
    *(f"predicted_{rank}" for rank in RANKS),
    "predicted_common_name",
    SCORE,
    "predicted_by",
    "predicted_at",
)


class Prediction(NamedTuple):
    """The best name of a photograph, with its probability, and the ranks above it; who gave it and when, if known."""

    name: str
    score: float
    ranks: dict[str, str]
    by: str | None
    at: datetime | None


def prediction_columns(names: Sequence[str]) -> list[str]:
    """The columns with predictions that a collection has.

    Raises
    ------
    CollectionError
        There are none.
    """
    if SCORE not in names:
        raise CollectionError("The collection has no predictions yet. Make them with: birder predict --in DIR --save")
    return [name for name in COLUMNS if name in names]


def prediction_of(row: Mapping[str, Any]) -> Prediction | None:
    """The prediction in a row; None where there is none."""
    score = row.get(SCORE)
    ranks = taxon_of(row, "predicted_")
    name = row.get("predicted_label") or lowest_name(ranks)
    if name is None or score is None:
        return None
    return Prediction(
        str(name), min(max(float(score), 0.0), 1.0), ranks, row.get("predicted_by"), row.get("predicted_at")
    )


def save_predictions(
    collection: Storage,
    best: Sequence[tuple[str, Mapping[str, Any] | None]],
    columns: Sequence[str],
    by: Sequence[str] | str,
    at: datetime | None,
) -> list[str]:
    """Write the best name of each row into its columns `predicted_...`; labels are not touched.

    What an earlier run said of these rows in other columns goes.

    Parameters
    ----------
    best
        Uris, and what was predicted: columns of text and `score`; None for nothing.
    columns
        The columns of text.
    by
        What predicted; for all, or for each.
    at
        When, if that is known.

    Returns
    -------
    The columns that have been written.
    """
    named = [found is not None for _, found in best]
    values = {
        f"predicted_{name}": pa.array([found.get(name) if found else None for _, found in best], pa.string())
        for name in columns
    }
    makers = [by] * len(best) if isinstance(by, str) else list(by)
    values[SCORE] = pa.array([found["score"] if found else None for _, found in best], pa.float32())
    values["predicted_by"] = pa.array(
        [maker if is_named else None for maker, is_named in zip(makers, named, strict=True)], pa.string()
    )
    values["predicted_at"] = pa.array([at if is_named else None for is_named in named], TIME)
    written = list(values)
    values |= {
        name: pa.nulls(len(best), type_)
        for name, type_ in collection.columns.items()
        if name.startswith("predicted_") and name not in values
    }
    write_columns(collection, [uri for uri, _ in best], values)
    return written
