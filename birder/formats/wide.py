"""Tables with a column for each dimension, `emb_0, emb_1, ...`, as tables with a list."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from birder.formats.embeddings import EmbeddingFile
from birder.formats.layout import EMBEDDINGS, is_list_of_floats

_USUAL = ("", *EMBEDDINGS, "dim", "dimension", "feat", "e", "f", "d", "v", "x", "z")
"""What the columns may be called in front of their number, however few they are."""
_LEAST = 16
"""How many columns with another name are dimensions."""


def dimensions(names: Sequence[str], named: str | None = None) -> list[str]:
    """The columns that are the dimensions of an embedding, in the order of their numbers; none if there are none.

    They have one name and the numbers from 0 or 1 on. Of several such series the longest is taken; those with an
    unusual name count from 16 columns on.

    Parameters
    ----------
    names
        The names of columns of numbers.
    named
        What the user calls the series: what its columns have in front of their number, with or without _ or -.
    """
    series: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        if match := re.fullmatch(r"(.*?)(\d{1,6})", name.strip(), re.ASCII | re.DOTALL):
            series[match[1]].append((int(match[2]), name))
    found: list[str] = []
    for prefix, columns in series.items():
        numbers = sorted(number for number, _ in columns)
        whole = len(numbers) > 1 and numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
        meant = len(numbers) >= _LEAST or name_of(prefix).lower() in _USUAL
        if named is not None:
            meant = named in (prefix, name_of(prefix))
        if whole and meant and len(columns) > len(found):
            found = [name for _, name in sorted(columns)]
    return found


def name_of(prefix: str) -> str:
    """What a series is called: the beginning of its columns without _, -, . or spaces behind it."""
    return prefix.rstrip("_-. ")


def as_lists(file: EmbeddingFile, named: str | None = None) -> EmbeddingFile:
    """A file as it is, or with its dimensions as a list where no column of lists is named or there.

    `named` is what the user calls the embeddings.
    """
    lists = [each.name for each in file.schema if is_list_of_floats(each.type)]
    if named in file.schema.names or (named is None and lists):
        return file
    numbers = [each.name for each in file.schema if pa.types.is_floating(each.type) or pa.types.is_integer(each.type)]
    columns = dimensions(numbers, named)
    return Wide(file, columns) if columns else file


class Wide:
    """A file whose columns for dimensions are one list; `vectors` is its name."""

    def __init__(self, file: EmbeddingFile, columns: Sequence[str]) -> None:
        self._file = file
        self._columns = list(columns)
        self.rows, self.files, self.unreadable, self.model = file.rows, file.files, file.unreadable, file.model
        others = [each for each in file.schema if each.name not in set(columns)]
        taken = {each.name for each in others}
        name = name_of(re.sub(r"\d+$", "", columns[0].strip())) or "embedding"
        while name in taken:
            name += "_"
        self.vectors = name
        self.schema = pa.schema(
            [*others, pa.field(name, pa.list_(pa.float32(), len(columns)))], metadata=file.schema.metadata
        )

    def batches(self, rows_at_once: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, some at a time; a row without any of the numbers has no embedding."""
        names = self.schema.names if columns is None else list(columns)
        others = [name for name in names if name != self.vectors]
        for table in self._file.batches(rows_at_once, others + (self._columns if self.vectors in names else [])):
            arrays = {name: table[name] for name in others}
            if self.vectors in names:
                arrays[self.vectors] = self._lists(table)
            yield pa.table([arrays[name] for name in names], names=names)

    def _lists(self, table: pa.Table) -> pa.Array:
        vectors = np.empty((table.num_rows, len(self._columns)), np.float32)
        missing = np.ones(table.num_rows, bool)
        with np.errstate(over="ignore"):  # becomes infinite, and is reported as that
            for number, name in enumerate(self._columns):
                column = table[name]
                missing &= column.is_null().to_numpy()
                vectors[:, number] = column.cast(pa.float64()).to_numpy()  # null is NaN
        values = pa.array(vectors.reshape(-1))
        return pa.FixedSizeListArray.from_arrays(values, len(self._columns), mask=pa.array(missing))
