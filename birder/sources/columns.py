"""Columns that sources bring: their names, their Arrow types, values that fit them, and the ranks of a taxonomy."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from birder.sources.source import RESERVED
from birder.taxonomy import RANKS
from birder.words import counted

PLAIN = (pa.bool_(), pa.int64(), pa.float64(), pa.timestamp("us"), pa.string())
"""The types that columns have."""

_OURS = {"taken_at": pa.timestamp("us"), "latitude": pa.float64(), "longitude": pa.float64(), "label": pa.string()}
_OURS |= dict.fromkeys(RANKS, pa.string())
_PLACE = {"latitude": 90.0, "longitude": 180.0}


class PlaceWarning(UserWarning):
    """Latitudes and longitudes out of range, which are left empty."""


def column_name(name: str, type_: pa.DataType = PLAIN[-1]) -> str:
    """A name that filters need not quote, and that does not clash with a column of Birder's own of another type."""
    name = re.sub(r"\W", "_", name.strip())
    own = _OURS.get(name, type_)
    clashes = own != type_ and not (pa.types.is_floating(own) and pa.types.is_integer(type_))
    if name in RESERVED or name.startswith("_") or not name or clashes:
        name = "source_" + name.strip("_")
    return name


def plain_type(type_: pa.DataType) -> pa.DataType:
    """The plain type for an Arrow type; what is nested becomes JSON in a string."""
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if pa.types.is_boolean(type_):
        return pa.bool_()
    if pa.types.is_integer(type_):
        return pa.int64()
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return pa.float64()
    return pa.timestamp("us") if pa.types.is_timestamp(type_) else pa.string()


def type_of(value: object) -> pa.DataType | None:
    """The plain type for a value; None for None."""
    if value is None:
        return None
    for kind, type_ in ((bool, PLAIN[0]), (int, PLAIN[1]), (float, PLAIN[2]), (datetime, PLAIN[3])):
        if isinstance(value, kind):
            fits = kind is not int or (isinstance(value, int) and -(2**63) <= value < 2**63)
            return type_ if fits else PLAIN[2]
    return PLAIN[-1]


def common_type(a: pa.DataType | None, b: pa.DataType | None) -> pa.DataType | None:
    """The type for values of both types: floats for integers and floats, strings for types that do not go together."""
    if a is None or b is None or a == b:
        return b if a is None else a
    return pa.float64() if {a, b} == {pa.int64(), pa.float64()} else pa.string()


def fitted(value: object, type_: pa.DataType) -> Any:
    """A value as one of a plain type; None if it cannot be converted."""
    if value is None:
        return None
    if pa.types.is_string(type_):
        return _text(value)
    if pa.types.is_timestamp(type_):
        try:
            if isinstance(value, datetime) and value.tzinfo is not None:
                value = value.astimezone(UTC).replace(tzinfo=None)
        except OverflowError:  # of the year 10,000, there
            return None
        return value if isinstance(value, datetime) else None
    if pa.types.is_boolean(type_):
        return value if isinstance(value, bool) else None
    try:
        number = float(value)  # type: ignore[arg-type]  # Decimal is one as well
    except (TypeError, ValueError, OverflowError):
        return None
    if pa.types.is_floating(type_):
        return number
    whole = value if isinstance(value, int) else int(number) if number % 1 == 0 else None
    return whole if whole is not None and -(2**63) <= whole < 2**63 else None


def _text(value: object) -> str | None:
    try:
        if isinstance(value, date | time | timedelta):
            text = str(value)
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    except (RecursionError, ValueError):
        return None
    return text.encode("utf-8", "replace").decode()


