"""The labelled rows of a collection that are judged: their values, embeddings, groups and taxa.

N is the number of rows, D the embedding dimension.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.filter import Filter
from birder.collection.predictions import PREFIX
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import CollectionError, ConfigError, unknown_name
from birder.learning.rows import by_content

if TYPE_CHECKING:
    from birder.learning.splits import Groups, Split

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Taxa = dict[str, dict[str, str]]
"""Name -> rank -> taxon."""


@dataclass(frozen=True)
class JudgedRows:
    """Labelled rows, sorted by their content (`birder.learning.rows.by_content`).

    Attributes
    ----------
    values
        N rows: id, uri, sha256, and the columns that were asked for.
    labels
        N names.
    embeddings
        float32 (N, D), as the network gave them.
    as_written
        int64 (N,): the positions of the rows in the order in which they were written into the collection.
    unlabelled
        How many rows matched the filter and have no label.
    """

    values: pa.Table
    labels: list[str]
    embeddings: Floats
    as_written: Codes
    unlabelled: int

    def __len__(self) -> int:
        return len(self.labels)

    def texts(self, column: str) -> list[str | None]:
        """The values of a column as text; None where there is none."""
        return [None if value is None or value == "" else str(value) for value in self.values[column].to_pylist()]

    def keep(self, rows: npt.NDArray[np.bool_]) -> JudgedRows:
        """Only some of the rows, bool (N,)."""
        places = np.cumsum(rows) - 1
        return replace(
            self,
            values=self.values.filter(pa.array(rows)),
            labels=[label for label, kept in zip(self.labels, rows, strict=True) if kept],
            embeddings=self.embeddings[rows],
            as_written=places[self.as_written[rows[self.as_written]]],
        )


def read_rows(storage: Storage, column: str, columns: Iterable[str], where: str | Filter | None) -> JudgedRows:
    """Read the rows that have a label, with their embeddings: 8 D bytes a row of memory, half of them for a moment.

    Parameters
    ----------
    storage
        The collection.
    column
        The column with the labels, of text.
    columns
        Further ones; those that do not exist are refused.
    where
        A filter: only these rows.

    Raises
    ------
    UnknownNameError
        There is no such column.
    ConfigError
        The column does not hold text.
    CollectionError
        No row has a label.
    """
    own = storage.columns
    names = list(dict.fromkeys(["id", "uri", "sha256", column, *columns]))
    for name in names:
        if name not in own:
            raise unknown_name("column", name, own)
    if not (pa.types.is_string(own[column]) or pa.types.is_large_string(own[column])):
        raise ConfigError(f"The column {column} holds {own[column]}, not text: labels are names.")
    tables, blocks, unlabelled = [], [], 0
    for table, embeddings in storage.embedding_batches(names, without_wrong_boxes(where, own)):
        labelled = np.array([bool(label) for label in table[column].to_pylist()], bool)
        unlabelled += int((~labelled).sum())
        tables.append(table.filter(pa.array(labelled)))
        blocks.append(embeddings[labelled])
    values = pa.concat_tables(tables) if tables else None
    if values is None or not len(values):
        which = "" if where is None else " that matches the filter"
        raise CollectionError(
            f"No row of {storage.path}{which} has a label in {column}. Label some: birder label, or birder serve"
        )
    vectors = np.concatenate(blocks)
    blocks.clear()
    order = by_content(values)
    as_written = np.empty(len(order), np.int64)
    as_written[order] = np.arange(len(order))
    values = values.take(pa.array(order)).combine_chunks()
    return JudgedRows(values, values[column].to_pylist(), vectors[order], as_written, unlabelled)


def groups_of(
    rows: JudgedRows, *, column: str, group_by: Sequence[str], split: Split
) -> tuple[Groups, list[str] | None]:
    """The groups of rows, and a name of each row's group; None where rows are taken for independent."""
    from birder.learning.splits import find_groups

    groups = find_groups(rows.values, rows.embeddings, column=column, group_by=group_by, split=split)
    if groups.kind == "random" or groups.count == len(rows):
        return groups, None
    width = len(str(max(groups.count - 1, 0)))
    return groups, [f"{code:0{width}}" for code in groups.codes.tolist()]


def taxa_of(
    rows: JudgedRows, column: str, predicted: str | None, taxonomy: Path | None
) -> tuple[Taxa, tuple[str, ...]]:
    """What each name belongs to, and what must be known of that.

    Parameters
    ----------
    rows
        With the columns of ranks above `column`, and those of the predicted ranks where `predicted` is given.
    column
        The column of the labels; if it is a rank, names stand for themselves there.
    predicted
        The column of predicted names, which tell what they belong to in the columns predicted_<rank>.
    taxonomy
        A .csv or .parquet as `birder.learning.ranks.taxonomy_of_file` takes it (default: what the rows say).

    Returns
    -------
    The taxa, empty where nothing is known of any rank above the names; and warnings.
    """
    from birder.learning.ranks import rank_columns, taxonomy_of_file, taxonomy_of_rows

    names = sorted({*rows.labels, *(each for each in (rows.texts(predicted) if predicted else []) if each)})
    if taxonomy is not None:
        found = taxonomy_of_file(taxonomy, column, names)
        return {name: dict(lineage) for name, lineage in found.taxa.items()}, tuple(found.warnings)
    of_labels = taxonomy_of_rows(rows.values, column)
    if of_labels is None:
        return {}, ()
    taxa = {name: dict(lineage) for name, lineage in of_labels.taxa.items()}
    if predicted is not None:
        there = rows.values.column_names
        ranks = [rank for rank in rank_columns(column, there) if PREFIX + rank in there]
        named = rows.values.select([predicted, *(PREFIX + rank for rank in ranks if PREFIX + rank != predicted)])
        named = named.filter(named[predicted].is_valid()).rename_columns(
            [column if name == predicted else name.removeprefix(PREFIX) for name in named.column_names]
        )
        of_names = taxonomy_of_rows(named, column)
        for name, lineage in of_names.taxa.items() if of_names is not None else ():
            taxa.setdefault(name, dict(lineage))
    return taxa, tuple(of_labels.warnings)
