"""The table of scores that the unknown is judged by: images of classes that the classifier knows, and of others.

Images of unknown classes have no right name to be predicted, so they are not among the predictions; and where classes
are left out more than once, an image has several scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from birder.evaluation.judged import Codes
from birder.evaluation.unknown_metrics import Scores

SCHEMA = pa.schema(
    {"id": pa.string(), "group": pa.string(), "round": pa.int32(), "known": pa.bool_(), "score": pa.float32()}
)
"""id and group of an image, as in the predictions; which leaving-out of classes this was, from 0; whether its class was
known then; and its score, the higher the less known."""


def unknown_table(
    ids: Sequence[str],
    groups: Sequence[str | None] | None,
    known: NDArray[np.bool_],
    scores: NDArray[np.floating],
    rounds: NDArray[np.integer] | None = None,
) -> pa.Table:
    """The table of `SCHEMA`, from columns of one length; without groups, each image is one."""
    zeros = np.zeros(len(known), np.int32)
    columns = {
        "id": pa.array(ids, pa.string()),
        "group": pa.nulls(len(known), pa.string()) if groups is None else pa.array(groups, pa.string()),
        "round": pa.array(zeros if rounds is None else rounds, pa.int32()),
        "known": pa.array(known),
        "score": pa.array(scores, pa.float32()),
    }
    return pa.table(columns, schema=SCHEMA)


def scores_of(table: pa.Table) -> tuple[tuple[Scores, Scores], tuple[Codes, Codes]]:
    """What `evaluate_predictions` takes as `unknown` and `unknown_groups`.

    Parameters
    ----------
    table
        Of `SCHEMA`.

    Returns
    -------
    Scores of images of known and of unknown classes, and the group of each; where there are no groups, the image.
    """
    known = table["known"].to_numpy()
    scores = table["score"].to_numpy()
    names = pc.if_else(pc.is_valid(table["group"]), table["group"], table["id"]).combine_chunks()
    codes = pc.index_in(names, names.unique().sort()).to_numpy().astype(np.int64)
    return (scores[known], scores[~known]), (codes[known], codes[~known])
