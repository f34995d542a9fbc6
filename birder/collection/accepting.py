"""Predictions that a person accepts: they become that person's labels, as one act of the journal."""

from __future__ import annotations

import uuid
from typing import NamedTuple

import numpy as np

from birder.collection.filter import Filter
from birder.collection.labels import Wish, add_column, check_column, checked_name, recording, values_of
from birder.collection.predictions import LABEL, PREFIX, SCORE, SEQUENCE, is_prediction
from birder.collection.provenance import source_of
from birder.collection.schema import LABEL_SOURCE
from birder.collection.storage import Storage
from birder.errors import ConfigError, unknown_name


class Accepted(NamedTuple):
    """The act, how many rows it labelled (of 0 there is no act), and how many kept the label of a person or table."""

    act: str
    accepted: int
    kept: int


def accept(
    collection: Storage,
    predicted: str = LABEL,
    *,
    above: float,
    where: Filter | None = None,
    by: str | None = None,
) -> Accepted:
    """Make predictions the labels of their rows; some 200 bytes a row in memory.

    Parameters
    ----------
    collection
        Whose rows.
    predicted
        The column with the predictions: "predicted_label" becomes `label`, "predicted_species" `species`; the answer
        for a sequence, "predicted_sequence_label", `label` too.
    above
        The least score of a prediction that is accepted.
    where
        A filter: only these rows. Rows that a person or a table has given a value keep it, in any case.
    by
        Who accepts.

    Raises
    ------
    ConfigError
        The column does not hold names that a model predicted.
    UnknownNameError
        There is no such column.
    """
    columns = collection.columns
    if predicted not in columns:
        raise unknown_name("column", predicted, filter(is_prediction, columns))
    prefix = SEQUENCE if predicted.startswith(SEQUENCE) else PREFIX
    score = SEQUENCE + "score" if prefix == SEQUENCE else SCORE
    column = predicted.removeprefix(prefix)
    if not is_prediction(predicted) or column in ("by", "at", "score", "sha256", "set", "unknown"):
        raise ConfigError(f"{predicted} does not hold names that a model predicted: accept {LABEL}, for example.")
    check_column(columns, column)
    author = None if by is None else checked_name(by)
    collection.journal.read()
    own = (name for name in (column, LABEL_SOURCE) if name in columns)
    names = dict.fromkeys(("id", "uri", predicted, score, *own))
    least = float(np.float32(above))  # as scores are stored
    accepted: dict[str, list[str]] = {}
    kept = 0
    for batch in collection.scan(list(names), where=where):
        for row in batch.to_pylist():
            name, sure = row[predicted], row[score]
            if name is None or sure is None or sure < least:
                continue
            given = row.get(column) is not None
            if given and source_of(collection.journal, row, column).kind in ("person", "table"):
                kept += 1
            else:
                accepted.setdefault(name, []).append(row["id"])
    act = str(uuid.uuid4())
    if not accepted:
        return Accepted(act, 0, kept)
    add_column(collection, column)
    wishes = [Wish(ids, column, name) for name, ids in sorted(accepted.items())]
    with recording(collection.journal, values_of(collection)) as recorder:
        changes = recorder.give(wishes, act=act, by=author)
    collection.labelled = True
    return Accepted(act, sum(change.count for change in changes), kept)
