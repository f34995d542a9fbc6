"""A collection for Imageomics' emb-explorer, as its docs/DATA_FORMAT.md describes.

From github.com/Imageomics/emb-explorer (read in 2026): `uuid` (string, unique) and `emb` (list of float32, all of the
same length) are required; `identifier` with an HTTP(S) address shows the image; `kingdom` to `species` make the
taxonomic tree, which shows rows with a kingdom. All other columns become filters, unless they hold lists.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from birder.collection.schema import LABEL_SOURCE, VECTORS
from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.files import replacing
from birder.formats.snapshot import Snapshot
from birder.formats.table import ExportReport
from birder.sources import is_url, uri_to_name
from birder.taxonomy import RANKS
from birder.words import counted

_NOT_EXPORTED = (*VECTORS, "id", "uri", "sha256", "bytes", "modified", "etag", LABEL_SOURCE)


def export(collection: Storage, rows: Snapshot, to: Path, *, force: bool, images_at: str | None = None) -> ExportReport:
    """Write Parquet that emb-explorer loads: `uuid`, `emb`, `identifier`, the ranks, and other columns with values.

    `uuid` and `identifier` are the collection's own columns of these names if it has them and `uuid` is unique and
    never empty; else `id` and `uri` (of a file of this machine, its path as people write it). The tool fetches images
    over HTTP alone: `images_at` is the address of a `birder serve` of this collection, which then shows them.

    Raises
    ------
    ConfigError
        `images_at` is not a web address.
    """
    if images_at is not None and urlsplit(images_at).scheme not in ("http", "https"):
        raise ConfigError(f"{images_at} is not a web address. Give that of birder serve, such as http://127.0.0.1:8000")
    names = rows.schema.names
    count = rows.count()
    own = "uuid" in names and _identifies(rows, "uuid")
    columns = {"uuid": "uuid" if own else "id", "emb": "embedding"}
    columns["identifier"] = "identifier" if "identifier" in names else "uri"
    rest = [name for name in names if name not in (*_NOT_EXPORTED, *RANKS, *columns)]
    columns |= {name: name for name in (*RANKS, *rows.filled(rest))}
    embedding = pa.list_(pa.float32())
    types = {ours: rows.schema.field(ours).type for ours in columns.values()} | {"embedding": embedding}
    schema = pa.schema([pa.field(theirs, types[ours]) for theirs, ours in columns.items()])
    dictionary = [name for name in columns if name != "emb"]
    needed = [*columns.values(), "id", "uri"]
    with (
        replacing(to, force=force) as draft,
        pq.ParquetWriter(draft, schema, compression="zstd", use_dictionary=dictionary) as writer,
    ):
        for table in rows.batches(list(dict.fromkeys(needed))):
            arrays = [table[ours].cast(types[ours]) for ours in columns.values()]
            if columns["identifier"] == "uri" or images_at is not None:
                places = _locations(table, columns["identifier"], images_at)
                arrays[list(columns).index("identifier")] = pa.chunked_array([pa.array(places, pa.string())])
            writer.write_table(pa.table(arrays, schema=schema))
    return ExportReport(f"{counted(count, 'row')} in {to}.")


def _locations(table: pa.Table, column: str, images_at: str | None) -> list[str | None]:
    """Where the tool finds the image of each row: its web address, that of the page's copy of it, or its path."""
    given = [None if value is None else str(value) for value in table[column].to_pylist()]
    if images_at is None:
        return [None if value is None else uri_to_name(value) for value in given]
    root = images_at.rstrip("/")
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
