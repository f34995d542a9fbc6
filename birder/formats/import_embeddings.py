"""Import: embeddings that other tools computed, or that `birder export` wrote, from files into a collection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.index import ensure_index
from birder.collection.places import read_places
from birder.collection.schema import IMPORTED, LABEL_SOURCE, image_fields
from birder.collection.storage import Failure, ModelCard, Stamp, Storage, exists
from birder.errors import CollectionError, ConfigError
from birder.formats.embeddings import EmbeddingFile, open_embeddings
from birder.formats.layout import Layout, find_layout
from birder.formats.row_uris import RowUris
from birder.formats.snapshot import ROWS_AT_ONCE, rows_at_once
from birder.formats.wide import Wide, as_lists
from birder.sources import path_to_uri, places_on_earth

_CARD = b"birder"


@dataclass
class EmbeddingsReport:
    """What an import did.

    Attributes
    ----------
    collection
        The collection.
    new, changed, unchanged, failed
        How many rows of the file are new, have changed, were there already, and have no usable embedding.
    off_earth
        How many had a latitude or longitude out of range, which is left empty.
    """

    collection: Storage
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    failed: int = 0
    off_earth: int = 0


@dataclass(frozen=True)
class _Batch:
    """Rows as the collection has them, rows that failed, and how many had a position that is not on the earth."""

    rows: pa.Table
    failures: list[Failure]
    off_earth: int = 0


def import_embeddings(
    file: str | Path,
    to: str | Path,
    *,
    model: str | None = None,
    embedding: str | None = None,
    uri: str | None = None,
    table: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> EmbeddingsReport:
    """Import a file of embeddings into a collection, batch by batch; rows that have not changed are left alone.

    Rows get `id` and `uri` as all rows do (see `RowUris`), `sha256` of the embedding's bytes, as there is no image, and
    in `etag` a digest of all their values, by which changed rows are recognised. All other columns stay, with their
    types; those with a name of Birder's own are named source_NAME. A file that `birder export` wrote comes back as it
    was.

    Parameters
    ----------
    file
        Parquet or a folder of it, or CSV, with embeddings as lists of floats or with a column for each dimension;
        NumPy's .npz or .npy; or the JSON of `bioclip embed`. They are kept as float32. A file of a folder that cannot
        be read is a failure.
    to
        The collection's folder; created if it does not exist.
    model
        What computed the embeddings; not needed for files that tell it (those of `birder export` and `bioclip embed`),
        and for a collection of such embeddings.
    embedding
        Their column, or what their columns have in front of their number (default: the one with a usual name).
    uri
        The column with the images' locations (default: the one with a usual name).
    table
        For an array: a CSV or Parquet file that describes its rows, in the same order.
    on_progress
        Called with the rows read so far and their number.

    Raises
    ------
    ConfigError
        The file cannot be read or has no embeddings, or the model is not given.
    CollectionError
        The collection belongs to another model, or its columns have other types.
    """
    file, to = Path(file), Path(to)
    opened = open_embeddings(file, None if table is None else Path(table), uri, embedding)
    card = _own_card(opened, file)
    if card is not None:
        if model is not None and model not in (card.name, card.source):
            raise ConfigError(
                f"{file} was exported with the name of its model, {card.name}. Leave out --model {model}."
            )
        _check_own(opened.schema, card, file)
        collection = Storage.create_or_open(to, card)
        types = {column.name: column.type for column in opened.schema}
        batches = _own_batches(opened)
    else:
        opened = as_lists(opened, embedding)
        if isinstance(opened, Wide):
            embedding = opened.vectors
        layout = find_layout(opened, file, embedding=embedding, uri=uri if table is None else None)
        collection = Storage.create_or_open(to, _card_for(_named(model, opened, file), layout.size, to))
        types = {name: type_ for name, type_ in layout.kept.values() if name not in collection.columns}
        collection.check_columns(dict(layout.kept.values()))
        batches = _foreign_batches(opened, layout, file, read_places(collection.path).original_id)
    try:
        return _write(collection, types, _with_unreadable(batches, opened), opened.rows, opened.files, on_progress)
    except pa.ArrowException as error:
        raise ConfigError(f"Cannot read {file}: {error}. The rows before the damage are in {to}.") from error


def _named(model: str | None, file: EmbeddingFile, name: Path) -> str | None:
    """The model that the user or the file names."""
    stated = file.model.removeprefix("hf-hub:") if file.model else None
    if model is not None and stated is not None and model.removeprefix("hf-hub:") != stated:
        raise ConfigError(f"{name} names {stated} as the model of its embeddings. Leave out --model {model}.")
    return model or stated


def _with_unreadable(batches: Iterator[_Batch], file: EmbeddingFile) -> Iterator[_Batch]:
    """The batches, and files that could not be read as failures."""
    yield from batches
    if file.unreadable:
        nothing = pa.table({"uri": pa.array([], pa.string())})
        yield _Batch(nothing, [Failure(path_to_uri(path), reason, stamp) for path, reason, stamp in file.unreadable])


def imported_card(model: str, embedding_size: int) -> ModelCard:
    """The card of embeddings by another tool: its sha256 is that of the model's name, as there are no weights."""
    digest = hashlib.sha256(f"birder import\0{model}".encode()).hexdigest()
    return ModelCard(model, model, digest, {"draft": False}, IMPORTED, "fp32", embedding_size)


def _card_for(model: str | None, size: int, to: Path) -> ModelCard:
    if model is None:
        there = Storage.open(to).model if exists(to) else None
        if there is None or there.engine != IMPORTED:
            raise ConfigError(
                "Which model computed these embeddings? Name it, for example: --model imageomics/bioclip-2"
            )
        model = there.name
    return imported_card(model, size)


