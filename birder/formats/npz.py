"""NumPy's .npz, without pickle and in bounded memory: a collection as arrays, and embeddings that others, or we, wrote.

A row of the file is a row of each array. In our own, `birder.model` and `birder.schema` tell the model and the columns'
types, and NAME.is_null what is null: the collection comes back as it was.
"""

from __future__ import annotations

import base64
import json
import math
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.predictions import AT
from birder.collection.schema import TIME, VECTORS, ModelCard, image_fields
from birder.collection.storage import Storage
from birder.errors import ConfigError, listed
from birder.files import replacing
from birder.formats.embeddings import UnreadableFile
from birder.formats.layout import EMBEDDINGS
from birder.formats.snapshot import Snapshot, as_text
from birder.formats.table import ExportReport
from birder.sources.table import TableWarning
from birder.words import counted

CARD = "birder.model"
SCHEMA = "birder.schema"
_NULLS = ".is_null"
_MOST = 64 * 2**20
"""Bytes of an array that are read at once."""
_EPOCH = "datetime64[us]"


def export(collection: Storage, rows: Snapshot, to: Path, *, force: bool) -> ExportReport:
    """Write `embedding` (N, D) float32 and each column as an array (N,); `np.load` reads them without pickle.

    Texts are Unicode strings, times datetime64[us] (UTC where the column has a zone). Where a column has nulls, the
    array has "", 0, False, NaN or NaT there, and NAME.is_null (N,) bool marks them. `birder.model` is the model's card
    as JSON, `birder.schema` (bytes) the columns' types as Arrow serialises them. Nested columns are JSON texts, bytes
    base64.
    """
    count = rows.count()
    with (
        replacing(to, force=force) as draft,
        zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        card = np.array((rows.schema.metadata or {}).get(b"birder", b"{}").decode())
        _write(archive, CARD, card.dtype, (), iter([card]))
        types = np.frombuffer(rows.schema.remove_metadata().serialize(), np.uint8)
        _write(archive, SCHEMA, types.dtype, types.shape, iter([types]))
        for column in rows.schema:
            if column.name in VECTORS:
                _write_vectors(archive, rows, column, count)
            else:
                _write_column(archive, rows, column.name, count)
    return ExportReport(f"{counted(count, 'row')} in {to}.")


def _write_vectors(archive: zipfile.ZipFile, rows: Snapshot, column: pa.Field, count: int) -> None:
    width = column.type.list_size
    dtype = np.dtype(cast(npt.DTypeLike, column.type.value_type.to_pandas_dtype()))
    arrays = (
        table[column.name].combine_chunks().flatten().to_numpy().reshape(-1, width)
        for table in rows.batches([column.name])
    )
    _write(archive, column.name, dtype, (count, width), arrays)


def _write_column(archive: zipfile.ZipFile, rows: Snapshot, name: str, count: int) -> None:
    type_ = rows.schema.field(name).type
    nulls, longest = 0, 1
    for column in _column(rows, name):
        nulls += column.null_count
        if pa.types.is_string(column.type):
            longest = max(longest, pc.max(pc.utf8_length(column)).as_py() or 0)
    dtype = _dtype(type_, longest)
    arrays = (_array(column, dtype) for column in _column(rows, name))
    _write(archive, name, dtype, (count,), arrays)
    if nulls:
        masks = (column.is_null().to_numpy(zero_copy_only=False) for column in _column(rows, name))
        _write(archive, name + _NULLS, np.dtype(bool), (count,), masks)


def _column(rows: Snapshot, name: str) -> Iterator[pa.Array]:
    """A column batch by batch; what NumPy has no type for, as text."""
    for table in rows.batches([name]):
        column = table[name].combine_chunks()
        type_ = column.type
        if _dtype(type_, 1).kind != "U":
            yield column
        elif pa.types.is_string(type_) or pa.types.is_large_string(type_):
            yield column.cast(pa.string())
        else:
            yield pa.array([as_text(value) for value in column.to_pylist()], pa.string())


def _dtype(type_: pa.DataType, longest: int) -> np.dtype[np.generic]:
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_):
        return np.dtype(_EPOCH)
    if pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return np.dtype(cast(npt.DTypeLike, type_.to_pandas_dtype()))
    return np.dtype(f"<U{longest}")


def _array(column: pa.Array, dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    if dtype.kind == "M":
        numbers = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        times: npt.NDArray[np.int64] = numbers.fill_null(np.iinfo(np.int64).min).to_numpy()
        return times.astype(_EPOCH)  # the lowest number is NaT
    if dtype.kind == "f":
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype)
    filled = column.fill_null({"U": "", "b": False}.get(dtype.kind, 0))
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype)


