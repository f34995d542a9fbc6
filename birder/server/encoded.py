"""Columns in memory: texts that repeat are kept as numbers of a dictionary, and sorted and changed as such.

The species of a million rows take 4 MB instead of 20; sorting them sorts the few different texts; a label changes
numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.server.text_order import text_order

Positions = npt.NDArray[np.int64]
"""Rows, as numbers."""

_SAMPLE = 20_000
_WHOLE = "^(0|[1-9][0-9]{0,17})$"
_SHARE = 0.25  # of different texts among all, up to which a dictionary is worthwhile


def encoded(column: pa.Array) -> pa.Array:
    """A column in the form in which it is kept: a dictionary where its texts repeat, else as it is."""
    if not _is_text(column.type):
        return column
    for part in (column[:_SAMPLE], column):
        found = part.dictionary_encode()
        if len(found.dictionary) > _SHARE * len(part):
            return column
    return found


def decoded(column: pa.Array) -> pa.Array:
    """A column with its values themselves."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def value_type(type_: pa.DataType) -> pa.DataType:
    """The type of the values of a column, however it is kept."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def codes_of(column: pa.DictionaryArray) -> npt.NDArray[np.int32]:
    """The number of each row's text in the dictionary, -1 without one; a copy, which may be changed."""
    codes: npt.NDArray[np.int32] = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return codes


def counted(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The different values of a column without nulls, and how often each is there."""
    if pa.types.is_dictionary(column.type):
        counts = np.bincount(codes_of(column), minlength=len(column.dictionary))
        there = np.flatnonzero(counts)
        return column.dictionary.take(pa.array(there)), pa.array(counts[there])
    found = pc.value_counts(column)
    return found.field("values"), found.field("counts")


def replaced(column: pa.Array, positions: Positions, values: pa.Array) -> pa.Array:
    """A column of texts with other values in some rows.

    Parameters
    ----------
    column
        As it is kept; stays as it is.
    positions
        The rows, ascending, each once.
    values
        The new text of each, or null.
    """
    if not pa.types.is_dictionary(column.type):
        mask = np.zeros(len(column), np.bool_)
        mask[positions] = True
        return pc.replace_with_mask(column, pa.array(mask), values)
    new = values.cast(column.type.value_type).dictionary_encode()
    known = pc.index_in(new.dictionary, column.dictionary)
    missing = new.dictionary.filter(known.is_null())
    number = known.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    number[number < 0] = len(column.dictionary) + np.arange(len(missing), dtype=np.int32)
    codes = codes_of(column)
    codes[positions] = np.append(number, np.int32(-1))[codes_of(new)]
    dictionary = pa.concat_arrays([column.dictionary, missing])
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), dictionary)


def sorted_positions(column: pa.Array, *, descending: bool = False) -> Positions:
    """The rows in the order of a column's values; equal ones as they are, those without a value last.

    Texts are in the order of their bytes; if all of them are whole numbers (counts by people), in that of the numbers.
    """
    way = "descending" if descending else "ascending"
    if _is_text(value_type(column.type)):
        column = _with_numbers(column)
    if _is_text(column.type):
        return text_order(column, descending=descending)
    if not pa.types.is_dictionary(column.type):
        found: Positions = pc.array_sort_indices(column, order=way).to_numpy().astype(np.int64)
        return found
    count = len(column.dictionary)
    ranks = np.empty(count + 1, np.uint16 if count < 2**16 else np.uint32)  # of 16 bits, NumPy sorts without comparing
    ranks[pc.array_sort_indices(column.dictionary, order=way).to_numpy()] = np.arange(count)
    ranks[-1] = count
    return np.argsort(ranks[codes_of(column)], kind="stable")


def _with_numbers(column: pa.Array) -> pa.Array:
    """A column of texts with numbers in their place if all are whole numbers, else as it is."""
    if pa.types.is_dictionary(column.type):
        values = _with_numbers(column.dictionary)
        return column if values is column.dictionary else pa.DictionaryArray.from_arrays(column.indices, values)
    for part in (column[:_SAMPLE], column):
        if not pc.all(pc.match_substring_regex(part, _WHOLE), min_count=0).as_py():
            return column
    return column.cast(pa.int64())


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))
