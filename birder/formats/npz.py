"""Collections as NumPy's .npz: the embeddings and every column as an array, without pickle, in bounded memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.schema import VECTORS
from birder.collection.storage import Storage
from birder.files import replacing
from birder.formats.snapshot import Snapshot, as_text
from birder.formats.table import ExportReport
from birder.words import counted

CARD = "birder.model"
_EPOCH = "datetime64[us]"


def export(collection: Storage, rows: Snapshot, to: Path, *, force: bool) -> ExportReport:
    """Write `embedding` (N, D) float32 and each column as an array (N,); `np.load` reads them without pickle.

    Texts are Unicode strings, times datetime64[us] (UTC where the column has a zone). Where a column has nulls, the
    array has "", 0, False, NaN or NaT there, and NAME.is_null (N,) bool marks them. `birder.model` is the model's card
    as JSON. Nested columns are JSON texts, bytes base64.
    """
    count = rows.count()
    with (
        replacing(to, force=force) as draft,
        zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        card = np.array((rows.schema.metadata or {}).get(b"birder", b"{}").decode())
        _write(archive, CARD, card.dtype, (), iter([card]))
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
        _write(archive, f"{name}.is_null", np.dtype(bool), (count,), masks)


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
