"""Parquet: a collection as a file of it, and files of embeddings in it that other tools, or Birder, wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from birder.collection.schema import VECTORS
from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.files import replacing
from birder.formats.embeddings import UnreadableFile
from birder.formats.snapshot import Snapshot
from birder.formats.table import ExportReport
from birder.sources import Source, stamp_of
from birder.words import counted


def export(collection: Storage, rows: Snapshot, to: Path, *, force: bool) -> ExportReport:
    """Write all columns, zstd-compressed: embeddings as fixed-size lists of float32, the model's card as metadata."""
    schema = rows.schema
    others = [name for name in schema.names if name not in VECTORS]
    count = 0
    with (
        replacing(to, force=force) as draft,
        pq.ParquetWriter(draft, schema, compression="zstd", use_dictionary=others) as writer,
    ):
        for table in rows.batches():
            writer.write_table(table.cast(schema))
            count += table.num_rows
    return ExportReport(f"{counted(count, 'row')} in {to}.")


def read_embeddings(file: Path) -> ParquetFiles:
    """Open a Parquet file, or all of a folder.

    Raises
    ------
    ConfigError
        No file can be read, or two have columns of other types.
    """
    return ParquetFiles(file)


class ParquetFiles:
    """A Parquet file, or all of a folder, opened one after the other; a column has the same type in all of them."""

    model: str | None = None

    def __init__(self, path: Path) -> None:
        self.unreadable: list[UnreadableFile] = []
        self.rows = 0
        self.files: list[Path] = []
        schemas: list[pa.Schema] = []
        for file in _parquet_files(path):
            try:
                with _opened(file) as opened:
                    schema, rows = opened.schema_arrow, opened.metadata.num_rows
            except (OSError, pa.ArrowException) as error:
                if not path.is_dir():
                    raise ConfigError(f"Cannot read {file}: {error}. It must be a Parquet file.") from error
                self._leave_out(file, error)
                continue
            if schemas:
                try:
                    schema = pa.unify_schemas([schemas[0], schema])
                except pa.ArrowException as error:
                    raise ConfigError(
                        f"{file} has other columns than {self.files[0]} ({error}): import them into two collections."
                    ) from error
                schemas[0] = schema
            else:
                schemas.append(schema)
            self.files.append(file)
            self.rows += rows
        if not schemas:
            raise ConfigError(f"None of the {len(self.unreadable)} Parquet files in {path} can be read.")
        self.schema = schemas[0]
        self._is_folder = path.is_dir()

    def _leave_out(self, file: Path, error: Exception) -> None:
        self.unreadable.append((file, " ".join(str(error).split())[:500], stamp_of(Source(str(file.absolute())))))

    def batches(self, rows_at_once: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows of all files; a column that a file does not have is null."""
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        for file in list(self.files):
            try:
                yield from self._batches(file, schema, rows_at_once)
            except (OSError, pa.ArrowException) as error:
                if not self._is_folder:
                    raise
                self.files.remove(file)
                self._leave_out(file, error)

    def _batches(self, file: Path, schema: pa.Schema, rows_at_once: int) -> Iterator[pa.Table]:
        with _opened(file) as opened:
            names = [name for name in schema.names if name in opened.schema_arrow.names]
            for batch in opened.iter_batches(rows_at_once, columns=names):
                arrays = [
                    batch.column(field.name) if field.name in names else pa.nulls(batch.num_rows, field.type)
                    for field in schema
                ]
                yield pa.table(arrays, schema=schema)


def _opened(file: Path) -> pq.ParquetFile:
    # A buffered stream: without it, a whole row group's column is held in memory.
    return pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)


def _parquet_files(path: Path) -> list[Path]:
    """The file, or those of a folder and of all below it; names that begin with . or _ are not data, as elsewhere."""
    if not path.is_dir():
        return [path]
    files = sorted(
        file
        for file in path.rglob("*.parquet")
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise ConfigError(f"The folder {path} has no Parquet files. Choose another folder.")
    return files
