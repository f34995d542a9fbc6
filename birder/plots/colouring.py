"""Colours for the points of a map, by the values of a column."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.schema import VECTORS
from birder.collection.storage import Storage
from birder.errors import unknown_name

PALETTE = (
    # Seven that colour-blind people can tell apart (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/) ...
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"),
    # ... and more for collections with many values, told apart by most (after Paul Tol, https://sronpersonalpages.nl/~pault/).
    *("#332288", "#882255", "#44aa99", "#999933", "#aa4499", "#117733", "#cc6677", "#88ccee", "#ddcc77"),
    *("#994455", "#6699cc", "#eecc66", "#004488"),
)
OTHER = "#9a9a9a"
NONE = "#c8c8c8"
_OPACITY = 217


@dataclass(frozen=True)
class Categories:
    """Values by frequency.

    Attributes
    ----------
    names, counts, colours
        Of the most frequent values; the last stands for all others where there are more.
    codes
        (N,) int64: for each point, where its value is among them; -1 for none.
    """

    names: list[str]
    counts: list[int]
    colours: list[str]
    codes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scale:
    """Numbers, nan for none; times as seconds since 1970 (`time` says so), as the column has them."""

    values: npt.NDArray[np.float64]
    time: bool

    def shown(self, value: float) -> str:
        """A number of the scale for people: 1,234.5 or a day."""
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d}" if self.time else f"{value:,.6g}"


def colour_values(collection: Storage, column: str, ids: list[str], *, most: int = len(PALETTE)) -> Categories | Scale:
    """The values of a column for points, by which to colour them.

    Parameters
    ----------
    collection
        The collection.
    column
        One of its columns: categories of a text or truth value, a scale of a number or time.
    ids
        The `id` of each point's row.
    most
        How many categories have a colour of their own, at most 20.

    Raises
    ------
    UnknownNameError
        There is no such column.
    """
    values = point_values(collection, column, ids)
    type_ = values.type
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return Scale(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), False)
    if pa.types.is_temporal(type_):
        seconds = pc.divide(values.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64(), safe=False), 1e6)
        return Scale(seconds.to_numpy(zero_copy_only=False), True)
    return _categories(values.cast(pa.string()), most)


def point_values(collection: Storage, column: str, ids: list[str]) -> pa.Array:
    """The values of a column for the rows of these ids, in their order; null where there is no such row."""
    known = [name for name in collection.columns if name not in VECTORS]
    if column not in known:
        raise unknown_name("column", column, known)
    table = collection.snapshot().to_table(["id", column])
    places = pc.index_in(pa.array(ids, pa.string()), table["id"].combine_chunks())
    return table[column].combine_chunks().take(places)


def hex_to_rgba(colours: list[str]) -> npt.NDArray[np.uint8]:
    """Colours as "#rrggbb" to (N, 4) uint8 with the opacity of a map's points."""
    rgb = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours]
    return np.array([[*each, _OPACITY] for each in rgb], np.uint8).reshape(-1, 4)


def _categories(values: Any, most: int) -> Categories:
    encoded = values.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    names = encoded.dictionary.to_pylist()
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    order = sorted(range(len(names)), key=lambda code: (-counts[code], names[code]))
    shown, others = order[:most], order[most:]
    new = np.full(len(names) + 1, len(shown), np.int64)
    new[shown] = np.arange(len(shown))
    new[-1] = -1  # where codes of -1 point to
    return Categories(
        [names[code] for code in shown] + ([f"{len(others):,} others"] if others else []),
        [int(counts[code]) for code in shown] + ([int(counts[others].sum())] if others else []),
        [*PALETTE[: len(shown)], *([OTHER] if others else [])],
        new[codes],
    )
