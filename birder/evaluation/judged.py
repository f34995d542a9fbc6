"""A table of predictions as arrays: what evaluation and comparison compute with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from birder.errors import ConfigError
from birder.evaluation.predictions import SCHEMA

Bools = NDArray[np.bool_]
Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
_DECIMALS = 9


@dataclass(frozen=True)
class Judged:
    """The table as arrays (N,), sorted by falling confidence (rows without one come last), then by id.

    Attributes
    ----------
    names
        Those of all true and predicted classes, sorted.
    true, predicted
        Codes of names; predicted is -1 where there is no answer.
    right
        Whether both are equal.
    groups
        Codes; a row without a group is one of its own. None where no row has one.
    confidence, uncalibrated
        Probability of the predicted name; NaN where there is none.
    sure
        How many rows have a confidence: the first ones.
    """

    table: pa.Table
    names: list[str]
    true: Codes
    predicted: Codes
    right: Bools
    groups: Codes | None
    confidence: Floats
    uncalibrated: Floats
    sure: int

    @classmethod
    def of(cls, table: pa.Table, *, by_confidence: bool = True) -> Judged:
        """Check and sort a table of `predictions.SCHEMA`.

        Parameters
        ----------
        table
            N rows, in any order.
        by_confidence
            Sort by falling confidence, then by id; else by id alone.

        Raises
        ------
        ConfigError
            There are no rows, a column or a label is missing, or an image occurs twice.
        """
        if missing := [name for name in SCHEMA.names if name not in table.column_names]:
            raise ConfigError(f"The table of predictions lacks the columns {', '.join(missing)}.")
        if not len(table):
            raise ConfigError("There are no predictions to judge. Give labels to some of the images first.")
        if pc.count_distinct(table["id"]).as_py() < len(table):
            raise ConfigError("The table of predictions has more than one row for an image. Keep one of them.")
        if table["true"].null_count:
            raise ConfigError(f"{table['true'].null_count} images have no label: only labelled images can be judged.")
        answered = pc.is_valid(table["predicted"])
        confidence = pc.if_else(answered, table["probability"], None)
        keys = pa.table({"id": table["id"], "confidence": confidence})
        order = pc.sort_indices(
            keys, sort_keys=[*([("confidence", "descending")] if by_confidence else []), ("id", "ascending")]
        )
        table = table.take(order).combine_chunks()
        names = sorted({*table["true"].unique().to_pylist(), *table["predicted"].unique().to_pylist()} - {None})
        known = pa.array(names, pa.string())
        true, predicted = (
            pc.fill_null(pc.index_in(table[column], known), -1).to_numpy().astype(np.int64)
            for column in ("true", "predicted")
        )
        sorted_confidence = floats(confidence.take(order))
        uncalibrated = floats(table["uncalibrated_probability"])
        return cls(
            table,
            names,
            true,
            predicted,
            true == predicted,
            _group_codes(table["group"]),
            sorted_confidence,
            np.where(predicted < 0, np.nan, uncalibrated),
            int(np.isfinite(sorted_confidence).sum()),
        )


def bools(values: pa.Array | pa.ChunkedArray) -> Bools:
    """As bool; null is False."""
    found: Bools = pc.fill_null(values, False).to_numpy(zero_copy_only=False).astype(bool)
    return found


def floats(values: pa.Array | pa.ChunkedArray) -> Floats:
    """As float64; null is NaN."""
    found: Floats = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found


def tidied(value: Any) -> Any:
    """Floats to nine decimals: what depends on the order of a sum does not show."""
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, dict):
        return {key: tidied(each) for key, each in value.items()}
    return [tidied(each) for each in value] if isinstance(value, list) else value


def _group_codes(groups: pa.ChunkedArray) -> Codes | None:
    if groups.null_count == len(groups):
        return None
    names = pa.array(sorted(set(groups.unique().to_pylist()) - {None}), pa.string())
    codes = pc.fill_null(pc.index_in(groups, names), -1).to_numpy().astype(np.int64)
    alone = codes < 0
    codes[alone] = len(names) + np.arange(alone.sum())
    return np.asarray(codes, np.int64)
