"""Which rows a user means, by id, uri, path or file name, or by a table or results that have them: their ids."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from birder.collection.results import Rows
from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.sources import path_to_uri

_KEYS_PER_QUERY = 1000


def ids_of_keys(storage: Storage, keys: Sequence[str | Path]) -> dict[str | Path, str]:
    """The ids of existing rows, given by id, uri or path; keys of other rows are left out."""
    wanted = {key: {str(key), _uri(key)} for key in keys}
    found: dict[str, str] = {}
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = set().union(*(wanted[key] for key in keys[start : start + _KEYS_PER_QUERY]))
        quoted = ", ".join("'" + each.replace("'", "''") + "'" for each in sorted(some))
        for batch in storage.scan(["id", "uri"], where=f"id IN ({quoted}) OR uri IN ({quoted})"):
            ids = batch["id"].to_pylist()
            found.update(zip(ids, ids, strict=True))
            found.update(zip(batch["uri"].to_pylist(), ids, strict=True))
    return {key: found[name] for key, names in wanted.items() for name in names if name in found}


def ids_of_rows(storage: Storage, rows: Any) -> list[str]:
    """The ids of rows, each once, given in any of the ways that `Collection.label` accepts.

    Raises
    ------
    ConfigError
        A table without a column id or uri.
    RowNotFoundError
        The collection does not have one of the rows.
    """
    if isinstance(rows, str | Path | Mapping):
        rows = [rows]
    elif isinstance(rows, pa.Table | Rows) or hasattr(rows, "to_dict"):  # iterating over a DataFrame gives its columns
        rows = _key_column(rows.table if isinstance(rows, Rows) else rows)
    from birder.collection.search import get_row

    keys = [row.get("id") or row["uri"] if isinstance(row, Mapping) else row for row in rows]
    known = ids_of_keys(storage, keys)
    ids: dict[str, None] = {}
    for key in keys:
        id_ = known.get(key)
        if id_ is None:
            id_ = get_row(storage, os.fspath(key))["id"]
        ids[id_] = None
    return list(ids)


def _key_column(table: Any) -> list[Any]:
    """The ids, else the uris, of a pyarrow table or a DataFrame."""
    names = table.column_names if isinstance(table, pa.Table) else list(table.columns)
    key = next((name for name in ("id", "uri") if name in names), None)
    if key is None:
        raise ConfigError("Rows to label need a column id or uri.")
    return table[key].to_pylist() if isinstance(table, pa.Table) else list(table[key])


def _uri(key: str | Path) -> str:
    with contextlib.suppress(ValueError):  # a path cannot contain a NUL byte
        return path_to_uri(key)
    return str(key)