def values_of(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """An Arrow column as Python's values; None for what Python has no value for, such as a day of the year 10,000."""
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except (ValueError, OverflowError):
        return [_value_of(value) for value in column]


def _value_of(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return None


def plain_table(table: pa.Table) -> pa.Table:
    """A table with plain types, and names that filters need not quote; the first of two with one name stays."""
    columns: dict[str, pa.Array] = {}
    for name, column in zip(table.schema.names, table.columns, strict=True):
        columns.setdefault(re.sub(r"\W", "_", name.strip()) or "column", _plain(column, plain_type(column.type)))
    return pa.table(columns)


def _plain(column: pa.ChunkedArray, type_: pa.DataType) -> pa.Array | pa.ChunkedArray:
    numbers = pa.types.is_primitive(column.type) and not pa.types.is_temporal(column.type)
    try:
        if column.type == type_:
            column.validate(full=True)  # Parquet may say of any bytes that they are text
            if not pa.types.is_timestamp(type_):
                return column
            first, last = (pa.scalar(moment, pa.timestamp("us")) for moment in (datetime.min, datetime.max))
            return pc.if_else(pc.and_(pc.less_equal(first, column), pc.less_equal(column, last)), column, None)
        if numbers:
            return column.cast(type_)
    except pa.ArrowInvalid:
        pass
    return pa.array([fitted(value, type_) for value in values_of(column)], type_)


def without_odd_places(table: pa.Table, path: str) -> pa.Table:
    """A user's table without the positions that are not on the earth; half a position counts as none.

    Warns
    -----
    PlaceWarning
        There were such positions.
    """
    table, odd = places_on_earth(table)
    if odd:
        warnings.warn(
            f"{path}: {counted(odd, 'row has', 'rows have')} a latitude beyond 90 or a longitude beyond 180 degrees; "
            "their "
            f"coordinates are left empty.",
            PlaceWarning,
            stacklevel=2,
        )
    return table


def places_on_earth(table: pa.Table) -> tuple[pa.Table, int]:
    """A table in which positions that are not on the earth are empty, and the number of such rows."""
    own = [name for name in _PLACE if name in table.schema.names and _is_number(table[name].type)]
    fine = pa.array([True]).take(pa.array(np.zeros(len(table), np.int64)))
    for name in own:
        on_earth = pc.less_equal(pc.abs(table[name].cast(pa.float64(), safe=False)), _PLACE[name])  # false for NaN
        fine = pc.and_(fine, pc.fill_null(on_earth, True))
    odd = len(table) - (pc.sum(fine).as_py() or 0)
    if odd:
        for name in own:
            values = pc.if_else(fine, table[name], pa.scalar(None, table[name].type))
            table = table.set_column(table.schema.get_field_index(name), name, values)
    return table, odd


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_floating(type_) or pa.types.is_integer(type_))


def drop_off_earth(columns: dict[str, Any]) -> bool:
    """Empty the position of a row if it is not on the earth; returns whether it was not."""
    off = any(isinstance(each := columns.get(n), int | float) and not abs(each) <= most for n, most in _PLACE.items())
    if off:
        columns.update(dict.fromkeys(_PLACE.keys() & columns.keys()))
    return off


def with_taxonomy(columns: Mapping[str, Any]) -> dict[str, Any]:
    """TreeOfLife's columns, and what they say: the seven ranks, and a label.

    `taxonomic_name` is "kingdom phylum class order family genus epithet" where all seven are known; `taxonTag` says
    each rank before its name and may leave some out. The label is the scientific name, else the common one.
    """
    told: dict[str, Any] = {}
    words = str(columns.get("taxonomic_name") or "").split()
    tagged = re.split(rf"\b({'|'.join(RANKS)})\s+", str(columns.get("taxonTag") or ""))
    if len(words) == len(RANKS):
        told = dict(zip(RANKS, words, strict=True))
    elif len(tagged) > 2:
        told = {rank: name.strip(" .") for rank, name in zip(tagged[1::2], tagged[2::2], strict=True)}
    if told.get("genus") and told.get("species"):
        told["species"] = f"{told['genus']} {told['species'].removeprefix(told['genus']).strip()}"
    caption = str(columns.get("sci") or "").removeprefix("a photo of ").removesuffix(".")  # of no name: "a photo of ."
    names = (columns.get("scientific_name"), caption, told.get("species"), columns.get("common_name"))
    if label := next((str(name) for name in names if name), None):
        told["label"] = label
    return told | {name: value for name, value in columns.items() if value is not None}


def as_number(value: object) -> float | None:
    """A finite number, or None."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
