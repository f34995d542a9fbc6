"""Pending labels: those in the journal that the rows do not have yet, applied when rows are read, or written into them.

Where they cannot be written now, as in a folder that is read-only, a copy of the table that has them is read instead.
The copy shares the files of the table, and is in a folder for this process alone.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.disk import connect
from birder.collection.journal import Cells
from birder.collection.reading import RowReader

_ROWS_AT_ONCE = 65_536
_copies: list[Path] = []


def relabelled(rows: RowReader, cells: Cells) -> pa.Table:
    """Of the rows that cells change: their uris, and the columns of these cells with the values that rows then have."""
    names = [name for name in cells if name in rows.columns]
    ids = pa.array({id_ for name in names for id_ in cells[name]}, pa.string())
    changed: dict[str, list[str | None]] = {name: [] for name in ("uri", *names)}
    for some in rows.tables(["id", "uri", *names], rows=_ROWS_AT_ONCE):
        for row in some.filter(pc.is_in(some["id"], ids)).to_pylist():
            new = {name: cells[name].get(row["id"], row[name]) for name in names}
            if any(new[name] != row[name] for name in names):
                for name, value in {"uri": row["uri"], **new}.items():
                    changed[name].append(value)
    return pa.table({name: pa.array(values, pa.string()) for name, values in changed.items()})


def copy_with_labels(rows: RowReader, cells: Cells) -> Path:
    """The folder of a copy of the table of images whose rows have pending labels; it goes when this process ends."""
    if not _copies:
        _copies.append(Path(tempfile.mkdtemp(prefix="birder-")))
        atexit.register(shutil.rmtree, _copies[0], ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=_copies[0]))
    source = (rows.path / "images.lance").resolve()
    database: Any = connect(folder)  # the base class does not declare clones
    table = database.clone_table("images", str(source), source_version=rows.version)
    table.merge_insert("uri").when_matched_update_all().execute(relabelled(rows, cells))
    return folder
