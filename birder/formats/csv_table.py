"""CSV: a collection without its embeddings; and embeddings by other tools, read.

Embeddings in a CSV are a column for each dimension (see `birder.formats.wide`), or one of lists: `[0.1, 0.2]`, as
pandas writes them, or numbers with spaces between them.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from birder.collection.schema import VECTORS
from birder.collection.storage import Storage
from birder.errors import ConfigError, listed
from birder.files import replacing
from birder.formats.embeddings import UnreadableFile
from birder.formats.layout import EMBEDDINGS
from birder.formats.snapshot import Snapshot, as_text
from birder.formats.table import ExportReport
from birder.formats.wide import dimensions
from birder.sources.darwin_core import DARWIN_CORE
from birder.sources.lines import csv_lines
from birder.sources.table import delimiter_of, typed, with_points
from birder.words import counted

_BLOCK = 64 * 2**20
"""Bytes that are read at once."""
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf|-inf"
_LIST = re.compile(rf"\s*\[?\s*(?:{_NUMBER})(?:[\s,;]+(?:{_NUMBER}))+\s*\]?\s*", re.IGNORECASE | re.ASCII)
_CUT = re.compile(r"\[[^\]]*\.\.\.[^\]]*\]")


def export(collection: Storage, rows: Snapshot, to: Path, *, force: bool) -> ExportReport:
    """Write all columns but the vectors: times as ISO 8601, null as nothing, lists as JSON, bytes as base64."""
    names = [name for name in rows.schema.names if name not in VECTORS]
    schema = pa.schema([pa.field(name, _csv_type(rows.schema.field(name).type)) for name in names])
    count = 0
    options = pyarrow.csv.WriteOptions(quoting_header="needed")
    with replacing(to, force=force) as draft, pyarrow.csv.CSVWriter(draft, schema, write_options=options) as writer:
        for table in rows.batches(names):
            writer.write_table(pa.table([_plain(column) for column in table.columns], schema=schema))
            count += table.num_rows
    return ExportReport(f"{counted(count, 'row')} in {to}.")


def _csv_type(type_: pa.DataType) -> pa.DataType:
    plain = pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_floating(type_)
    return type_ if plain else pa.string()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    type_ = _csv_type(column.type)
    if type_ == column.type:
        return column
    return pa.chunked_array([[as_text(value) for value in column.to_pylist()]], type_)


def recognizes(file: Path) -> bool:
    """Whether a CSV has embeddings."""
    if not file.is_file():
        return False
    form = _Form(file)
    return bool(dimensions(form.header) or form.lists)


def read_embeddings(file: Path, embedding: str | None = None) -> CsvRows:
    """Open a CSV of embeddings; `embedding` names their column, or what their columns have in front of their number.

    Raises
    ------
    ConfigError
        It cannot be read, or has no embeddings.
    """
    return CsvRows(file, embedding)


class _Form:
    """How a CSV is written: its encoding, what separates its columns, their names, and those of lists of numbers."""

    def __init__(self, file: Path) -> None:
        try:
            self.encoding = _encoding(file)
            self.delimiter = delimiter_of(str(file), self.encoding)
            lines = list(islice(csv_lines(str(file), delimiter=self.delimiter, encoding=self.encoding), 2))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"Cannot read {file}: {error}. It must be a CSV file.") from error
        self.header = lines[0] if lines else []
        self.index = self.header[:1] == [""]
        first = dict(zip(self.header, lines[1], strict=False)) if len(lines) > 1 else {}
        if cut := next((name for name, value in first.items() if _CUT.fullmatch(value.strip())), None):
            raise ConfigError(
                f"The lists in the column {cut} of {file} are cut short: NumPy has written ... for most of their "
                "numbers. Write the embeddings as .npy, as Parquet, or with a column for each dimension."
            )
        self.lists = [
            name
            for name, value in first.items()
            if _LIST.fullmatch(value) and (value.strip().startswith("[") or name.strip().lower() in EMBEDDINGS)
        ]


class CsvRows:
    """A CSV of embeddings: these are read some rows at a time, all other columns at once."""

    model: str | None = None

    def __init__(self, file: Path, embedding: str | None) -> None:
        self._file = file
        self._form = form = _Form(file)
        self.files: list[Path] = []
        self.unreadable: list[UnreadableFile] = []
        numbered = [] if embedding in form.lists else dimensions(form.header, embedding)
        if not (numbered or form.lists):
            raise ConfigError(
                f"{file} has no embeddings: a column for each dimension, or one of lists of numbers. It has: "
                f"{listed(form.header, 12)}."
            )
        names = {given: DARWIN_CORE.get(clean := re.sub(r"\W", "_", given.strip()), clean) for given in form.header}
        if form.index:  # of a data frame, which has no name
            del names[""]
        if "" in names.values() or len(set(names.values())) < len(form.header) - form.index:
            raise ConfigError(f"{file} needs a distinct name for each column, not: {listed(form.header, 12)}.")
        self._numbers = {given: names[given] for given in numbered}
        self._lists = {given: names[given] for given in form.lists}
        self._others = self._described([each for each in names if each not in {*numbered, *form.lists}], names)
        self.rows = self._others.num_rows if self._others.num_columns else -1
        fields = [*self._others.schema]
        fields += [pa.field(name, pa.float64()) for name in self._numbers.values()]
        fields += [pa.field(name, pa.list_(pa.float64())) for name in self._lists.values()]
        self.schema = pa.schema(fields)
        if self.rows < 0:
            self.rows = sum(table.num_rows for table in self.batches(1 << 30))

    def _described(self, given: list[str], names: dict[str, str]) -> pa.Table:
        """The columns that are not embeddings, with the type that all of their values have."""
        if not given:
            return pa.table({})
        texts = {each: pa.string() for each in given}
        try:
            table = pa.Table.from_batches(self._read(texts))
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"Cannot read {self._file}: {error}.") from error
        arrays = {}
        for each in given:
            values = [(value or "").strip() for value in table[each].to_pylist()]
            array = pa.array(typed(with_points(values) if self._form.delimiter == ";" else values))
            arrays[names[each]] = array.cast(pa.string()) if pa.types.is_null(array.type) else array
        return pa.table(arrays)

    def _read(self, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """The columns of these types, some rows at a time."""
        points = {"decimal_point": ","} if self._form.delimiter == ";" and self._has_commas() else {}
        reader = pyarrow.csv.open_csv(
            self._file,
            pyarrow.csv.ReadOptions(block_size=_BLOCK, encoding=self._form.encoding.removesuffix("-sig")),
            pyarrow.csv.ParseOptions(delimiter=self._form.delimiter, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(include_columns=list(types), column_types=types, **points),
        )
        with reader:
            yield from reader

    def _has_commas(self) -> bool:
        """Whether the comma is the decimal point."""
        first = next(islice(csv_lines(str(self._file), delimiter=";", encoding=self._form.encoding), 1, 2), [])
        return any(re.fullmatch(r"-?\d+,\d+", value) for value in first)

    def batches(self, rows_at_once: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, some at a time."""
        names = self.schema.names if columns is None else list(columns)
        types = {given: pa.float64() for given, name in self._numbers.items() if name in names}
        types |= {given: pa.string() for given, name in self._lists.items() if name in names}
        if not types:
            for start in range(0, self._others.num_rows, rows_at_once):
                yield self._others.select(names).slice(start, rows_at_once)
            return
        done = 0
        for batch in self._read(types):
            table = pa.Table.from_batches([batch])
            arrays = {self._numbers[each]: table[each] for each in types if each in self._numbers}
            arrays |= {self._lists[each]: _vectors(table[each]) for each in types if each in self._lists}
            here = self._others.slice(done, table.num_rows)
            arrays |= {name: here[name] for name in here.column_names}
            done += table.num_rows
            whole = pa.table([arrays[name] for name in names], names=names)
            for start in range(0, whole.num_rows, rows_at_once):
                yield whole.slice(start, rows_at_once)


def _encoding(file: Path) -> str:
    """UTF-8, or Windows-1252 for what is not."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with file.open("rb") as opened:
        try:
            while block := opened.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


def _vectors(texts: pa.ChunkedArray) -> pa.Array:
    """Lists of numbers; null where a text is none."""
    return pa.array(
        [
            [float(number) for number in re.split(r"[\s,;]+", text.strip().strip("[]").strip())]
            if text and _LIST.fullmatch(text)
            else None
            for text in texts.to_pylist()
        ],
        pa.list_(pa.float64()),
    )
