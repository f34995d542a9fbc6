"""A collection for Apple's Embedding Atlas: the map's x and y, thumbnails, and other columns with values.

It draws `x` and `y` as they are (`embedding-atlas FILE --x x --y y`), and shows a value {bytes, path} as an image if
its bytes are those of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from birder.collection.schema import LABEL_SOURCE, VECTORS
from birder.collection.storage import Storage
from birder.errors import CollectionError
from birder.files import replacing
from birder.formats.snapshot import Snapshot
from birder.formats.table import ExportReport
from birder.sources import readable_path
from birder.sources.thumbnails import thumbnails
from birder.words import counted

Points = Mapping[str, tuple[float, float]]
"""The points of a map, x and y by id."""

_NOT_EXPORTED = (*VECTORS, "id", "uri", "sha256", "bytes", "modified", "etag", LABEL_SOURCE, "x", "y", "image", "file")
_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
_ROWS_AT_ONCE = 256  # thumbnails
_SIDE = 128  # pixels of a thumbnail


def export(
    collection: Storage,
    rows: Snapshot,
    to: Path,
    *,
    force: bool,
    points: Points | None = None,
) -> ExportReport:
    """Write Parquet for Embedding Atlas: `id`, `x`, `y`, `image`, `file`, and other columns with values.

    Parameters
    ----------
    collection, rows
        The collection, and which of its rows.
    to
        The file to write.
    force
        Replace a file that exists.
    points
        The points of the map, by id; a row without a point is left out.

    Raises
    ------
    CollectionError
        There is no map, or none of the rows is on it.
    """
    if points is None:
        raise CollectionError(f"{collection.path} has no map yet: compute it with birder map {collection.path}")
    with replacing(to, force=force) as draft:
        done = _write(rows, draft, points)
    left_out = (
        f"; {done.off_map:,} are not on the map (birder map DIR --recompute) and were left out" if done.off_map else ""
    )
    bare = f"; {done.without_image:,} have no thumbnail, as the image cannot be read" if done.without_image else ""
    return ExportReport(
        f"{counted(done.rows, 'row')} in {to}{left_out}{bare}. Open it with: embedding-atlas {to} --x x --y y"
    )


@dataclass
class _Written:
    """Rows that were written, those left out as they are not on the map, and those without a thumbnail."""

    rows: int = 0
    off_map: int = 0
    without_image: int = 0


def _write(rows: Snapshot, file: Path, points: Points) -> _Written:
    rest = rows.filled([name for name in rows.schema.names if name not in _NOT_EXPORTED])
    schema = pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("x", pa.float32()),
            pa.field("y", pa.float32()),
            pa.field("image", _IMAGE),
            pa.field("file", pa.string()),
            *(rows.schema.field(name) for name in rest),
        ]
    )
    done = _Written()
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in rows.batches(["id", "uri", *rest]):
            on_map = pa.array([id_ in points for id_ in batch["id"].to_pylist()], pa.bool_())
            done.off_map += batch.num_rows - on_map.true_count
            on_it = batch.filter(on_map)
            for start in range(0, on_it.num_rows, _ROWS_AT_ONCE):
                table = on_it.slice(start, _ROWS_AT_ONCE)
                ids, uris = table["id"].to_pylist(), table["uri"].to_pylist()
                made = thumbnails(uris, _SIDE)
                images = [
                    {"bytes": found, "path": None} if isinstance(found := made[uri], bytes) else None for uri in uris
                ]
                arrays = [
                    table["id"],
                    pa.array([points[id_][0] for id_ in ids], pa.float32()),
                    pa.array([points[id_][1] for id_ in ids], pa.float32()),
                    pa.array(images, _IMAGE),
                    pa.array([readable_path(uri) for uri in uris], pa.string()),
                    *(table[name] for name in rest),
                ]
                writer.write_table(pa.table(arrays, schema=schema))
                done.rows += table.num_rows
                done.without_image += images.count(None)
    if not done.rows:
        raise CollectionError("None of the rows is on the map: compute it again with birder map DIR --recompute")
    return done
