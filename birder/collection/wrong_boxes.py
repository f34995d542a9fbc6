"""Boxes that a person said are wrong: their rows stay, and are left out where animals are counted, named or learned.

What somebody says of a box itself is a label like any other, in the column `box`: `right` or `wrong`. To delete a box
is to call it wrong; undoing that brings it back, with all that was ever said of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.filter import Filter, as_filter, parse_filter

BOX = "box"
"""The column of what a person said of a box itself."""
RIGHT = "right"
WRONG = "wrong"
_NAMING = frozenset([BOX, "id"])
"""Columns by which a filter asks for wrong boxes, too: whoever names one of these is taken at their word."""


def without_wrong_boxes(where: str | Filter | None, columns: Mapping[str, pa.DataType]) -> Filter | None:
    """A filter that may be text, parsed or absent, without the boxes that a person said are wrong.

    It is what everything goes through that counts, names, exports, judges or learns from rows; to read all rows, use
    `birder.collection.filter.as_filter`. A filter on the column `box`, or one that names rows by `id`, stays as it is.

    Parameters
    ----------
    where
        A filter: only these rows.
    columns
        The collection's columns and their Arrow types.

    Raises
    ------
    FilterError
        The filter cannot be used.
    """
    chosen = as_filter(where, columns)
    if not _is_said(columns) or (chosen is not None and chosen.columns & _NAMING):
        return chosen
    shown = parse_filter(f"{BOX} IS NULL OR {BOX} <> '{WRONG}'", {BOX: columns[BOX]})
    if chosen is None:
        return shown
    sql, *of_source = (f"({each} AND {shown.sql})" for each in (chosen.sql, *(chosen.of_source or ())))
    source = (of_source[0], of_source[1]) if of_source else None
    return Filter(chosen.text, sql, chosen.columns | shown.columns, source)


def only_wrong_boxes(columns: Mapping[str, pa.DataType]) -> Filter | None:
    """The filter that keeps the boxes that a person said are wrong; None if the collection has no such column."""
    return parse_filter(f"{BOX} = '{WRONG}'", {BOX: columns[BOX]}) if _is_said(columns) else None


def are_wrong(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Which of N rows (N,) are boxes that a person said are wrong, where they must be there for other reasons."""
    if not _is_said(dict(zip(rows.column_names, rows.schema.types, strict=True))):
        return np.zeros(rows.num_rows, np.bool_)
    said = pc.fill_null(pc.equal(rows[BOX], WRONG), False)
    wrong: npt.NDArray[np.bool_] = said.to_numpy()
    return wrong


def _is_said(columns: Mapping[str, pa.DataType]) -> bool:
    """Whether there is a column of what people said of boxes, and not one of the user's own with other values."""
    own = columns.get(BOX)
    return own is not None and (pa.types.is_string(own) or pa.types.is_large_string(own))
