"""Collections as tables of their own columns: Parquet and CSV, written batch by batch."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from birder.collection.schema import VECTORS
from birder.formats.snapshot import Snapshot, as_text


def write_parquet(snapshot: Snapshot, file: Path) -> int:
    """Write all columns, zstd-compressed; embeddings are fixed-size lists of float32, the card is metadata (`birder`).

    Returns
    -------
    How many rows.
    """
    schema = snapshot.schema
    others = [name for name in schema.names if name not in VECTORS]
    rows = 0
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=others) as writer:
        for table in snapshot.batches():
            writer.write_table(table.cast(schema))
            rows += table.num_rows
    return rows


def write_csv(snapshot: Snapshot, file: Path) -> int:
    """Write all columns but the vectors: times as ISO 8601, null as nothing, lists as JSON, bytes as base64.

    Returns
    -------
    How many rows.
    """
    names = [name for name in snapshot.schema.names if name not in VECTORS]
    schema = pa.schema([pa.field(name, _csv_type(snapshot.schema.field(name).type)) for name in names])
    rows = 0
    options = pyarrow.csv.WriteOptions(quoting_header="needed")
    with pyarrow.csv.CSVWriter(file, schema, write_options=options) as writer:
        for table in snapshot.batches(names):
            writer.write_table(pa.table([_plain(column) for column in table.columns], schema=schema))
            rows += table.num_rows
    return rows


def _csv_type(type_: pa.DataType) -> pa.DataType:
    plain = pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_floating(type_)
    return type_ if plain else pa.string()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    type_ = _csv_type(column.type)
    if type_ == column.type:
        return column
    return pa.chunked_array([[as_text(value) for value in column.to_pylist()]], type_)
