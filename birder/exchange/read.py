"""Import: embeddings that others made, or that `birder export` wrote, from a Parquet file into a collection."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from birder.collection.disk import open_images, storing
from birder.collection.rows import IMPORTED, image_fields
from birder.collection.store import Collection, Failure, ModelCard, Stamp, exists
from birder.collection.vector_index import ensure_index
from birder.errors import CollectionError, ConfigError
from birder.exchange.keys import Keys
from birder.exchange.layout import Layout, find_layout
from birder.exchange.snapshot import ROWS_AT_ONCE, rows_at_once

_CARD = b"birder"


@dataclass
class Imported:
    """What an import did: rows that are new, changed, there already, and that failed."""

    collection: Collection
    new: int = 0
    changed: int = 0
    there: int = 0
    failed: int = 0


@dataclass(frozen=True)
class _Batch:
    """Rows as the collection has them, those that failed, and whether these came with columns of their own."""

    rows: pa.Table
    failures: list[Failure]


def import_embeddings(
    file: str | Path,
    to: str | Path,
    *,
    model: str | None = None,
    embedding: str | None = None,
    uri: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Bring a Parquet file of embeddings into a collection, batch by batch; what is there already is left alone.

    Rows get `id` and `uri` as all rows do (see `Keys`), `sha256` of the embedding's bytes, as there is no photograph,
    and in `etag` a digest of all their values, by which a row that changed is noticed. All other columns stay, with
    their types; those with a name of Birder's own are called source_NAME. A file that `birder export` wrote comes back
    as it was.

    Parameters
    ----------
    file
        Parquet; embeddings are lists of floats, kept as float32.
    to
        The collection's folder, made if it is not there.
    model
        What made the embeddings; not needed for files of `birder export`, and for a collection that has them already.
    embedding
        Their column; without it, the one with a usual name.
    uri
        The column that says where each photograph is; without it, the one with a usual name.
    on_progress
        Called with the rows read so far and their number.

    Raises
    ------
    ConfigError
        The file cannot be read or has no embeddings, or the model is not named.
    CollectionError
        The collection belongs to another model, or its columns have other types.
    """
    file, to = Path(file), Path(to)
    try:
        # A buffered stream: without it, a whole row group's column is held in memory.
        opened = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"Cannot read {file}: {error}. It must be a Parquet file.") from error
    with opened:
        card = _own_card(opened, file)
        if card is not None:
            if model is not None and model not in (card.name, card.source):
                raise ConfigError(f"{file} was exported with its model's name, {card.name}: leave out --model {model}.")
            _check_own(opened.schema_arrow, card, file)
            collection = Collection.create_or_open(to, card)
            types = {column.name: column.type for column in opened.schema_arrow}
            batches = _own_batches(opened)
        else:
            layout = find_layout(opened, file, embedding=embedding, uri=uri)
            collection = Collection.create_or_open(to, _card_for(model, layout.size, to))
            types = {name: type_ for name, type_ in layout.kept.values() if name not in collection.columns}
            collection.check_columns(dict(layout.kept.values()))
            batches = _foreign_batches(opened, layout, file)
        try:
            return _write(collection, types, batches, opened.metadata.num_rows, on_progress)
        except pa.ArrowException as error:
            raise ConfigError(f"Cannot read {file}: {error}. Rows up to there are in {to}.") from error


def imported_card(model: str, embedding_size: int) -> ModelCard:
    """The card of embeddings that others made: its sha256 is that of the model's name, as there are no weights."""
    digest = hashlib.sha256(f"birder import\0{model}".encode()).hexdigest()
    return ModelCard(model, model, digest, {"draft": False}, IMPORTED, "fp32", embedding_size)


def _card_for(model: str | None, size: int, to: Path) -> ModelCard:
    if model is None:
        there = Collection.open(to).model if exists(to) else None
        if there is None or there.engine != IMPORTED:
            raise ConfigError("Which model made these embeddings? Name it, as in: --model imageomics/bioclip-2")
        model = there.name
    return imported_card(model, size)


def _own_card(file: pq.ParquetFile, name: Path) -> ModelCard | None:
    stored = (file.schema_arrow.metadata or {}).get(_CARD)
    if stored is None:
        return None
    try:
        card: dict[str, Any] = json.loads(stored)
        if card.pop("format") != 1:
            raise ConfigError(f"{name} was written by a newer Birder: update with pip.")
        return ModelCard(**card)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"The model's card in {name} is damaged ({error}): export the collection again.") from error


def _check_own(schema: pa.Schema, card: ModelCard, name: Path) -> None:
    for column in image_fields(card):
        if column.name not in schema.names or schema.field(column.name).type != column.type:
            raise ConfigError(
                f"{name} says that it is an export of Birder's, but has no column {column.name} of the type "
                f"{column.type}: something has rewritten it. Export the collection again."
            )


def _own_batches(file: pq.ParquetFile) -> Iterator[_Batch]:
    for batch in file.iter_batches(rows_at_once(file.schema_arrow)):
        yield _Batch(pa.Table.from_batches([batch]), [])


