"""Committing rows and failures: values of all columns, what changed files keep, and embeddings that exist already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.filter import quoted
from birder.collection.journal import Journal
from birder.collection.places import Places
from birder.collection.predictions import is_prediction
from birder.collection.schema import (
    FAILURES,
    LABEL_SOURCE,
    NOTHING_FORMER,
    USERS,
    VECTORS,
    Content,
    Failure,
    Former,
    Row,
)
from birder.sources import RESERVED, Stamp

if TYPE_CHECKING:
    from lancedb.table import Table

_ABOUT = ("width", "height", "taken_at", "latitude", "longitude", "suspect")
"""Columns that describe the content, besides its vectors."""
_DELETED_AT_ONCE = 1000


def commit(
    images: Table,
    failed: Table,
    before: Table | None,
    journal: Journal,
    places: Places,
    rows: Sequence[Row],
    failures: Sequence[Failure],
    former: Former = NOTHING_FORMER,
) -> None:
    """Commit rows and failures; the caller holds the right to write. Each uri comes once.

    Former rows go before others come, and former failures afterwards. A row that a person has labelled stays.

    A row whose content is None takes it from a row with its sha256, in `rows`, in the collection, or in the rows as
    they were `before` the run.
    """
    contents = {row.sha256: row.content for row in rows if row.content is not None}
    missing = {row.sha256 for row in rows} - contents.keys()
    contents |= _contents_of(missing, [images] if before is None else [images, before])
    stale = [
        *(failure.uri for failure in failures if failure.known),
        *_not_labelled(former.rows, images.schema.names, journal, places),
    ]
    for start in range(0, len(stale), _DELETED_AT_ONCE):
        images.delete(_any_of("uri", stale[start : start + _DELETED_AT_ONCE]))
    if new := [row for row in rows if not row.known]:
        images.add(table_of(images.schema, new, contents, journal, places))
    if changed := [row for row in rows if row.known]:
        merge = images.merge_insert("uri").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(table_of(images.schema, _with_kept(images, changed), contents, journal, places))
    if failures:
        merge = failed.merge_insert("uri").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(_failure_table(failures))
    delete_failures(failed, [*(row.uri for row in rows if row.failed), *former.failures])


def _not_labelled(uris: Sequence[str], columns: Sequence[str], journal: Journal, places: Places) -> list[str]:
    """The rows to which no person's label was given."""
    ids = [places.original_id(uri) for uri in uris]
    words = journal.words(ids, columns)
    return [
        uri
        for uri, id_ in zip(uris, ids, strict=True)
        if not any(value is not None for value in words.get(id_, {}).values())
    ]


def delete_failures(failed: Table, uris: Sequence[str]) -> None:
    """Remove the failures of these uris."""
    for start in range(0, len(uris), _DELETED_AT_ONCE):
        failed.delete(_any_of("uri", uris[start : start + _DELETED_AT_ONCE]))


