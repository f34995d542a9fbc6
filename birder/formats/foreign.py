"""Files of embeddings that others made, whatever their format, as batches of rows with a schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from birder.errors import ConfigError
from birder.formats.arrays import read_arrays
from birder.formats.pybioclip import read_embeddings
from birder.sources import Source, Stamp, stamp_of

Broken = tuple[Path, str, Stamp | None]


class Foreign(Protocol):
    """Rows with embeddings.

    Attributes
    ----------
    schema
        Their columns.
    rows
        How many there are.
    files, broken
        Files of a folder that can be read; and those that cannot, why, and by what a change is noticed.
    model
        What made the embeddings, where the file says it.
    """

    schema: pa.Schema
    rows: int
    files: list[Path]
    broken: list[Broken]
    model: str | None

    def batches(self, rows_at_once: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, some at a time; all columns or some."""


def open_foreign(path: Path, table: Path | None = None, uri: str | None = None) -> Foreign:
    """Open a Parquet file, a folder of them, pybioclip's JSON, or a NumPy array (.npy) with or without a table.

    Raises
    ------
    ConfigError
        It cannot be read, or is none of these.
    """
    if path.suffix.lower() == ".npy":
        return InMemory(*read_arrays(path, table, uri))
    if table is not None:
        raise ConfigError(f"A table goes with an array (.npy), whose rows it describes; {path} has its own columns.")
    if path.suffix.lower() == ".json":
        return InMemory(*read_embeddings(path))
    return ParquetFiles(path)


class ParquetFiles:
    """A Parquet file, or all of a folder, opened one after the other; their columns must be of the same types."""

    model: str | None = None

    def __init__(self, path: Path) -> None:
        self.broken: list[Broken] = []
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
                self._break(file, error)
                continue
            if schemas:
                try:
                    schema = pa.unify_schemas([schemas[0], schema])
                except pa.ArrowException as error:
                    raise ConfigError(
                        f"{file} has other columns than {self.files[0]} ({error}): import the two into two folders."
                    ) from error
                schemas[0] = schema
            else:
                schemas.append(schema)
            self.files.append(file)
            self.rows += rows
        if not schemas:
            raise ConfigError(f"None of the {len(self.broken)} Parquet files in {path} can be read.")
        self.schema = schemas[0]
        self._is_folder = path.is_dir()

    def _break(self, file: Path, error: Exception) -> None:
        self.broken.append((file, " ".join(str(error).split())[:500], stamp_of(Source(str(file.absolute())))))

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
                self._break(file, error)

    def _batches(self, file: Path, schema: pa.Schema, rows_at_once: int) -> Iterator[pa.Table]:
        with _opened(file) as opened:
            names = [name for name in schema.names if name in opened.schema_arrow.names]
            for batch in opened.iter_batches(rows_at_once, columns=names):
                arrays = [
                    batch.column(field.name) if field.name in names else pa.nulls(batch.num_rows, field.type)
                    for field in schema
                ]
                yield pa.table(arrays, schema=schema)


class InMemory:
    """A table that has been read already."""

    def __init__(self, table: pa.Table, model: str | None = None) -> None:
        self.schema = table.schema
        self.rows = table.num_rows
        self.files: list[Path] = []
        self.broken: list[Broken] = []
        self.model = model
        self._table = table

    def batches(self, rows_at_once: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, some at a time."""
        table = self._table if columns is None else self._table.select(list(columns))
        for start in range(0, table.num_rows, rows_at_once):
            yield table.slice(start, rows_at_once)


def _opened(file: Path) -> pq.ParquetFile:
    # A buffered stream: without it, a whole row group's column is held in memory.
    return pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)


def _parquet_files(path: Path) -> list[Path]:
    """The file, or those of a folder and of all below it; what begins with . or _ is not data, as elsewhere."""
    if not path.is_dir():
        return [path]
    files = sorted(
        file
        for file in path.rglob("*.parquet")
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise ConfigError(f"There is no Parquet file in the folder {path}: name one that has them.")
    return files
