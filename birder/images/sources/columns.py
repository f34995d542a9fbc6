"""Columns that sources bring: their names, their Arrow types, values that fit them, and the ranks of a taxonomy."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from birder.images.sources.source import RANKS, RESERVED

PLAIN = (pa.bool_(), pa.int64(), pa.float64(), pa.timestamp("us"), pa.string())
"""The types that columns have."""

_OURS = {"taken_at": pa.timestamp("us"), "latitude": pa.float64(), "longitude": pa.float64(), "label": pa.string()}
_OURS |= dict.fromkeys(RANKS, pa.string())


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
    """The type for values of both types: of integers and others floats, of what does not go together strings."""
    if a is None or b is None or a == b:
        return b if a is None else a
    return pa.float64() if {a, b} == {pa.int64(), pa.float64()} else pa.string()


def fitted(value: object, type_: pa.DataType) -> Any:
    """A value as one of a plain type; None where it cannot be."""
    if value is None:
        return None
    if pa.types.is_string(type_):
        text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()
    if pa.types.is_timestamp(type_):
        if isinstance(value, datetime) and value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return value if isinstance(value, datetime) else None
    if pa.types.is_boolean(type_):
        return value if isinstance(value, bool) else None
    try:
        number = float(value)  # type: ignore[arg-type]  # Decimal is one as well
    except (TypeError, ValueError, OverflowError):
        return None
    if pa.types.is_floating(type_):
        return number
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else int(number) if number % 1 == 0 else None


def plain_table(table: pa.Table) -> pa.Table:
    """A table with plain types, and names that filters need not quote; the first of two with one name stays."""
    columns: dict[str, pa.Array] = {}
    for name, column in zip(table.schema.names, table.columns, strict=True):
        type_ = plain_type(column.type)
        if column.type == type_:
            values = column
        elif pa.types.is_primitive(column.type) and not pa.types.is_timestamp(column.type) and type_ != PLAIN[-1]:
            values = column.cast(type_, safe=False)
        else:
            values = pa.array([fitted(value, type_) for value in column.to_pylist()], type_)
        columns.setdefault(re.sub(r"\W", "_", name.strip()) or "column", values)
    return pa.table(columns)


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
    names = (columns.get("scientific_name"), columns.get("sci"), told.get("species"), columns.get("common_name"))
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
