"""The one name by which an export knows an image: its label, its prediction, or a column; and the name of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from birder.collection.predictions import prediction_columns, prediction_of
from birder.collection.storage import Storage
from birder.errors import ConfigError, unknown_name
from birder.taxonomy import RANKS, is_rank, ranks_down_to, taxon_of
from birder.version import __version__

LABEL, PREDICTION = "label", "prediction"


class Name(NamedTuple):
    """What is on an image, and its ranks from the highest, including its own if it is a taxon."""

    name: str
    ranks: Sequence[str]


class Namer(NamedTuple):
    """The columns that names come from, and the function that makes the name of a row from them, or None."""

    columns: list[str]
    name: Callable[[Mapping[str, Any]], Name | None]


def namer(schema: pa.Schema, by: str) -> Namer:
    """How rows are named: by "label" (else the lowest known rank), "prediction", or any column of text.

    Raises
    ------
    CollectionError
        The collection has no predictions.
    ConfigError
        The column is not one of text.
    UnknownNameError
        The column does not exist.
    """
    if by == PREDICTION:
        return Namer(prediction_columns(schema.names), _predicted)
    if by not in schema.names:
        raise unknown_name("column", by, [LABEL, PREDICTION, *schema.names])
    if not (pa.types.is_string(schema.field(by).type) or pa.types.is_large_string(schema.field(by).type)):
        raise ConfigError(f"The column {by} is of the type {schema.field(by).type}. Choose a text column.")
    if by == LABEL:
        return Namer([LABEL, *RANKS], _labelled)
    columns = list(ranks_down_to(by)) if is_rank(by) else [by]

    def of_column(row: Mapping[str, Any]) -> Name | None:
        return Name(row[by], list(taxon_of(row).values()) if is_rank(by) else []) if row[by] else None

    return Namer(columns, of_column)


def classifier_of(collection: Storage) -> str:
    """The name of what made a collection's predictions, by default: its model, and Birder's version."""
    return f"{collection.model.name} (Birder {__version__})"


def _labelled(row: Mapping[str, Any]) -> Name | None:
    ranks = list(taxon_of(row).values())
    name = row[LABEL] or (ranks[-1] if ranks else None)
    return None if name is None else Name(name, ranks)


def _predicted(row: Mapping[str, Any]) -> Name | None:
    prediction = prediction_of(row)
    return None if prediction is None else Name(prediction.name, list(prediction.ranks.values()))
