"""Collections for Imageomics' emb-explorer, as its docs/DATA_FORMAT.md asks for them.

From github.com/Imageomics/emb-explorer (read in 2026): `uuid` (string, unique) and `emb` (list of float32, all of one
length) must be there; `identifier` with an HTTP(S) address shows the picture; `kingdom` to `species` make the taxonomic
tree, in which rows with a kingdom appear. All other columns become filters, unless they hold lists.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from birder.collection.schema import LABEL_SOURCE, VECTORS
from birder.errors import CollectionError
from birder.formats.snapshot import Snapshot
from birder.sources import is_url, uri_to_name
from birder.taxonomy import RANKS

_OURS = (*VECTORS, "id", "uri", "sha256", "bytes", "modified", "etag", LABEL_SOURCE)


def write_emb_explorer(snapshot: Snapshot, file: Path, pictures_at: str | None = None) -> int:
    """Write Parquet that emb-explorer loads: `uuid`, `emb`, `identifier`, the seven ranks, and what else has values.

    `uuid` and `identifier` are the collection's own columns of these names where it has them and `uuid` is filled;
    else `id` and `uri`; of a file of this machine, its path as people write it. That tool fetches pictures over HTTP
    alone: `pictures_at` is the address of a `birder serve` of this collection, which then shows them.

    Returns
    -------
    How many rows.

    Raises
    ------
    CollectionError
        There are no rows, which that tool cannot open.
    """
    names = snapshot.schema.names
    rows = snapshot.count()
    if rows == 0:
        raise CollectionError("There are no rows to export, and emb-explorer cannot open an empty file.")
    own = "uuid" in names and _identifies(snapshot, "uuid")
    columns = {"uuid": "uuid" if own else "id", "emb": "embedding"}
    columns["identifier"] = "identifier" if "identifier" in names else "uri"
    rest = [name for name in names if name not in (*_OURS, *RANKS, *columns)]
    columns |= {name: name for name in (*RANKS, *snapshot.filled(rest))}
    embedding = pa.list_(pa.float32())
    types = {ours: snapshot.schema.field(ours).type for ours in columns.values()} | {"embedding": embedding}
    schema = pa.schema([pa.field(theirs, types[ours]) for theirs, ours in columns.items()])
    dictionary = [name for name in columns if name != "emb"]
    needed = [*columns.values(), "id", "uri"]
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=dictionary) as writer:
        for table in snapshot.batches(list(dict.fromkeys(needed))):
            arrays = [table[ours].cast(types[ours]) for ours in columns.values()]
            if columns["identifier"] == "uri" or pictures_at is not None:
                places = _places(table, columns["identifier"], pictures_at)
                arrays[list(columns).index("identifier")] = pa.chunked_array([pa.array(places, pa.string())])
            writer.write_table(pa.table(arrays, schema=schema))
    return rows


def _places(table: pa.Table, column: str, pictures_at: str | None) -> list[str | None]:
    """Where that tool finds the picture of each row: its web address, the page's picture of it, or its path."""
    given = [None if value is None else str(value) for value in table[column].to_pylist()]
    if pictures_at is None:
        return [None if value is None else uri_to_name(value) for value in given]
    root = pictures_at.rstrip("/")
    return [
        value if value is not None and is_url(value) else f"{root}/api/v1/photos/{quote(id_, safe='')}/image"
        for value, id_ in zip(given, table["id"].to_pylist(), strict=True)
    ]


def _identifies(snapshot: Snapshot, name: str) -> bool:
    """Whether each row has a value of its own in a column."""
    seen: set[str | None] = set()
    rows = 0
    for table in snapshot.batches([name]):
        seen.update(table[name].to_pylist())
        rows += table.num_rows
    return len(seen) == rows and not seen & {None, ""}
