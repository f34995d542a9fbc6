"""A collection as it is at one moment: what an export goes through, however often, while others go on writing."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import pyarrow as pa

from birder.collection.filter import Filter
from birder.collection.provenance import with_sources_told
from birder.collection.schema import LABEL_SOURCE
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes

ROWS_AT_ONCE = 8192
_BYTES_AT_ONCE = 64 * 2**20


class Snapshot:
    """The rows of a collection that match a filter, as of now; later commits do not show.

    Boxes that a person said are wrong are left out: `birder.collection.wrong_boxes`.

    Attributes
    ----------
    path
        The collection's folder.
    schema
        All columns, with the model's card in the metadata.
    """

    def __init__(self, collection: Storage, where: str | Filter | None = None) -> None:
        self.path = collection.path
        self._rows = collection.snapshot()
        self._journal = collection.journal
        self._is_whole = where is None
        self._where = without_wrong_boxes(where, self._rows.columns)
        self.schema: pa.Schema = self._rows.schema

    @property
    def is_whole(self) -> bool:
        """Whether these are all rows, without a filter; boxes that a person said are wrong aside."""
        return self._is_whole

    def count(self) -> int:
        """How many rows there are."""
        return self._rows.count(self._where)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Go through the rows in the order they were written, some thousands at a time.

        `label_source` is "person" for labels that people gave.
        """
        names = self.schema.names if columns is None else list(columns)
        at_once = rows_at_once(pa.schema([self.schema.field(name) for name in names]))
        tells = {"id", "label", LABEL_SOURCE} if LABEL_SOURCE in names else set()
        self._journal.read()
        for table in self._rows.tables([*names, *sorted(tells - set(names))], self._where, rows=at_once):
            yield (with_sources_told(table, self._journal) if tells else table).select(names)

    def filled(self, columns: Sequence[str]) -> list[str]:
        """Those of the columns that have a value in any row."""
        return [name for name in columns if self._rows.count_filled(name, self._where)]


def rows_at_once(schema: pa.Schema) -> int:
    """How many rows to hold at once, by what their vectors need."""
    vectors = [column.type for column in schema if pa.types.is_fixed_size_list(column.type)]
    width: int = sum(type_.list_size * type_.value_type.bit_width // 8 for type_ in vectors)
    return max(1, min(ROWS_AT_ONCE, _BYTES_AT_ONCE // max(width, 1)))


def as_text(value: Any) -> str | None:
    """A value as text: times as ISO 8601, what is nested as JSON, bytes as base64."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, date):  # datetime is one
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
