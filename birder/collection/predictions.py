"""Predictions in the rows of a collection: the columns that hold them, how they are read, and how they are written.

A prediction is made by a model; labels, given by people, are in other columns and are never changed by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa

from birder.collection.schema import TIME
from birder.errors import CollectionError
from birder.taxonomy import RANKS, lowest_name, taxon_of

PREFIX = "predicted_"
"""The prefix of the columns that a model fills."""
LABEL = PREFIX + "label"
SCORE = PREFIX + "score"
BY = PREFIX + "by"
AT = PREFIX + "at"
SEQUENCE = PREFIX + "sequence_"
"""The prefix of the columns with the one answer for a row's sequence (`predict --by sequence`)."""
SEQUENCE_COLUMNS = (SEQUENCE + "label", *(SEQUENCE + rank for rank in RANKS), SEQUENCE + "score")
COLUMNS = (LABEL, *(PREFIX + rank for rank in RANKS), PREFIX + "common_name", SCORE, BY, AT)


class Prediction(NamedTuple):
    """The best name of an image, with its probability, and the ranks above it; the model and the time, if known."""

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
        It has no predictions.
    """
    if SCORE not in names:
        raise CollectionError("The collection has no predictions yet. Make them with: birder predict --in DIR --save")
    return [name for name in COLUMNS if name in names]


def prediction_of(row: Mapping[str, Any], prefix: str = PREFIX) -> Prediction | None:
    """The prediction in a row, or None; with the prefix `SEQUENCE`, that for its sequence."""
    score = row.get(prefix + "score")
    ranks = taxon_of(row, prefix)
    name = row.get(prefix + "label") or lowest_name(ranks)
    if name is None or score is None:
        return None
    return Prediction(str(name), min(max(float(score), 0.0), 1.0), ranks, row.get(BY), row.get(AT))


def is_prediction(column: str) -> bool:
    """Whether a column is filled by models."""
    return column.startswith(PREFIX)


def prediction_table(
    best: Sequence[tuple[str, Mapping[str, Any] | None]],
    names: Sequence[str],
    by: Sequence[str] | str,
    at: datetime | None,
    columns: Mapping[str, pa.DataType],
    further: Mapping[str, pa.DataType] | None = None,
) -> pa.Table:
    """The best name of each row, in the columns that predictions have.

    Parameters
    ----------
    best
        Uris, and what was predicted: text by name and `score`; None for no prediction. Without a `score` it is none of
        the row itself, but of its sequence.
    names
        The names of the texts, such as "label" or "species".
    by
        The model; for all rows, or for each.
    at
        The time, if that is known.
    columns
        The columns of the collection: values that former predictions left in others of them are removed.
    further
        Other values of each prediction, by name and type.
    """
    values = {
        PREFIX + name: pa.array([found.get(name) if found else None for _, found in best], pa.string())
        for name in names
    }
    values |= {
        PREFIX + name: pa.array([found.get(name) if found else None for _, found in best], type_)
        for name, type_ in (further or {}).items()
    }
    models = [by] * len(best) if isinstance(by, str) else list(by)
    values[SCORE] = pa.array([found.get("score") if found else None for _, found in best], pa.float32())
    made = [bool(found) for _, found in best]
    values[BY] = pa.array([model if there else None for model, there in zip(models, made, strict=True)], pa.string())
    values[AT] = pa.array([at if there else None for there in made], TIME)
    values |= {
        name: pa.nulls(len(best), type_)
        for name, type_ in columns.items()
        if is_prediction(name) and name not in values
    }
    return pa.table({"uri": pa.array([uri for uri, _ in best], pa.string()), **values})
