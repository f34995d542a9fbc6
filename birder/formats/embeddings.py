"""Files of embeddings that other tools computed, whatever their format: batches of rows with a schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from birder.errors import ConfigError
from birder.formats.table import FORMATS, format_to_import
from birder.sources import Stamp

UnreadableFile = tuple[Path, str, Stamp | None]
"""A file, why it cannot be read, and a stamp by which a change of it is noticed."""


class EmbeddingFile(Protocol):
    """Rows with embeddings.

    Attributes
    ----------
    schema
        Their columns.
    rows
        How many there are.
    files, unreadable
        The files of a folder that can be read, and those that cannot.
    model
        What computed the embeddings, where the file tells it.
    """

    schema: pa.Schema
    rows: int
    files: list[Path]
    unreadable: list[UnreadableFile]
    model: str | None

    def batches(self, rows_at_once: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, some at a time; all columns or some."""


class TableInMemory:
    """A table that has been read already."""

    def __init__(self, table: pa.Table, model: str | None = None) -> None:
        self.schema = table.schema
        self.rows = table.num_rows
        self.files: list[Path] = []
        self.unreadable: list[UnreadableFile] = []
        self.model = model
        self._table = table

    def batches(self, rows_at_once: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, some at a time."""
        table = self._table if columns is None else self._table.select(list(columns))
        for start in range(0, table.num_rows, rows_at_once):
            yield table.slice(start, rows_at_once)


def open_embeddings(
    path: Path, table: Path | None = None, names: str | None = None, embedding: str | None = None
) -> EmbeddingFile:
    """Open a file or folder of embeddings in one of the formats that are read.

    Parameters
    ----------
    path
        The file or folder.
    table
        For an array (.npy), which has no columns: a CSV or Parquet file with a row for each of its rows.
    names
        The column of `table` with the images' locations (default: the one with a usual name).
    embedding
        The column of the embeddings, or what their columns have in front of their number (default: recognised).

    Raises
    ------
    ConfigError
        It cannot be read, or is in another format.
    """
    format_ = format_to_import(path)
    if "embeddings" not in format_.reads:
        readable = ", ".join(each.title for each in FORMATS.values() if "embeddings" in each.reads)
        raise ConfigError(f"{path} has no embeddings: it must be one of {readable}.")
    if table is not None and not format_.has_table:
        raise ConfigError(f"{path} has its own columns: leave out the table, which belongs to an array (.npy).")
    more = (table, names) if format_.has_table else (embedding,) if format_.is_text else ()
    opened: EmbeddingFile = format_.load().read_embeddings(path, *more)
    return opened
