"""The rows of a collection that have a taxon, their texts, and which of them are held out: what shards are made of.

N is the number of such rows, D the embedding dimension.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.filter import Filter
from birder.collection.provenance import with_sources_told
from birder.collection.schema import LABEL_SOURCE, VECTORS
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import ConfigError, unknown_name
from birder.learning.ranks import taxonomy_of_file
from birder.learning.splits import columns_for_groups, find_groups, make_folds
from birder.naming.taxon_texts import clean_taxon, taxon_texts
from birder.taxonomy import COMMON_NAME, RANKS, ranks_in, species_name
from birder.words import counted

Mask = npt.NDArray[np.bool_]

NO_TAXON = "no taxon: neither a label that the taxonomy has nor a name at a rank"
_TEXTS_KEPT = 1 << 16  # taxa whose texts are remembered


@dataclass(frozen=True)
class ShardRows:
    """Rows with a taxon, in the order of their keys.

    Attributes
    ----------
    table
        N rows: id, uri, sha256, the label's column, those of ranks, common_name and label_source, as far as there are
        any.
    held_out
        (N,) bool: the rows for validation; those of one group are on one side.
    how
        Sentences that say how the rows were split, and what a person should know of their taxa.
    without
        How many rows of the filter have no taxon, and were left out.
    """

    table: pa.Table
    held_out: Mask
    how: tuple[str, ...]
    without: int
    _names: _Names

    def key(self, row: int) -> str:
        """The key of a row: a UUID, that of its id."""
        return _key(self.table["id"][row].as_py())

    def uri(self, row: int) -> str:
        """Where its image is."""
        return str(self.table["uri"][row].as_py())

    def texts(self, row: int) -> dict[str, str]:
        """Its ten texts by name."""
        return self._names.texts({name: self.table[name][row].as_py() for name in self._names.columns})

    def sha256(self) -> str:
        """A digest of all that the shards will be made of, but the pixels."""
        digest = hashlib.sha256()
        for row, each in enumerate(_rows(self.table, ["id", "uri", "sha256", *self._names.columns])):
            texts = sorted(self._names.texts(each).items())
            parts = [each["id"], each["uri"], each["sha256"], bool(self.held_out[row]), texts]
            digest.update(json.dumps(parts).encode())
        return digest.hexdigest()


def shard_rows(
    storage: Storage,
    column: str,
    *,
    taxonomy: Path | None = None,
    where: str | Filter | None = None,
    group_by: Sequence[str] = (),
    share: float = 0.05,
    seed: int = 0,
) -> ShardRows:
    """Read the rows that have a taxon, and hold out some of them for validation, whole groups at a time.

    A row's taxon is what the taxonomy says of its label, and at the other ranks what its own columns say. Its common
    name is that of its row, else of the taxonomy, else its label, unless that is a scientific name, or the name of a
    folder that the taxonomy does not know.

    Twice the embeddings are in memory while the rows are sorted, and a copy while groups are found.

    Parameters
    ----------
    storage
        The collection.
    column
        The column of the labels.
    taxonomy
        A table as for `birder.learning.ranks.taxonomy_of_file`; its common names are in a column `common_name`.
    where
        Only these rows.
    group_by
        As for `birder.learning.splits.find_groups`.
    share
        Which share is held out, of each class as far as its groups allow: at least 0 and at most 0.5.
    seed
        Of the split.

    Raises
    ------
    UnknownNameError
        There is no such column.
    ConfigError
        No row has a taxon; or the column does not hold text, the taxonomy cannot be used, or the share is not one.
    """
    if not 0.0 <= share <= 0.5:
        raise ConfigError(f"The share that is held out must be at least 0 and at most 0.5, not {share}.")
    reader = storage.snapshot()
    if column not in reader.columns or column in VECTORS:
        raise unknown_name("column", column, [name for name in reader.columns if name not in VECTORS])
    if not _is_text(reader.columns[column]):
        raise ConfigError(f"The column {column!r} of {storage.path} holds {reader.columns[column]}, not names.")
    chosen = without_wrong_boxes(where, reader.columns)
    own = [
        name
        for name in (*ranks_in(reader.columns), COMMON_NAME, LABEL_SOURCE)
        if _is_text(reader.columns.get(name, pa.null()))
    ]
    columns = list(dict.fromkeys(["id", "uri", "sha256", column, *own, *columns_for_groups(storage, group_by)]))
    table, embeddings = _read(reader, columns, chosen, storage.model.embedding_size)
    if column == "label" and LABEL_SOURCE in own:
        storage.journal.read()
        table = with_sources_told(table, storage.journal)
    names = _names(table, column, own, taxonomy)
    has = np.array([names.knows(row) for row in _rows(table, names.columns)], dtype=np.bool_)
    if not has.any():
        raise ConfigError(
            f"None of the {len(has):,} images{' of the filter' if where is not None else ''} has a taxon: give a table "
            f"with the labels of {column} and columns named by rank (--taxonomy TABLE), or embed the images with a "
            "table that has such columns."
        )
    order = np.argsort(np.array([_key(id_) for id_ in table["id"].to_pylist()]), kind="stable")
    order = order[has[order]]
    table, embeddings = table.take(pa.array(order)), embeddings[order]
    held_out, how = _held_out(table, embeddings, column, names, group_by, share, seed)
    return ShardRows(table, held_out, (*names.warnings, *how), int((~has).sum()), names)


@dataclass(frozen=True)
class _Names:
    """What tells the taxon of a row: its own columns, and the taxonomy's taxon and common name of its label."""

    column: str
    own: tuple[str, ...]
    taxa: Mapping[str, Mapping[str, str]]
    common: Mapping[str, str]
    warnings: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys([self.column, *self.own]))

    def taxon(self, row: Mapping[str, Any]) -> dict[str, str]:
        found = {rank: row[rank] for rank in RANKS if row.get(rank)}
        return found | {rank: name for rank, name in self.taxa.get(self.label(row), {}).items() if rank in RANKS}

    def label(self, row: Mapping[str, Any]) -> str:
        return (row[self.column] or "").strip()

    def _is_common(self, label: str, row: Mapping[str, Any], taxon: Mapping[str, str]) -> bool:
        """Whether a label is what people call the taxon: not a scientific name, nor any folder's."""
        of_folder = self.column == "label" and row.get(LABEL_SOURCE) == "folder" and label not in self.taxa
        return self.column not in RANKS and not of_folder and not _is_scientific(label, taxon)

    def knows(self, row: Mapping[str, Any]) -> bool:
        return bool(clean_taxon(self.taxon(row)))

    def texts(self, row: Mapping[str, Any]) -> dict[str, str]:
        taxon, label = self.taxon(row), self.label(row)
        common = (row.get(COMMON_NAME) or "").strip() or self.common.get(label, "")
        if not common and self._is_common(label, row, taxon):
            common = label
        return dict(_texts(tuple(taxon.items()), common))