def table_of(
    schema: pa.Schema, rows: Sequence[Row], contents: Mapping[str, Content], journal: Journal, places: Places
) -> pa.Table:
    """Rows as an Arrow table of the collection's schema; `contents` has the content of each sha256."""
    ids = [row.columns.get("id") or places.original_id(row.uri) for row in rows]  # an existing row keeps its id
    words = journal.words(ids, schema.names)
    # a column of the user's own may have that name
    has_suspect = "suspect" in schema.names and schema.field("suspect").type == USERS["suspect"]
    values: dict[str, list[Any]] = {column.name: [] for column in schema if column.name not in VECTORS}
    for row, id_ in zip(rows, ids, strict=True):
        content = contents[row.sha256]
        about = content if has_suspect else content._replace(suspect=None)
        line = about._asdict() | _filled(row.columns)
        line |= {"uri": row.uri, "id": id_, "sha256": row.sha256} | row.stamp._asdict()
        line |= words.get(id_, {})  # a person's label takes precedence over a file or table
        for name, column in values.items():
            column.append(line.get(name))
    arrays = []
    for column in schema:
        if column.name in VECTORS:
            vectors = np.concatenate([getattr(contents[row.sha256], column.name) for row in rows])
            flat = pa.array(vectors.astype(column.type.value_type.to_pandas_dtype(), copy=False))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, column.type.list_size))
        else:
            arrays.append(pa.array(values[column.name], column.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def with_all_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with all columns of a schema, null where they have none."""
    columns = [
        rows[column.name].cast(column.type)
        if column.name in rows.column_names
        else pa.nulls(rows.num_rows, column.type)
        for column in schema
    ]
    return pa.table(columns, schema=schema)


def _with_kept(images: Table, rows: Sequence[Row]) -> list[Row]:
    """Rows of changed files, with the values of the rows they replace that the run does not provide.

    Values derived from the former content are dropped: EXIF's time and place, and predictions. A label of a table or of
    a person is not replaced by the name of a folder.
    """
    left_out = {*RESERVED, *_ABOUT} - {LABEL_SOURCE}
    names = ["id", *(name for name in images.schema.names if name not in left_out and not is_prediction(name))]
    former = images.search().where(_any_of("uri", [row.uri for row in rows])).select(["uri", *names])
    kept = {row.pop("uri"): row for row in former.to_arrow().to_pylist()}
    changed = []
    for row in rows:
        before, now = _filled(kept.get(row.uri, {})), _filled(row.columns)
        if now.get(LABEL_SOURCE) == "folder" and before.get("label") and before.get(LABEL_SOURCE) != "folder":
            now = {name: value for name, value in now.items() if name not in ("label", LABEL_SOURCE)}
        changed.append(replace(row, columns=before | now))
    return changed


def _contents_of(wanted: set[str], tables: Sequence[Table]) -> dict[str, Content]:
    """Contents by sha256, from the first table that has them."""
    found: dict[str, Content] = {}
    for table in tables:
        missing = sorted(wanted - found.keys())
        if not missing:
            break
        vectors = [name for name in VECTORS if name in table.schema.names]
        about = [name for name in _ABOUT if name in table.schema.names]
        # Of a content that thousands of files have, one row's vectors, not those of all.
        same = table.search().where(_any_of("sha256", missing)).select(["sha256"]).with_row_id(True).to_arrow()
        ids = dict(zip(same["sha256"].to_pylist(), same["_rowid"].to_pylist(), strict=True))
        rows = table.take_row_ids(list(ids.values())).select(["sha256", *vectors, *about]).to_arrow()
        arrays = {name: _matrix(rows[name]) for name in vectors}
        for i, row in enumerate(rows.select(["sha256", *about]).to_pylist()):
            patches = arrays["patches"][i] if "patches" in arrays else None
            known = (row.get(name) for name in _ABOUT)
            found.setdefault(row["sha256"], Content(arrays["embedding"][i], *known)._replace(patches=patches))
    return found


def _failure_table(failures: Sequence[Failure]) -> pa.Table:
    now = datetime.now(UTC)
    lines = [
        {
            "uri": failure.uri,
            "reason": failure.reason.encode("utf-8", "replace").decode(),
            "failed_at": now,
        }
        | (failure.stamp or Stamp(None, None))._asdict()
        for failure in failures
    ]
    columns = {c.name: pa.array([line.get(c.name) for line in lines], c.type) for c in FAILURES}
    return pa.table(columns, schema=FAILURES)


def _filled(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value is not None}


def _matrix(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column of fixed-size lists as (N, size)."""
    matrix: npt.NDArray[Any] = column.combine_chunks().flatten().to_numpy().reshape(-1, column.type.list_size)
    return matrix


def rename_failures(failed: Table, uris: Mapping[str, str], version: int) -> None:
    """Give failures other uris, old -> new, unless there is a failure of the new one.

    Interrupted, it can be done again with the version that the failures had at first.
    """
    if not uris:
        return
    if int(failed.version) == version:
        table = failed.search().where(_any_of("uri", list(uris))).to_arrow()
        new = pa.array([uris[uri] for uri in table["uri"].to_pylist()], pa.string())
        renamed = table.set_column(table.schema.get_field_index("uri"), table.schema.field("uri"), new)
        failed.merge_insert("uri").when_not_matched_insert_all().execute(renamed)
    delete_failures(failed, sorted(uris.keys() - set(uris.values())))


def _any_of(column: str, values: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(map(quoted, values))})"
