"""The table of predictions: one row for each image judged, from which every figure can be computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from birder.errors import ConfigError
from birder.evaluation.held_out import Probabilities
from birder.taxonomy import ranks_in

TOP = 5
"""How many of the most probable names a row keeps."""
TRUE = "true_"
"""What stands before a rank in the column of the true taxon: true_genus."""
PREDICTED = "predicted_"
"""What stands before a rank in the column of the predicted taxon: predicted_genus."""
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "uri": pa.string(),
        "group": pa.string(),
        "fold": pa.int32(),
        "true": pa.string(),
        "predicted": pa.string(),
        "probability": pa.float32(),
        "true_probability": pa.float32(),
        "brier": pa.float32(),
        "uncalibrated_probability": pa.float32(),
        "uncalibrated_true_probability": pa.float32(),
        "rank_of_true": pa.int32(),
        "top": pa.list_(pa.struct({"name": pa.string(), "probability": pa.float32()})),
        "unknown_score": pa.float32(),
        "set": pa.list_(pa.string()),
    }
)
"""The columns that every table has, in this order; the user's columns and those of the ranks follow.

id, uri, group, fold
    The image, the group that it was split by, and the fold in which it was held out; null where there is none.
true, predicted
    The label, never null, and the predicted name; null where the model gave no answer.
probability, true_probability
    That of the predicted and of the true name, the second 0 where the model does not know the name.
brier
    The sum over the classes of the squared difference between the probability and 1 for the true class, 0 for others.
uncalibrated_probability, uncalibrated_true_probability
    The same probabilities before the temperature.
rank_of_true
    Place of the true name by probability, 1 = first; null where the model does not know the name.
top
    The five most probable names.
unknown_score
    Mean distance to the nearest training examples: the higher, the less known.
set
    The conformal set of names.
