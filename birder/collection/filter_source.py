"""Filters on `label_source` see what outputs show: "person" for a label that a person gave.

The stored column says where a label came from when its image was embedded; the journal says who has given one since. A
filter that reads the column is split into three: for rows whose label a person gave, with 'person' in its place; for
rows whose label a person removed, with null; and for all others as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.filter import Filter, quoted
from birder.collection.journal import Journal

if TYPE_CHECKING:
    from lancedb.table import Table

_LABEL = "label"
_ROWS_AT_ONCE = 65_536


def sql_of(where: Filter, path: Path, images: Table) -> str:
    """A filter as LanceDB gets it; one on `label_source` takes some 100 bytes and microseconds for each label given.

    Parameters
    ----------
    where
        The filter.
    path
        The collection's folder, with the journal.
    images
        Its rows.
    """
    if where.of_source is None:
        return where.sql
    journal = Journal(path)
    journal.read()
    given = pa.array(journal.given.get(_LABEL, ()), pa.string())
    if not len(given):
        return where.sql
    labels: dict[str, str | None] = {}
    for batch in images.search().select(["id", _LABEL]).to_batches(_ROWS_AT_ONCE):
        some = batch.filter(pc.is_in(batch["id"], value_set=given))
        labels |= zip(some["id"].to_pylist(), some[_LABEL].to_pylist(), strict=True)
    return with_persons(where, journal, labels).sql


def with_persons(where: Filter, journal: Journal, labels: Mapping[str, str | None]) -> Filter:
    """A filter on `label_source` as one on ids.

    Parameters
    ----------
    where
        The filter.
    journal
        The collection's, read.
    labels
        By id, the label of each row whose label was ever given or removed by a person; other rows may be among them.
    """
    if where.of_source is None:
        return where
    persons, removed = list[str](), list[str]()
    for id_, label in labels.items():
        change = journal.word(_LABEL, id_)
        if change is not None and change.value == label:
            (removed if label is None else persons).append(id_)
    terms = [f"(id NOT IN ({_listed(persons + removed)}) AND {where.sql})"] if persons or removed else [where.sql]
    for ids, sql in zip((persons, removed), where.of_source, strict=True):
        if ids:
            terms.append(f"(id IN ({_listed(ids)}) AND {sql})")
    return Filter(where.text, f"({' OR '.join(terms)})", where.columns | {"id"})


def _listed(ids: list[str]) -> str:
    return ", ".join(map(quoted, ids))