def _write(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[np.generic],
    shape: tuple[int, ...],
    arrays: Iterator[npt.NDArray[np.generic]],
) -> None:
    """Write one array of the archive piece by piece, in NumPy's format 2.0."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_2_0(member, header)
        for array in arrays:
            member.write(np.ascontiguousarray(array, dtype).tobytes())


def read_embeddings(file: Path) -> NpzRows:
    """Open a .npz: a matrix of floats (N, D), and arrays of N values that describe its rows.

    Raises
    ------
    ConfigError
        It cannot be read, has no embeddings, or has several and none with a usual name.
    """
    return NpzRows(file)


@dataclass(frozen=True)
class _Array:
    """An array of the file, by its header."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    by_columns: bool

    @property
    def is_matrix(self) -> bool:
        return len(self.shape) == 2 and self.dtype.kind == "f" and 0 not in self.shape

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class NpzRows:
    """The rows of a .npz, read some at a time; a matrix that is stored column by column is read as a whole."""

    model: str | None = None

    def __init__(self, file: Path) -> None:
        self._file = file
        self.files: list[Path] = []
        self.unreadable: list[UnreadableFile] = []
        with _opened(file) as archive:
            self._arrays = _headers(archive, file)
            card = _small(archive, CARD, self._arrays, file)
            types = _small(archive, SCHEMA, self._arrays, file)
        if card is not None:
            self._own(str(card), None if types is None else types.tobytes())
        else:
            self._theirs()

    def _own(self, card: str, types: bytes | None) -> None:
        """The columns of our own export, with the types that they had."""
        names = [name for name in self._arrays if name not in (CARD, SCHEMA) and not name.endswith(_NULLS)]
        self.rows = self._arrays["embedding"].shape[0] if "embedding" in names else 0
        known: dict[str, pa.DataType] = {}
        if types is not None:
            known = {field.name: field.type for field in pa.ipc.read_schema(pa.BufferReader(types))}
        else:  # exported before the types were kept
            try:
                told = {name: value for name, value in json.loads(card).items() if name != "format"}
                known = {field.name: field.type for field in image_fields(ModelCard(**told))} | {AT: TIME}
            except (ValueError, TypeError, AttributeError):
                pass  # who imports it says that the card is damaged
        fields = [pa.field(name, self._type(name, known.get(name))) for name in names]
        self.schema = pa.schema(fields, metadata={"birder": card})

    def _theirs(self) -> None:
        """The columns of somebody else's: what has as many rows as the embeddings."""
        matrices = {name: array for name, array in self._arrays.items() if array.is_matrix}
        usual = [name for each in EMBEDDINGS for name in matrices if name.lower() == each]
        lengths = {array.shape[0] for array in matrices.values()}
        if not matrices or (not usual and len(lengths) > 1):
            what = "no matrix of floats (N, D)" if not matrices else f"several ({listed(list(matrices), 12)})"
            raise ConfigError(
                f"{self._file} has {what}, so it does not tell which are the embeddings: call them embedding, as in "
                "numpy.savez(FILE, embedding=..., path=...)."
            )
        self.rows = matrices[usual[0]].shape[0] if usual else lengths.pop()
        kept: list[str] = []
        others: list[str] = []
        for name, array in self._arrays.items():
            fits = array.shape[:1] == (self.rows,) and (array.is_matrix or len(array.shape) == 1)
            (kept if fits and array.dtype.kind in "USbiufM" else others).append(name)
        if others:
            warnings.warn(
                f"{self._file}: {listed(others, 12)} {'is' if len(others) == 1 else 'are'} left out, for a column has "
                f"one value for each of the {counted(self.rows, 'row')}.",
                TableWarning,
                stacklevel=2,
            )
        self.schema = pa.schema([pa.field(name, self._type(name, None)) for name in kept])

    def _type(self, name: str, known: pa.DataType | None) -> pa.DataType:
        array = self._arrays[name]
        if len(array.shape) == 2:
            width = pa.from_numpy_dtype(_native(array.dtype))
            return pa.list_(width, array.shape[1])
        if known is not None and _comes_back(known):
            return known
        if array.dtype.kind == "M":
            return pa.timestamp("us")
        return pa.string() if array.dtype.kind in "US" else pa.from_numpy_dtype(_native(array.dtype))

    def batches(self, rows_at_once: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, some at a time.

        Raises
        ------
        ConfigError
            The file is damaged.
        """
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        nulls = [name + _NULLS for name in schema.names if name + _NULLS in self._arrays]
        longest = max((self._arrays[name].row_bytes for name in schema.names), default=1)
        step = max(1, min(rows_at_once, _MOST // max(longest, 1)))
        with _opened(self._file) as archive, ExitStack() as members:
            try:
                readers = {
                    name: _Reader(members.enter_context(archive.open(f"{name}.npy")), self._arrays[name])
                    for name in [*schema.names, *nulls]
                }
                for start in range(0, self.rows, step):
                    count = min(step, self.rows - start)
                    read = {name: reader.read(count) for name, reader in readers.items()}
                    arrays = [_arrow(read[field.name], read.get(field.name + _NULLS), field.type) for field in schema]
                    yield pa.table(arrays, schema=schema)
            except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
                raise ConfigError(f"{self._file} is damaged: {error}. The rows before that are imported.") from error


class _Reader:
    """Reads the rows of one array, one block after the other."""

    def __init__(self, member: IO[bytes], array: _Array) -> None:
        self._array = array
        self._member = member
        self._whole: npt.NDArray[np.generic] | None = None
        self._done = 0
        if array.by_columns:
            self._whole = np.lib.format.read_array(member, allow_pickle=False)
        else:
            _header(member)

    def read(self, count: int) -> npt.NDArray[np.generic]:
        """The next rows."""
        self._done += count
        if self._whole is not None:
            return self._whole[self._done - count : self._done]
        data = self._member.read(count * self._array.row_bytes)
        if len(data) != count * self._array.row_bytes:
            raise EOFError("an array is shorter than it says")
        return np.frombuffer(data, self._array.dtype).reshape(count, *self._array.shape[1:])


def _opened(file: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"Cannot read {file}: {error}. It must be a file of NumPy arrays (.npz).") from error


def _headers(archive: zipfile.ZipFile, file: Path) -> dict[str, _Array]:
    """The arrays of the file by name; what has as many bytes as it says, and no Python objects."""
    arrays = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            continue
        name = info.filename.removesuffix(".npy")
        try:
            with archive.open(info) as member:
                array = _header(member)
        except (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
            raise ConfigError(f"Cannot read the array {name} of {file}: {error}.") from error
        if array.dtype.hasobject:
            raise ConfigError(
                f"The array {name} of {file} holds Python objects, which can run code when they are read: Birder "
                f"reads no pickles. Save it as text instead, with {name}.astype(str)."
            )
        if math.prod(array.shape) * array.dtype.itemsize > info.file_size:
            raise ConfigError(f"The array {name} of {file} is shorter than it says: the file is damaged.")
        arrays[name] = array
    return arrays


def _header(member: IO[bytes]) -> _Array:
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"its format {version} is not known")
    shape, by_columns, dtype = read(member)
    return _Array(dtype, shape, bool(by_columns) and len(shape) > 1)


def _small(
    archive: zipfile.ZipFile, name: str, arrays: dict[str, _Array], file: Path
) -> npt.NDArray[np.generic] | None:
    """An array of our own about the file; None if it has none."""
    if name not in arrays:
        return None
    try:
        if archive.getinfo(f"{name}.npy").file_size > _MOST:
            raise ValueError("it is too large")
        with archive.open(f"{name}.npy") as member:
            return np.asarray(np.lib.format.read_array(member, allow_pickle=False))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"Cannot read the array {name} of {file}: {error}.") from error


def _native(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """The type in this machine's byte order, as Arrow has it."""
    return np.dtype(np.float64) if dtype.kind == "f" and dtype.itemsize > 8 else dtype.newbyteorder("=")


def _comes_back(type_: pa.DataType) -> bool:
    """Whether a type is made again from what `export` writes; others stay texts."""
    if pa.types.is_nested(type_):
        return _is_plain(type_)
    return not (pa.types.is_decimal(type_) or pa.types.is_time(type_) or pa.types.is_duration(type_))


def _is_plain(type_: pa.DataType) -> bool:
    """Whether JSON has all that a value of this type has."""
    if pa.types.is_struct(type_):
        return all(_is_plain(each.type) for each in type_)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return _is_plain(type_.value_type)
    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string)
    return any(each(type_) for each in plain)


