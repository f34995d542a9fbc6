"""A table of a collection's rows that comes back from a spreadsheet: what was changed in it goes into the rows.

Cells that are as the row has them are left alone: a folder's name that was exported as a label does not become a
determination because it was read again. Predictions are a model's, and are not read.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from birder.collection.predictions import is_prediction
from birder.collection.storage import Storage
from birder.errors import BirderError, ConfigError
from birder.sources import Source, TableRow, image_of, uri_to_path
from birder.sources.columns import without_odd_places
from birder.sources.table import PhotoTable, typed


@dataclass(slots=True)
class KnownRow(Source):
    """A row that is in the collection, by its uri, and the columns that it gets."""

    key: str = ""

    @property
    def uri(self) -> str:
        """The key of the row."""
        return self.key


@dataclass(frozen=True)
class BroughtBack:
    """What a table says of rows.

    Attributes
    ----------
    changed
        Rows of the collection with the values that are new in the table.
    matched
        How many of its rows the table names.
    there
        Their uris, and those of their images.
    rest
        The rows of the table that the collection does not have, with paths as names.
    """

    changed: list[Source]
    matched: int
    there: Set[str]
    rest: PhotoTable


def bring_back(table: PhotoTable, collection: Storage | None) -> BroughtBack:
    """Find the rows of a table in a collection: by their uri, or else, where files have moved, by their id.

    Raises
    ------
    ConfigError
        A value does not have the type that its column has in the collection.
    """
    assert table.ids is not None
    known = {} if collection is None else collection.columns
    columns = _converted(table, known)
    by_uri = {uri: number for number, uri in enumerate(table.names) if uri}
    by_id = {id_: number for number, id_ in enumerate(table.ids) if id_}
    matched: dict[int, str] = {}
    values = {name: column.to_pylist() for name, column in zip(columns.column_names, columns.columns, strict=True)}
    scanned = [name for name in columns.column_names if name in known]
    for batch in () if collection is None else collection.scan(["id", "uri", *scanned]):
        for row in batch.to_pylist():
            number = by_uri.get(row["uri"], by_id.get(row["id"]))
            if number is None:
                continue
            matched[number] = row["uri"]
            for name in scanned:
                if values[name][number] == row[name]:
                    values[name][number] = None
    new = pa.table({field.name: pa.array(values[field.name], field.type) for field in columns.schema})
    changed: list[Source] = []
    for number, uri in sorted(matched.items()):
        if any(cells[number] is not None for cells in values.values()):
            changed.append(KnownRow(uri, columns=TableRow(new, number), key=uri))
    left = [number for number in range(len(table.names)) if number not in matched]
    rest = PhotoTable(
        table.path, [_place(table.names[number]) for number in left], columns.take(pa.array(left, pa.int64()))
    )
    there = {uri for each in matched.values() for uri in (each, image_of(each))}
    return BroughtBack(changed, len(matched), there, rest)


def _converted(table: PhotoTable, known: dict[str, pa.DataType]) -> pa.Table:
    """The columns with the types that they have in the collection, and new ones with that of all of their values."""
    arrays: dict[str, Any] = {}
    for name, column in zip(table.columns.column_names, table.columns.columns, strict=True):
        type_ = known.get(name)
        if is_prediction(name) or (type_ is not None and (pa.types.is_nested(type_) or pa.types.is_binary(type_))):
            continue
        if type_ is None or (pa.types.is_string(column.type) and not pa.types.is_string(type_)):
            if pa.types.is_string(column.type):
                column = pa.array(typed([value or "" for value in column.to_pylist()]))
            if type_ is None and pa.types.is_null(column.type):
                continue  # a new column without a value
        try:
            arrays[name] = column if type_ is None else column.cast(type_)
        except pa.ArrowException as error:
            raise ConfigError(
                f"The column {name} of {table.path} has a value that is not of the type {type_}, which it has in the "
                f"collection: {error}"
            ) from error
    if not arrays:
        return pa.table({"": pa.nulls(len(table.names))}).select([])
    return without_odd_places(pa.table(arrays), table.path)


def _place(uri: str) -> str:
    """The path of a file's uri; anything else as it is."""
    if not uri.startswith("file://") or "#" in uri:
        return uri
    try:
        return uri_to_path(uri)
    except BirderError:
        return uri