def _foreign_batches(file: pq.ParquetFile, layout: Layout, name: Path) -> Iterator[_Batch]:
    keys = Keys(name.absolute().parent)
    for batch in file.iter_batches(ROWS_AT_ONCE):
        table = pa.Table.from_batches([batch])
        columns = {ours: table[theirs].cast(type_) for theirs, (ours, type_) in layout.kept.items()}
        column = table[layout.embedding].combine_chunks()
        vectors, reasons = _vectors(column, layout.size)
        shas = [hashlib.sha256(vector).hexdigest() for vector in vectors]
        digests = _digests(shas, columns)
        addresses = table[layout.address].to_pylist() if layout.address else [None] * len(shas)
        identities = table[layout.identity].to_pylist() if layout.identity else [None] * len(shas)
        uris = [keys.uri(*each) for each in zip(map(_text, addresses), map(_text, identities), digests, strict=True)]
        good = np.array([reason is None for reason in reasons])
        mask = pa.array(good)
        own = {
            "id": pa.array([str(uuid.uuid5(uuid.NAMESPACE_URL, each)) for each in uris]).filter(mask),
            "uri": pa.array(uris).filter(mask),
            "sha256": pa.array(shas).filter(mask),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors[good].reshape(-1)), layout.size),
            "etag": pa.array(digests).filter(mask),
        }
        failures = [
            Failure(uri, f"Its embedding {reason}", Stamp(None, None, digest))
            for uri, reason, digest in zip(uris, reasons, digests, strict=True)
            if reason is not None
        ]
        yield _Batch(pa.table(own | {ours: values.filter(mask) for ours, values in columns.items()}), failures)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _vectors(column: pa.Array, size: int) -> tuple[npt.NDArray[np.float32], list[str | None]]:
    """Embeddings (B, size) float32, zeros where there is none, and for each row what is wrong with it."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), -1))
    fits = lengths == size
    vectors = np.zeros((len(column), size), np.float32)
    if fits.any():
        given = column.filter(pa.array(fits)).flatten()
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is told below
            vectors[fits] = given.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(-1, size)
    finite = np.asarray(np.isfinite(vectors).all(axis=1))
    reasons = [
        "is missing"
        if length < 0
        else f"has {length} numbers, not {size}"
        if length != size
        else None
        if whole
        else "has a number that is not finite"
        for length, whole in zip(lengths.tolist(), finite.tolist(), strict=True)
    ]
    return vectors, reasons


def _digests(shas: list[str], columns: dict[str, pa.ChunkedArray]) -> list[str]:
    """A digest of each row's values."""
    values = [column.to_pylist() for column in columns.values()]
    names = "\0".join(columns)
    return [
        hashlib.blake2b(repr((names, sha, row)).encode("utf-8", "replace"), digest_size=16).hexdigest()
        for sha, row in zip(shas, zip(*values, strict=True) if values else [()] * len(shas), strict=True)
    ]


def _write(
    collection: Collection,
    types: dict[str, pa.DataType],
    batches: Iterator[_Batch],
    total: int,
    on_progress: Callable[[int, int], None] | None,
) -> Imported:
    done = Imported(collection)
    read = overcome = 0
    with collection.running(), collection.writing():
        there = collection.columns
        new = [pa.field(name, type_) for name, type_ in types.items() if name not in there]
        images = open_images(collection.path)
        with storing(collection.path):
            if new:
                images.add_columns(pa.schema(new))
        collection.see_latest()
        for name, type_ in types.items():
            if collection.columns[name] != type_:
                raise CollectionError(
                    f"The column {name} is {collection.columns[name]} in {collection.path}, but {type_} in the file. "
                    "Import it into another folder."
                )
        index = collection.index()
        for batch in batches:
            stamps = _stamps(batch.rows)
            uris = batch.rows["uri"].to_pylist()
            known = np.array([uri in index.rows for uri in uris], bool)
            same = np.array([index.rows.get(uri) == stamp for uri, stamp in zip(uris, stamps, strict=True)], bool)
            failures = [each for each in batch.failures if index.failures.get(each.uri) != each.stamp]
            for failure in failures:
                failure.known = failure.uri in index.rows
            with storing(collection.path):
                if not known.all():
                    images.add(_in_order(batch.rows.filter(pa.array(~known)), images.schema))
                if (known & ~same).any():
                    changed = batch.rows.filter(pa.array(known & ~same))
                    images.merge_insert("uri").when_matched_update_all().execute(changed)
            if failures:
                collection.see_latest()
                collection.write([], failures)
                images = open_images(collection.path)
            read += len(uris) + len(batch.failures)
            done.new += int((~known).sum())
            done.changed += int((known & ~same).sum())
            done.there += int((known & same).sum())
            done.failed += len(batch.failures)
            overcome += sum(uri in index.failures for uri in uris)
            if on_progress is not None:
                on_progress(read, total)
        collection.see_latest()
        if done.new or done.changed:
            collection.compact()
            ensure_index(collection)
    if overcome:
        with collection.running():  # which begins by removing failures that have become rows
            pass
    return done


def _stamps(rows: pa.Table) -> list[Stamp]:
    """By what rows are known again: their stamps, as the collection's index has them."""
    empty = pa.nulls(rows.num_rows, pa.int64())
    columns = [
        (rows[name].cast(pa.int64()) if name != "etag" else rows[name]) if name in rows.column_names else empty
        for name in Stamp._fields
    ]
    return [Stamp(*values) for values in zip(*(column.to_pylist() for column in columns), strict=True)]


def _in_order(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with all columns of the collection, null where they have none."""
    columns = [
        rows[column.name].cast(column.type)
        if column.name in rows.column_names
        else pa.nulls(rows.num_rows, column.type)
        for column in schema
    ]
    return pa.table(columns, schema=schema)