def _arrow(values: npt.NDArray[Any], nulls: npt.NDArray[Any] | None, type_: pa.DataType) -> pa.Array:
    """Rows of an array as a column; `nulls` marks those without a value."""
    if values.ndim == 2:
        flat = np.ascontiguousarray(values, type_.value_type.to_pandas_dtype()).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), type_.list_size)
    mask = None if nulls is None else nulls.astype(bool)
    if values.dtype.kind == "M":
        micros = values.astype(_EPOCH)
        gone = np.isnat(micros) if mask is None else mask | np.isnat(micros)
        if pa.types.is_date(type_):
            return pa.array(micros.astype("datetime64[D]"), mask=gone).cast(type_)
        zone = type_.tz if pa.types.is_timestamp(type_) else None
        return pa.array(micros.astype(np.int64), pa.int64(), mask=gone).cast(pa.timestamp("us", zone)).cast(type_)
    if values.dtype.kind in "US":
        texts = np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values
        found = [None if gone else text for text, gone in zip(texts.tolist(), _marks(mask, len(texts)), strict=True)]
        return pa.array([_value(text, type_) for text in found], type_)
    return pa.array(values.astype(_native(values.dtype), copy=False), mask=mask).cast(type_)


def _marks(mask: npt.NDArray[np.bool_] | None, count: int) -> list[bool]:
    return [False] * count if mask is None else mask.tolist()


def _value(text: str | None, type_: pa.DataType) -> Any:
    """The value that `as_text` wrote."""
    if text is None or pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return text
    return json.loads(text) if pa.types.is_nested(type_) else base64.b64decode(text)
