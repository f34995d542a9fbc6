"""How a file of embeddings by another tool is laid out: the role of each column, and its name in the collection."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.storage import USERS
from birder.errors import ConfigError, listed, unknown_name
from birder.formats.embeddings import EmbeddingFile
from birder.sources import RESERVED

EMBEDDINGS = ("embedding", "emb", "embeddings", "vector", "vectors", "features", "feature", "image_features")
ADDRESSES = (
    "uri",
    "url",
    "image_url",
    "img_url",
    "identifier",
    "file_path",
    "filepath",
    "path",
    "file_name",
    "filename",
    "image_path",
    "file",
    "image",
    "paths",
    "files",
    "file_names",
    "filenames",
    "image_paths",
    "sample",
)
IDENTITIES = ("uuid", "id")
_ROWS_TO_LOOK_AT = 4096


@dataclass(frozen=True)
class Layout:
    """Which column is what.

    Attributes
    ----------
    embedding
        The column of embeddings.
    size
        The embedding dimension.
    address
        The column with the images' locations, if any; they may be null.
    identity
        The column of identifiers for rows, if any.
    kept
        Columns that go into the collection: their name in the file -> their name and Arrow type there.
    """

    embedding: str
    size: int
    address: str | None
    identity: str | None
    kept: dict[str, tuple[str, pa.DataType]]


def find_layout(file: EmbeddingFile, name: Path, *, embedding: str | None, uri: str | None) -> Layout:
    """Find the role of each column; `embedding` and `uri` name columns that need not be guessed.

    Raises
    ------
    ConfigError
        No column has embeddings, or several do and none has a usual name.
    UnknownNameError
        A named column does not exist.
    """
    schema = file.schema
    for named in (embedding, uri):
        if named is not None and named not in schema.names:
            raise unknown_name("column", named, schema.names)
    if doubled := [each for each, count in Counter(schema.names).items() if count > 1]:
        raise ConfigError(f"{name} has several columns named {doubled[0]}. Rename all but one.")
    embedding = embedding or _embedding_column(schema, name)
    if not is_list_of_floats(schema.field(embedding).type):
        raise ConfigError(
            f"The column {embedding} of {name} has the type {schema.field(embedding).type}, not lists of floats. "
            "Name another one with --embedding."
        )
    address = uri or next((each for each in ADDRESSES if each in schema.names and _is_text(schema, each)), None)
    identity = next((each for each in IDENTITIES if each in schema.names and _is_text(schema, each)), None)
    size = _size(file, embedding, name)
    return Layout(embedding, size, address, identity, _kept(schema, embedding))


def _embedding_column(schema: pa.Schema, name: Path) -> str:
    found: list[str] = [column.name for column in schema if is_list_of_floats(column.type)]
    usual = [column for each in EMBEDDINGS for column in found if column.lower() == each]
    if usual:
        return usual[0]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{name} has several lists of floats ({', '.join(found)}). Choose one with --embedding.")
    raise ConfigError(
        f"{name} has no column of embeddings (lists of floats, or a column for each dimension), only "
        f"{listed(schema.names, 12)}."
    )


def is_list_of_floats(type_: pa.DataType) -> bool:
    """Whether a column may hold embeddings."""
    lists = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    return bool(lists and pa.types.is_floating(type_.value_type))


def _is_text(schema: pa.Schema, name: str) -> bool:
    type_ = schema.field(name).type
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _size(file: EmbeddingFile, embedding: str, name: Path) -> int:
    """The dimension that most of the first embeddings have."""
    type_ = file.schema.field(embedding).type
    if pa.types.is_fixed_size_list(type_):
        return int(type_.list_size)
    for table in file.batches(_ROWS_TO_LOOK_AT, columns=[embedding]):
        lengths = pc.list_value_length(table[embedding]).drop_null()
        if counted := Counter(length for length in lengths.to_pylist() if length > 0):
            return int(counted.most_common(1)[0][0])
    raise ConfigError(f"{name} has no embeddings in its column {embedding}. Name another one with --embedding.")


def _kept(schema: pa.Schema, embedding: str) -> dict[str, tuple[str, pa.DataType]]:
    kept: dict[str, tuple[str, pa.DataType]] = {}
    taken = {*schema.names, *RESERVED, *USERS}
    for column in schema:
        name, type_ = column.name, _storable(column.type)
        if name == embedding or name.startswith("__index_level_"):  # pandas' index
            continue
        own = USERS.get(name)
        if own is not None and (pa.types.is_null(column.type) or _goes_into(type_, own)):
            kept[name] = (name, own)
        elif name in RESERVED or name.startswith("_") or own is not None:
            kept[name] = (_free_name(name, taken), type_)
        else:
            kept[name] = (name, type_)
    return kept


def _storable(type_: pa.DataType) -> pa.DataType:
    """The type as a collection keeps it: as it is, but categories as their values and a column of nulls as texts."""
    if pa.types.is_dictionary(type_):
        return _storable(type_.value_type)
    return pa.string() if pa.types.is_null(type_) else type_


def _goes_into(given: pa.DataType, own: pa.DataType) -> bool:
    if pa.types.is_string(own):
        return bool(pa.types.is_string(given) or pa.types.is_large_string(given))
    if pa.types.is_floating(own):
        return bool(pa.types.is_integer(given) or pa.types.is_floating(given))
    return bool(pa.types.is_timestamp(given) and given.tz is None)


def _free_name(name: str, taken: set[str]) -> str:
    """source_NAME, as other columns that clash with Birder's own are named."""
    wanted = free = "source_" + name.strip("_")
    number = 1
    while free in taken:
        number += 1
        free = f"{wanted}_{number}"
    taken.add(free)
    return free