"""
_BLOCK = 4_000_000
"""Probabilities looked at at once: 16 MB, and about five times that in what is made of them."""

Taxa = Mapping[str, Mapping[str, str]]
"""Class -> rank -> taxon."""


def predictions_table(
    ids: Sequence[str] | pa.ChunkedArray,
    uris: Sequence[str] | pa.ChunkedArray,
    groups: Sequence[str | None] | pa.Array | None,
    folds: NDArray[np.integer] | Sequence[int] | None,
    true: Sequence[str],
    probabilities: NDArray[np.floating] | Probabilities,
    classes: Sequence[str],
    *,
    uncalibrated: NDArray[np.floating] | Probabilities | None = None,
    unknown_scores: NDArray[np.floating] | None = None,
    sets: Sequence[Sequence[str]] | pa.ChunkedArray | None = None,
    taxa: Taxa | None = None,
    extra: pa.Table | None = None,
) -> pa.Table:
    """The table of predictions of a classifier that gives every class a probability.

    Parameters
    ----------
    ids, uris
        Of the N images, as lists or Arrow arrays.
    groups, folds
        Group of each image, and the fold in which it was held out; None where there are none.
    true
        The N labels; they may be names that are not among the classes.
    probabilities
        float (N, C): rows sum to 1. Equal ones are ordered as their classes are. Read in blocks of rows.
    classes
        C names, each once.
    uncalibrated
        float (N, C): the same before the temperature.
    unknown_scores
        float (N,)
    sets
        N conformal sets of names.
    taxa
        The taxon at each rank of a class: gives the columns `true_<rank>` and `predicted_<rank>`. Classes that are
        absent, and ranks that a class lacks, are null.
    extra
        N rows of further columns, such as the deployment.

    Returns
    -------
    A table of `SCHEMA`, the columns of `extra` and those of the ranks; row i is image i.

    Raises
    ------
    ConfigError
        Lengths differ, probabilities are not finite, a label is missing, or a name of a column is taken.
    """
    shape = (len(true), len(classes))
    for array in (probabilities, uncalibrated):
        if array is not None and array.shape != shape:
            raise ConfigError(f"Expected probabilities of shape {shape} (images, classes), got {array.shape}.")
    if not classes or len(set(classes)) < len(classes):
        raise ConfigError("Expected at least one class, and each class once.")
    index = {name: i for i, name in enumerate(classes)}
    truth = np.array([index.get(name, -1) for name in true], dtype=np.int64)
    names = np.array(classes, dtype=object)
    count = min(TOP, len(classes))
    best = np.empty((len(truth), count), np.int64)
    of_best = np.empty((len(truth), count), np.float32)
    of_true = np.empty(len(truth), np.float32)
    place = np.empty(len(truth), np.int32)
    brier = np.empty(len(truth), np.float32)
    before: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    if uncalibrated is not None:
        before = (np.empty(len(truth), np.float32), np.empty(len(truth), np.float32))
    for block in _blocks(*shape):
        p = probabilities[block]
        if not np.isfinite(p).all():
            raise ConfigError("Probabilities must be finite: the classifier or its embeddings are damaged.")
        t = truth[block]
        order = _best(p, count)
        best[block] = order
        of_best[block] = np.take_along_axis(p, order, 1)
        exact = _of(p, t)
        of_true[block] = exact
        earlier = np.arange(shape[1]) < t[:, None]
        place[block] = 1 + ((p > exact[:, None]) | ((p == exact[:, None]) & earlier)).sum(axis=1)
        brier[block] = np.square(p, dtype=np.float64).sum(axis=1) - 2.0 * exact + 1.0
        if before is not None and uncalibrated is not None:
            q = uncalibrated[block]
            before[0][block] = _of(q, order[:, 0])
            before[1][block] = _of(q, t)
    predicted = names[best[:, 0]]
    columns: dict[str, object] = {
        "id": ids,
        "uri": uris,
        "group": groups,
        "fold": folds,
        "true": true,
        "predicted": predicted,
        "probability": of_best[:, 0],
        "true_probability": of_true,
        "brier": np.maximum(brier, 0),
        "uncalibrated_probability": None if before is None else before[0],
        "uncalibrated_true_probability": None if before is None else before[1],
        "rank_of_true": pa.array(place, mask=truth < 0),
        "top": pa.ListArray.from_arrays(
            np.arange(len(truth) + 1, dtype=np.int32) * count,
            pa.StructArray.from_arrays(
                [pa.array(names[best].ravel(), pa.string()), pa.array(of_best.ravel())], ["name", "probability"]
            ),
        ),
        "unknown_score": unknown_scores,
        "set": sets if sets is None or isinstance(sets, pa.ChunkedArray) else [list(one) for one in sets],
    }
    return _assemble(len(truth), columns, taxa, extra)


def from_columns(
    ids: Sequence[str],
    uris: Sequence[str],
    groups: Sequence[str | None] | None,
    true: Sequence[str],
    predicted: Sequence[str | None],
    *,
    scores: Sequence[float | None] | NDArray[np.floating] | None = None,
    folds: NDArray[np.integer] | Sequence[int] | None = None,
    taxa: Taxa | None = None,
    extra: pa.Table | None = None,
) -> pa.Table:
    """The table of predictions of which only the names are known: a column of a collection against its labels.

    Parameters
    ----------
    ids, uris, groups, folds, taxa, extra
        As in `predictions_table`.
    true, predicted
        The N labels and the N predicted names; None where no name was predicted.
    scores
        The N probabilities of the predicted names, between 0 and 1, where they were stored.

    Raises
    ------
    ConfigError
        Lengths differ, a label is missing, a score is not a probability, or a name of a column is taken.
    """
    columns: dict[str, object] = dict.fromkeys(SCHEMA.names)
    columns |= {"id": ids, "uri": uris, "group": groups, "fold": folds, "true": true, "predicted": predicted}
    columns["probability"] = scores
    table = _assemble(len(true), columns, taxa, extra)
    given = table["probability"].drop_null().to_numpy()
    if not ((given >= 0) & (given <= 1)).all():
        raise ConfigError(f"Expected probabilities from 0 to 1, got scores from {given.min():g} to {given.max():g}.")
    return table


def _assemble(count: int, columns: Mapping[str, object], taxa: Taxa | None, extra: pa.Table | None) -> pa.Table:
    arrays: dict[str, pa.Array | pa.ChunkedArray] = {}
    for field in SCHEMA:
        values = columns[field.name]
        array = _array(values, count, field.type)
        if len(array) != count:
            raise ConfigError(f"Expected {count} values of {field.name}, one for each label; got {len(array)}.")
        arrays[field.name] = array
    if arrays["true"].null_count:
        raise ConfigError(f"{arrays['true'].null_count} images have no label: only labelled images can be judged.")
    if taxa:
        known = {rank for taxon in taxa.values() for rank in taxon}
        for prefix, names in ((TRUE, arrays["true"]), (PREDICTED, arrays["predicted"])):
            for rank in ranks_in(known):
                taxon = {name: of_class.get(rank) or None for name, of_class in taxa.items()}
                arrays[prefix + rank] = pa.array([taxon.get(name) for name in names.to_pylist()], pa.string())
    table = pa.table(arrays)
    if extra is None:
        return table
    if taken := sorted(set(extra.column_names) & set(table.column_names)):
        raise ConfigError(f"The table of predictions has columns of its own named {', '.join(taken)}. Rename yours.")
    if len(extra) != count:
        raise ConfigError(f"Expected {count} rows of further columns, one for each label; got {len(extra)}.")
    for name in extra.column_names:
        table = table.append_column(extra.schema.field(name), extra[name])
    return table


def _array(values: object, count: int, type_: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if values is None:
        return pa.nulls(count, type_)
    return values.cast(type_) if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, type_)


def _blocks(rows: int, width: int) -> Iterator[slice]:
    step = max(1, _BLOCK // width)
    return (slice(start, start + step) for start in range(0, rows, step))


def _best(probabilities: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """The most probable classes of each row, best first; equal ones in the order of the classes."""
    left = probabilities.copy()
    order = np.empty((len(left), count), np.int64)
    for i in range(count):
        order[:, i] = left.argmax(axis=1)
        np.put_along_axis(left, order[:, i : i + 1], -np.inf, 1)
    return order


def _of(probabilities: NDArray[np.floating], codes: NDArray[np.int64]) -> NDArray[np.floating]:
    """The probability of one class in each row; 0 where the code is -1."""
    found = np.take_along_axis(probabilities, np.maximum(codes, 0)[:, None], 1)[:, 0]
    return np.where(codes < 0, 0, found)