def _names(table: pa.Table, column: str, own: Sequence[str], taxonomy: Path | None) -> _Names:
    if taxonomy is None:
        return _Names(column, tuple(own), {}, {}, ())
    labels = sorted({label.strip() for label in table[column].to_pylist() if label and label.strip()})
    found = taxonomy_of_file(taxonomy, column, labels)
    return _Names(column, tuple(own), found.taxa, found.common_names, found.warnings)


def _is_scientific(label: str, taxon: Mapping[str, str]) -> bool:
    """Whether a label is a name of the taxon at one of its ranks."""
    cleaned = clean_taxon(taxon)
    known = {*cleaned.values(), *taxon.values()}
    for names in (cleaned, taxon):
        ordered = [names[rank] for rank in RANKS if names.get(rank)]
        known |= {species_name(names.get("genus", ""), names.get("species", "")), " ".join(ordered)}
        known.add(" ".join(name for rank in ("genus", "species") if (name := names.get(rank))))
    return label.casefold() in {name.casefold() for name in known}


@lru_cache(_TEXTS_KEPT)
def _texts(taxon: tuple[tuple[str, str], ...], common: str) -> tuple[tuple[str, str], ...]:
    return tuple(taxon_texts(dict(taxon), common).items())


def _key(id_: str) -> str:
    """A row's id, where it is a UUID, as those of rows that were embedded are; else one that is made from it."""
    try:
        return str(uuid.UUID(id_))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, id_))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _read(
    reader: Any, columns: Sequence[str], where: Filter | None, dimension: int
) -> tuple[pa.Table, npt.NDArray[np.float32]]:
    embeddings = np.empty((reader.count(where), dimension), np.float32)
    parts, filled = [], 0
    for part, vectors in reader.embedding_batches(columns, where):
        embeddings[filled : filled + part.num_rows] = vectors
        filled += part.num_rows
        parts.append(part)
    if not parts:
        raise ConfigError("There are no images: no row matches.")
    return pa.concat_tables(parts).combine_chunks(), embeddings[:filled]


def _rows(table: pa.Table, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for batch in table.select(list(dict.fromkeys(columns))).to_batches(max_chunksize=8192):
        yield from batch.to_pylist()


def _held_out(
    table: pa.Table,
    embeddings: npt.NDArray[np.float32],
    column: str,
    names: _Names,
    group_by: Sequence[str],
    share: float,
    seed: int,
) -> tuple[Mask, tuple[str, ...]]:
    """Which rows are for validation: those of one fold of whole groups."""
    if share == 0.0:
        return np.zeros(table.num_rows, np.bool_), ("All images are for training: none is held out.",)
    groups = find_groups(table, embeddings, column=column, group_by=group_by)
    taxa = np.unique([names.texts(row)["taxonomic_name"] for row in _rows(table, names.columns)], return_inverse=True)[
        1
    ]
    folds = make_folds(taxa, groups.codes, round(1 / share), seed)
    # A fold's group may hold rows of a taxon that has no other group: they follow it, so that no group is divided.
    held_out = np.isin(groups.codes, groups.codes[folds.of == 0])
    sentence = (
        f"Held out for validation: {int(held_out.sum()):,} of {table.num_rows:,} images, whole groups at a time, as "
        f"one of {folds.count} folds with the taxa spread over them."
        if folds.count
        else "None is held out for validation: the images of each taxon are all in one group."
    )
    alone = len(set(folds.unjudged) - set(taxa[held_out].tolist()))
    if not folds.count or not alone:
        return held_out, (*groups.how, sentence)
    taxa_alone = counted(alone, "taxon has", "taxa have")
    return held_out, (*groups.how, sentence, f"{taxa_alone} all images in one group, and stay in training.")
