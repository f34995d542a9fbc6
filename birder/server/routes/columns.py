"""What is in the columns: values with their counts, ranges and histograms, for filters and for colours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, HTTPException, Query

from birder.collection.wrong_boxes import BOX
from birder.server.catalogue import kind_of
from birder.server.encoded import counted, value_type
from birder.server.responses import ColumnValues, plain
from birder.server.site import PROBLEMS, CurrentSite, Where

router = APIRouter(tags=["columns"], responses=PROBLEMS)

ValueOrder = Literal["count", "value"]

_BINS = 24


@router.get("/columns/{name}/values", response_model=ColumnValues)
def values(
    site: CurrentSite,
    name: str,
    where: Where = None,
    limit: Annotated[int, Query(ge=0, le=10_000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    contains: Annotated[str | None, Query(max_length=300, description="Only values that contain this text")] = None,
    part: Annotated[
        Literal["hour", "month"] | None, Query(description="Of times: count hours of the day, or months")
    ] = None,
    order: Annotated[ValueOrder, Query(description="By the number of images, or by the value itself")] = "count",
    also: Annotated[
        list[str] | None, Query(max_length=200, description="Texts to be counted wherever they stand in that order")
    ] = None,
) -> dict[str, Any]:
    """The values of a column in the rows that match a filter, and how often each is there.

    Of numbers and times also the range and a histogram.
    """
    snapshot = site.catalogue.current()
    # Unfiltered is the common case, and needs no list of all rows.
    chosen = snapshot.filter(where, wrong_boxes=name == BOX)  # its own values are all counted
    column = snapshot.encoded(name, None if chosen is None else snapshot.select(chosen))
    if part is not None:
        if not (pa.types.is_timestamp(column.type) or (part == "month" and pa.types.is_date(column.type))):
            raise HTTPException(400, f"{name[:100]} has no times of day: only a column of times has hours and months.")
        column = pc.hour(column) if part == "hour" else pc.month(column)
    return count_values(column, limit, contains, offset=offset, order=order, also=also or [])


def count_values(
    column: pa.Array,
    limit: int,
    contains: str | None = None,
    *,
    offset: int = 0,
    order: ValueOrder = "count",
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """Describe a column's values.

    Parameters
    ----------
    column
        Text, numbers, times or booleans, as `Snapshot.encoded` gives them.
    limit
        How many values.
    contains
        Only values whose text has this in it, in upper or lower case.
    offset
        How many values are left out before them.
    order
        "count": the most frequent first and among equals by value; "value": by value.
    also
        Texts whose counts are given wherever they stand in that order, and whether or not they contain it.
    """
    kind = kind_of(value_type(column.type))
    assert kind is not None  # the catalogue gives no others
    present = column.drop_null()
    if pa.types.is_floating(column.type):
        present = present.filter(pc.is_finite(present))
    distinct, counts = counted(present)
    asked = _counts_of(distinct, counts, also) if also and kind == "text" else []
    if contains:
        fits = pc.match_substring(distinct.cast(pa.string()), contains, ignore_case=True)
        distinct, counts = distinct.filter(fits), counts.filter(fits)
    table = pa.table({"value": distinct, "count": counts})
    # Sorting 100,000 different values would be wasted: only the first are wanted.
    keys = [("count", "descending"), ("value", "ascending")][order == "value" :]
    wanted = limit and offset < table.num_rows
    first = pc.select_k_unstable(table, min(offset + limit, table.num_rows), keys)[offset:] if wanted else []
    shown = table.take(first).to_pylist() if wanted else []
    answer: dict[str, Any] = {
        "type": kind,
        "values": [{"value": plain(each["value"]), "count": each["count"]} for each in shown],
        "also": asked,
        "nulls": len(column) - len(present),
        "distinct": len(distinct),
    }
    if kind in ("number", "time") and len(present):
        ends = pc.min_max(present)
        answer["min"], answer["max"] = plain(ends["min"].as_py()), plain(ends["max"].as_py())
        answer["histogram"] = _histogram(present, kind)
    return answer


def _counts_of(distinct: pa.Array, counts: pa.Array, texts: Sequence[str]) -> list[dict[str, Any]]:
    places = pc.index_in(pa.array(texts, pa.string()).cast(distinct.type), distinct)
    found = pc.fill_null(counts.take(places), 0).to_pylist()
    return [{"value": text, "count": count} for text, count in zip(texts, found, strict=True)]


def _histogram(present: pa.Array, kind: str) -> list[dict[str, Any]]:
    whole = pa.types.is_integer(present.type)
    zone = UTC if pa.types.is_timestamp(present.type) and present.type.tz else None
    if kind == "time":
        present = present.cast(pa.timestamp("us")).cast(pa.int64())
    numbers = present.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        edges = np.array([low, high])
        counts = np.array([len(numbers)])
    else:
        bins = min(_BINS, int(high - low) + 1) if whole and high - low < _BINS else _BINS
        # Halved first: the whole span of two doubles may be more than a double can be.
        edges = np.array([low * (1 - share) + high * share for share in np.linspace(0, 1, bins + 1)])
        places = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, bins - 1)
        counts = np.bincount(places, minlength=bins)
    ends = [_moment(edge, zone) if kind == "time" else float(edge) for edge in edges]
    return [
        {"from_": start, "to": end, "count": int(count)}
        for start, end, count in zip(ends[:-1], ends[1:], counts, strict=True)
    ]


def _moment(microseconds: float, zone: tzinfo | None) -> str:
    # Added to the epoch, as the system's own function refuses years that Arrow has.
    return (datetime(1970, 1, 1, tzinfo=zone) + timedelta(microseconds=microseconds)).isoformat()