def _own_card(file: EmbeddingFile, name: Path) -> ModelCard | None:
    stored = (file.schema.metadata or {}).get(_CARD)
    if stored is None:
        return None
    try:
        card: dict[str, Any] = json.loads(stored)
        if card.pop("format") != 1:
            raise ConfigError(f"{name} was written by a newer version of Birder. Upgrade Birder with pip.")
        return ModelCard(**card)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"The model's card in {name} is damaged ({error}). Export the collection again.") from error


def _check_own(schema: pa.Schema, card: ModelCard, name: Path) -> None:
    for column in image_fields(card):
        if column.name == LABEL_SOURCE and LABEL_SOURCE not in schema.names:  # exported before there was one
            continue
        if column.name not in schema.names or schema.field(column.name).type != column.type:
            raise ConfigError(
                f"{name} claims to be an export by Birder, but has no column {column.name} of the type {column.type}. "
                "Another program has rewritten it: export the collection again."
            )


def _own_batches(file: EmbeddingFile) -> Iterator[_Batch]:
    for table in file.batches(rows_at_once(file.schema)):
        yield _Batch(table, [])


def _foreign_batches(
    file: EmbeddingFile, layout: Layout, name: Path, original_id: Callable[[str], str]
) -> Iterator[_Batch]:
    row_uris = RowUris(name.absolute() if name.is_dir() else name.absolute().parent)
    for table in file.batches(ROWS_AT_ONCE):
        columns = {ours: table[theirs].cast(type_) for theirs, (ours, type_) in layout.kept.items()}
        places, off_earth = places_on_earth(pa.table(columns))
        columns = dict(zip(places.column_names, places.columns, strict=True))
        column = table[layout.embedding].combine_chunks()
        vectors, reasons = _vectors(column, layout.size)
        shas = [hashlib.sha256(vector).hexdigest() for vector in vectors]
        digests = _digests(shas, columns)
        addresses = table[layout.address].to_pylist() if layout.address else [None] * len(shas)
        identities = table[layout.identity].to_pylist() if layout.identity else [None] * len(shas)
        uris = [
            row_uris.uri(*each) for each in zip(map(_text, addresses), map(_text, identities), digests, strict=True)
        ]
        good = np.array([reason is None for reason in reasons])
        mask = pa.array(good)
        own = {
            "id": pa.array([original_id(each) for each in uris]).filter(mask),
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
        rows = pa.table(own | {ours: values.filter(mask) for ours, values in columns.items()})
        yield _Batch(rows, failures, off_earth)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _vectors(column: pa.Array, size: int) -> tuple[npt.NDArray[np.float32], list[str | None]]:
    """Embeddings (B, size) float32, zeros where one is missing, and for each row what is wrong with it."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), -1))
    fits = lengths == size
    vectors = np.zeros((len(column), size), np.float32)
    if fits.any():
        given = column.filter(pa.array(fits)).flatten()
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is reported below
            vectors[fits] = given.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(-1, size)
    finite = np.asarray(np.isfinite(vectors).all(axis=1))
    zero = np.asarray(~vectors.any(axis=1))
    reasons = [
        "is missing"
        if length < 0
        else f"is {length}-dimensional, not {size}-dimensional"
        if length != size
        else "has a value that is not finite"
        if not whole
        else "is zero, which has no direction"
        if nothing
        else None
        for length, whole, nothing in zip(lengths.tolist(), finite.tolist(), zero.tolist(), strict=True)
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
    collection: Storage,
    types: dict[str, pa.DataType],
    batches: Iterator[_Batch],
    total: int,
    files: Sequence[Path],
    on_progress: Callable[[int, int], None] | None,
) -> EmbeddingsReport:
    """Write batches; `files` are those that could be read, whose failures of earlier runs are removed."""
    done = EmbeddingsReport(collection)
    read = overcome = 0
    with collection.running(), collection.writing():
        there = collection.columns
        collection.add_columns({name: type_ for name, type_ in types.items() if name not in there})
        for name, type_ in types.items():
            if collection.columns[name] != type_:
                raise CollectionError(
                    f"The column {name} is {collection.columns[name]} in {collection.path}, but {type_} in the file. "
                    "Import it into another collection."
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
            if not known.all():
                collection.append(batch.rows.filter(pa.array(~known)))
            if (known & ~same).any():
                collection.update(batch.rows.filter(pa.array(known & ~same)).drop_columns(["id"]))  # a row keeps its id
            if failures:
                collection.write([], failures)
            read += len(uris) + len(batch.failures)
            done.new += int((~known).sum())
            done.changed += int((known & ~same).sum())
            done.unchanged += int((known & same).sum())
            done.failed += len(batch.failures)
            done.off_earth += batch.off_earth
            overcome += sum(uri in index.failures for uri in uris)
            if on_progress is not None:
                on_progress(read, total)
        if done.new or done.changed:
            collection.compact()
            ensure_index(collection)
    mended = [uri for uri in map(path_to_uri, files) if uri in index.failures]
    if mended:
        with collection.writing():
            collection.forget_failures(mended)
    if overcome:
        with collection.running():  # which begins by removing failures that have become rows
            pass
    return done


def _stamps(rows: pa.Table) -> list[Stamp]:
    """What rows are recognised by: their stamps, as the collection's index has them."""
    empty = pa.nulls(rows.num_rows, pa.int64())
    columns = [
        (rows[name].cast(pa.int64()) if name != "etag" else rows[name]) if name in rows.column_names else empty
        for name in Stamp._fields
    ]
    return [Stamp(*values) for values in zip(*(column.to_pylist() for column in columns), strict=True)]
