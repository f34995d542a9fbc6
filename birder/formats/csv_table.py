"""A collection as CSV."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from birder.collection.schema import VECTORS
from birder.collection.storage import Storage
from birder.files import replacing
from birder.formats.snapshot import Snapshot, as_text
from birder.formats.table import ExportReport
from birder.words import counted


def export(collection: Storage, rows: Snapshot, to: Path, *, force: bool) -> ExportReport:
    """Write all columns but the vectors: times as ISO 8601, null as nothing, lists as JSON, bytes as base64."""
    names = [name for name in rows.schema.names if name not in VECTORS]
    schema = pa.schema([pa.field(name, _csv_type(rows.schema.field(name).type)) for name in names])
    count = 0
    options = pyarrow.csv.WriteOptions(quoting_header="needed")
    with replacing(to, force=force) as draft, pyarrow.csv.CSVWriter(draft, schema, write_options=options) as writer:
        for table in rows.batches(names):
            writer.write_table(pa.table([_plain(column) for column in table.columns], schema=schema))
            count += table.num_rows
    return ExportReport(f"{counted(count, 'row')} in {to}.")


def _csv_type(type_: pa.DataType) -> pa.DataType:
    plain = pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_floating(type_)
    return type_ if plain else pa.string()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    type_ = _csv_type(column.type)
    if type_ == column.type:
        return column
    return pa.chunked_array([[as_text(value) for value in column.to_pylist()]], type_)
