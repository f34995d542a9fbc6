"""What `birder predict --save` wrote into the rows of a collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from birder.errors import CollectionError
from birder.images.sources import RANKS

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
    ranks = {rank: str(row[f"predicted_{rank}"]) for rank in RANKS if row.get(f"predicted_{rank}")}
    name = row.get("predicted_label") or next((ranks[rank] for rank in reversed(RANKS) if rank in ranks), None)
    if name is None or score is None:
        return None
    return Prediction(
        str(name), min(max(float(score), 0.0), 1.0), ranks, row.get("predicted_by"), row.get("predicted_at")
    )
