"""Parquet files that hold the images themselves, as Hugging Face lays them out: a struct of `bytes` and `path`."""

from __future__ import annotations

import bisect
import itertools
import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from birder.errors import ConfigError
from birder.sources.columns import column_name, fitted, plain_type, values_of
from birder.sources.read import file_system
from birder.sources.source import Loaded, Source, is_url

_SLICE = 32
_SLICE_BYTES = 64_000_000
_TABLE_SLICE = 65_536
_KEPT = 192  # rows behind the furthest reader; threads read nearly in order
_KEPT_BYTES = 256_000_000
_MOST = 1 << 30
_MOST_ROWS = 4 << 30
_RATIO = 100
_BINARY_NAMES = ("image", "bytes", "image_bytes", "jpg", "png")


def open_parquet(path: str, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    """Open a Parquet file or URL; columns in `dictionaries` are read as values and their numbers.

    Raises
    ------
    ConfigError
        It is not Parquet, cannot be read, or is crafted to exhaust memory: columns of more than 1 GiB, and more than a
        hundred times what they take in the file.
    """
    try:
        if is_url(path):
            filesystem, inside = file_system(path)
            file = pq.ParquetFile(filesystem.open(inside, "rb"), read_dictionary=dictionaries)
        else:
            file = pq.ParquetFile(path, read_dictionary=dictionaries, buffer_size=1 << 20)
    except ConfigError:
        raise
    except Exception as error:  # Arrow's own, the system's, or those of the protocol's library
        raise ConfigError(f"Cannot read {path}: {error}. It must be a Parquet file.") from error
    if not dictionaries:
        _check_expansion(path, file)
    return file


def _check_expansion(path: str, file: pq.ParquetFile) -> None:
    for group, column in itertools.product(range(file.metadata.num_row_groups), range(file.metadata.num_columns)):
        chunk = file.metadata.row_group(group).column(column)
        size = chunk.total_uncompressed_size
        if file.schema.column(column).max_repetition_level:  # one row may hold all of them
            size = max(size, 8 * chunk.num_values)
            if _has_dictionary(chunk) and chunk.num_values * size > _MOST:
                size = max(size, chunk.num_values * _longest(path, chunk.path_in_schema))
        if size > _MOST and size > _RATIO * chunk.total_compressed_size:
            raise ConfigError(
                f"Cannot read {path}: {chunk.total_compressed_size:,} bytes of it would become {size:,} in memory. "
                "Write it again with smaller row groups."
            )


def _has_dictionary(chunk: pq.ColumnChunkMetaData) -> bool:
    """Whether a value that is stored once may be used by many rows."""
    return chunk.physical_type == "BYTE_ARRAY" and any("DICTIONARY" in name for name in chunk.encodings)


def _longest(path: str, column: str) -> int:
    """Bytes of the longest value of a nested column, of which each is read once."""
    longest = 0
    with open_parquet(path, [column]) as file:
        for batch in file.iter_batches(_SLICE, columns=[column], use_threads=False):
            values = batch.column(0)
            while not pa.types.is_dictionary(values.type):
                values = values.values if hasattr(values, "values") else values.field(0)
            longest = max(longest, int(pc.max(pc.binary_length(values.dictionary)).as_py() or 0))
    return longest


def read_rows(path: str) -> pa.Table:
    """All rows of a Parquet file.

    Raises
    ------
    ConfigError
        It cannot be read, or would take more than 4 GiB of memory.
    """
    with open_parquet(path) as file:
        chunks = [
            file.metadata.row_group(g).column(c)
            for g in range(file.metadata.num_row_groups)
            for c in range(file.metadata.num_columns)
        ]
        schema = file.schema_arrow
    repeated = {chunk.path_in_schema for chunk in chunks if _has_dictionary(chunk)} & set(schema.names)
    batches: list[pa.RecordBatch] = []
    size = 0
    try:
        with open_parquet(path, sorted(repeated)) as file:
            for batch in file.iter_batches(_TABLE_SLICE):
                size += sum(map(_unpacked_size, batch.columns))
                if size > _MOST_ROWS:
                    raise ConfigError(
                        f"{path} needs more than {_MOST_ROWS:,} bytes of memory. Split it into several files."
                    )
                batches.append(batch.cast(schema))
        return pa.Table.from_batches(batches, schema)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"Cannot read the table {path}: {error}. It must be a Parquet file.") from error


