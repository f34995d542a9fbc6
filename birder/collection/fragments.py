"""Rows that other processes write as Lance fragments, and the process that commits them.

A fragment is a file in the folder of the table that belongs to no version until it is appended.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from birder.collection.flush import flush
from birder.collection.schema import Row
from birder.collection.storage import Storage


def write_fragments(path: str | Path, rows: Sequence[Row]) -> list[str]:
    """Write rows into the folder of a collection, in any process that has it at this path.

    Parameters
    ----------
    path
        The collection's folder, as an absolute path.
    rows
        Each with its content.

    Returns
    -------
    Descriptions of the fragments, for `append_fragments`. They are on the disk.
    """
    from lance.fragment import write_fragments as write  # of the extra `cluster`

    collection = Storage.open(path, labels=False)
    table = collection.table_of(rows, {row.sha256: row.content for row in rows if row.content is not None})
    fragments = write(table, _images(Path(path)), schema=table.schema, mode="append")
    # By the writer: if the folder is on a server, only this process holds what has not reached it.
    flush(f"{_images(Path(path))}/data/{file.path}" for fragment in fragments for file in fragment.files)
    return [json.dumps(fragment.to_json()) for fragment in fragments]


def append_fragments(collection: Storage, fragments: Sequence[str]) -> None:
    """Append fragments to the rows, in one commit; within `writing` only."""
    import lance

    table = lance.dataset(_images(collection.path))
    metadata = [lance.FragmentMetadata.from_json(text) for text in fragments]
    lance.LanceDataset.commit(table, lance.LanceOperation.Append(metadata), read_version=table.version)
    collection.see_latest()


def _images(path: Path) -> str:
    return str(path.resolve() / "images.lance")
