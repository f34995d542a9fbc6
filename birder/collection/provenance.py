"""Where labels come from: a person, a table, the name of the folder, or a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.journal import Journal
from birder.collection.predictions import AT, BY, is_prediction
from birder.collection.schema import LABEL_SOURCE
from birder.collection.storage import Storage
from birder.errors import unknown_name

Kind = Literal["person", "table", "folder", "model"]
_SOURCE_COLUMNS = (LABEL_SOURCE, BY, AT)


class Source(NamedTuple):
    """Where a value comes from.

    Attributes
    ----------
    kind
        "person" (given on the page or by `give_label`), "table" (brought by a table, manifest, shard or package),
        "folder" (the name of the folder above the image) or "model" (a prediction).
    by
        The name of the person or model, if it is known.
    at
        When it was given, if that is known.
    """

    kind: Kind
    by: str | None = None
    at: datetime | None = None


def sources_of(collection: Storage, column: str, uris: Iterable[str] | None = None) -> dict[str, Source]:
    """Where the values of a column come from.

    Parameters
    ----------
    collection
        The collection.
    column
        A column of it.
    uris
        Which rows; default: all.

    Returns
    -------
    By uri; rows without a value are absent.

    Raises
    ------
    UnknownNameError
        The column does not exist.
    """
    if column not in collection.columns:
        raise unknown_name("column", column, collection.columns)
    wanted = None if uris is None else pa.array(list(uris), pa.string())
    names = dict.fromkeys(["id", "uri", column, *(name for name in _SOURCE_COLUMNS if name in collection.columns)])
    collection.journal.read()
    found: dict[str, Source] = {}
    for batch in collection.scan(list(names)):
        if wanted is not None:
            batch = batch.filter(pc.is_in(batch["uri"], wanted))
        for row in batch.filter(pc.is_valid(batch[column])).to_pylist():
            found[row["uri"]] = source_of(collection.journal, row, column)
    return found


def source_of(journal: Journal, row: Mapping[str, Any], column: str = "label") -> Source:
    """Where the value of a column in a row comes from.

    Parameters
    ----------
    journal
        The collection's, read.
    row
        With id, uri, the column, and label_source, predicted_by and predicted_at where the collection has them.
    column
        A column that has a value there.
    """
    change = journal.word(column, row["id"])
    if change is not None and change.value == row[column]:
        return Source("person", change.by, change.at)
    if is_prediction(column):
        return Source("model", row.get(BY), _in_utc(row.get(AT)))
    return Source(_brought_by(row, column))


def with_sources_told(table: pa.Table, journal: Journal) -> pa.Table:
    """Rows whose `label_source` tells of the labels that they have now: "person" where a person gave them.

    The stored column tells where a label came from when the image was embedded.

    Parameters
    ----------
    table
        With id, label and label_source.
    journal
        The collection's, read.
    """
    if "label" not in journal.given:
        return table
    sources = []
    for id_, label, source in zip(*(table[name].to_pylist() for name in ("id", "label", LABEL_SOURCE)), strict=True):
        change = journal.word("label", id_)
        by_person = change is not None and change.value == label
        sources.append(source if change is None or not by_person else None if label is None else "person")
    place = table.column_names.index(LABEL_SOURCE)
    return table.set_column(place, table.schema.field(LABEL_SOURCE), pa.array(sources, pa.string()))


def _brought_by(row: Mapping[str, Any], column: str) -> Kind:
    if column != "label":
        return "table"
    if row.get(LABEL_SOURCE) is not None:
        kind: Kind = row[LABEL_SOURCE] if row[LABEL_SOURCE] in ("folder", "person") else "table"
        return kind
    return "folder" if row["label"] == folder_of(row["uri"]) else "table"  # made before this was recorded


def folder_of(uri: str) -> str | None:
    """The name of the folder right above an image."""
    parts = unquote(urlsplit(uri).path).rstrip("/").split("/")
    return parts[-2] if len(parts) > 1 and parts[-2] else None


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
