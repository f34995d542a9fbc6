"""Parquet files that hold the photographs themselves, as Hugging Face lays them out: a struct of `bytes` and `path`."""

from __future__ import annotations

import bisect
import itertools
import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birder.errors import ConfigError
from birder.images.sources.columns import column_name, fitted, plain_type
from birder.images.sources.read import file_system
from birder.images.sources.source import Loaded, Source, is_url

_SLICE = 32
_SLICES = 6  # behind the furthest reader; threads read nearly in order
_BINARY_NAMES = ("image", "bytes", "image_bytes", "jpg", "png")


def open_parquet(path: str) -> pq.ParquetFile:
    """Open a Parquet file or URL.

    Raises
    ------
    ConfigError
        It is none, or cannot be read.
    """
    try:
        if not is_url(path):
            return pq.ParquetFile(path)
        filesystem, inside = file_system(path)
        return pq.ParquetFile(filesystem.open(inside, "rb"))
    except ConfigError:
        raise
    except Exception as error:  # Arrow's own, the system's, or those of the protocol's library
        raise ConfigError(f"Cannot read {path}: {error}. It must be a Parquet file.") from error


def image_column(schema: pa.Schema) -> str | None:
    """The column that holds photographs, if there is one: a struct with `bytes`, or a binary called image or so."""
    for column in schema:
        if pa.types.is_struct(column.type) and any(f.name == "bytes" and _is_binary(f.type) for f in column.type):
            return str(column.name)
    return next((str(c.name) for c in schema if _is_binary(c.type) and c.name in _BINARY_NAMES), None)


def _is_binary(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


class ParquetShard:
    """A Parquet file of photographs, read a few rows at a time; any thread may ask for any row, best in their order."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        self.path = path
        image = image_column(schema)
        assert image is not None
        self.image = image
        self.class_names = _class_names(schema)
        self.types: dict[str, pa.DataType] = {}
        self._names: dict[str, str] = {}
        for column in schema:
            if column.name != image:
                type_ = pa.string() if column.name in self.class_names else plain_type(column.type)
                name = column_name(column.name, type_)
                self._names[column.name] = name
                self.types[name] = type_
        if pa.types.is_struct(schema.field(image).type):
            self.types.setdefault("file_name", pa.string())
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._file: pq.ParquetFile | None = None
        self._starts: list[int] = []
        self._slices: deque[tuple[int, pa.RecordBatch]] = deque(maxlen=_SLICES)
        self._rest: Iterator[pa.RecordBatch] = iter(())
        self._next = self._end = 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_") or name == "_names"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def sources(self) -> Iterator[Source]:
        """One source a row; only the footer is read."""
        try:
            with open_parquet(self.path) as file:
                rows = file.metadata.num_rows
        except ConfigError as error:
            yield Source(self.path, problem=str(error))
            return
        for row in range(rows):
            yield Source(self.path, part=ParquetRow(self, row))

    def load(self, row: int) -> Loaded:
        """The photograph and the columns of a row; `OSError` if they cannot be read."""
        try:
            with self._lock:
                start, batch = self._slice_with(row)
            values = batch.slice(row - start, 1).to_pylist()[0]
        except (pa.ArrowException, ConfigError) as error:
            raise OSError(f"the Parquet file is damaged: {error}") from error
        image = values.pop(self.image)
        columns = {name: self._value(original, values[original]) for original, name in self._names.items()}
        if isinstance(image, Mapping):
            columns.setdefault("file_name", image.get("path"))
            image = image.get("bytes")
        if image is None:
            raise OSError("its row holds no image")
        return Loaded(image, columns)

    def _value(self, name: str, value: object) -> Any:
        names = self.class_names.get(name)
        if names is not None and isinstance(value, int):
            return names[value] if 0 <= value < len(names) else None
        return fitted(value, self.types[self._names[name]])

    def _slice_with(self, row: int) -> tuple[int, pa.RecordBatch]:
        for start, batch in self._slices:
            if start <= row < start + batch.num_rows:
                return start, batch
        if self._file is None:
            self._file = open_parquet(self.path)
            sizes = [self._file.metadata.row_group(g).num_rows for g in range(self._file.metadata.num_row_groups)]
            self._starts = list(itertools.accumulate(sizes, initial=0))[:-1]
        if not self._next <= row < self._end:
            group = bisect.bisect_right(self._starts, row) - 1
            self._next = self._starts[group]
            self._end = self._next + self._file.metadata.row_group(group).num_rows
            self._rest = self._file.iter_batches(_SLICE, row_groups=[group], use_threads=False)
        while True:
            batch = next(self._rest, None)
            if batch is None:
                raise pa.ArrowInvalid("it has fewer rows than it says")
            start, self._next = self._next, self._next + batch.num_rows
            self._slices.append((start, batch))
            if row < self._next:
                return start, batch


class ParquetRow:
    """A photograph in a Parquet file, by the number of its row."""

    __slots__ = ("row", "shard")

    def __init__(self, shard: ParquetShard, row: int) -> None:
        self.shard = shard
        self.row = row

    @property
    def fragment(self) -> str:
        """`row=` and its number, from 0."""
        return f"row={self.row}"

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Those of its file."""
        return self.shard.types

    @property
    def size(self) -> int:
        """Unknown."""
        return 0

    def load(self) -> Loaded:
        """Read it."""
        return self.shard.load(self.row)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names behind the numbers of class columns, which the Hugging Face hub's metadata tell."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: [str(each) for each in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