def _unpacked_size(column: pa.Array) -> int:
    """The bytes of a column once values that its rows share are repeated for each of them."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
    return int(pc.sum(lengths).as_py() or 0)


def image_column(schema: pa.Schema) -> str | None:
    """The column that holds images, if there is one: a struct with `bytes`, or binary data called image or similar."""
    for column in schema:
        if pa.types.is_struct(column.type) and any(f.name == "bytes" and _is_binary(f.type) for f in column.type):
            return str(column.name)
    return next((str(c.name) for c in schema if _is_binary(c.type) and c.name in _BINARY_NAMES), None)


def _is_binary(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


class ParquetShard:
    """A Parquet file of images, read a few rows at a time; any thread may ask for any row, fastest in order."""

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
        self._slices: deque[tuple[int, pa.RecordBatch]] = deque()
        self._rest: Iterator[pa.RecordBatch] = iter(())
        self._next = self._end = 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_") or name == "_names"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    @property
    def settled(self) -> bool:
        """True: an unchanged file has the same images."""
        return True

    def sources(self) -> Iterator[Source]:
        """One source a row; only the footer is read."""
        try:
            with open_parquet(self.path) as file:
                rows = file.metadata.num_rows
                stored = sum(file.metadata.row_group(g).total_byte_size for g in range(file.metadata.num_row_groups))
        except ConfigError as error:
            yield Source(self.path, problem=str(error))
            return
        if rows > max(8 * stored, _SLICE):  # not even one bit for each
            yield Source(self.path, problem=f"it claims to have {rows:,} images in {stored:,} bytes")
            return
        for row in range(rows):
            yield Source(self.path, part=ParquetRow(self, row))

    def load(self, row: int) -> Loaded:
        """The image and the columns of a row; `OSError` if they cannot be read."""
        try:
            with self._lock:
                start, batch = self._slice_with(row)
            columns_ = batch.slice(row - start, 1)
            values = {name: values_of(columns_.column(name))[0] for name in columns_.schema.names}
        except (pa.ArrowException, ConfigError) as error:
            raise OSError(f"the Parquet file is damaged: {error}") from error
        image = values.pop(self.image)
        columns = {name: self._value(original, values[original]) for original, name in self._names.items()}
        if isinstance(image, Mapping):
            columns.setdefault("file_name", image.get("path"))
            image = image.get("bytes")
        if image is None:
            raise OSError("its row has no image")
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
            self._rest = self._file.iter_batches(self._rows_at_once(group), row_groups=[group], use_threads=False)
        while True:
            batch = next(self._rest, None)
            if batch is None:
                raise pa.ArrowInvalid("it has fewer rows than it says")
            start, self._next = self._next, self._next + batch.num_rows
            self._slices.append((start, batch))
            while len(self._slices) > 1 and (
                self._next - self._slices[0][0] > _KEPT or sum(b.nbytes for _, b in self._slices) > _KEPT_BYTES
            ):
                self._slices.popleft()
            if row < self._next:
                return start, batch

    def _rows_at_once(self, group: int) -> int:
        """Rows that fit into memory together, even if all of them have the largest value of a dictionary."""
        assert self._file is not None
        chunks = [self._file.metadata.row_group(group).column(c) for c in range(self._file.metadata.num_columns)]
        largest = sum(chunk.total_uncompressed_size for chunk in chunks if _has_dictionary(chunk))
        return int(max(1, min(_SLICE, _SLICE_BYTES // max(1, largest))))


class ParquetRow:
    """An image in a Parquet file, by the number of its row."""

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
        """Arrow types of the columns of its file."""
        return self.shard.types

    @property
    def size(self) -> None:
        """Unknown before it is read; the shard bounds what is read at once."""
        return None

    def load(self) -> Loaded:
        """Read the row."""
        return self.shard.load(self.row)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of the classes in class columns, from the metadata of the Hugging Face hub."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: [str(each) for each in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
