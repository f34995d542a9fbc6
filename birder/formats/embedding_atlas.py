"""Collections for Apple's Embedding Atlas: the map's x and y, small pictures, and what else has values.

It draws `x` and `y` as they are (`embedding-atlas FILE --x x --y y`), and shows a value {bytes, path} whose bytes are
those of an image as a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from birder.collection.schema import LABEL_SOURCE, VECTORS
from birder.errors import CollectionError
from birder.formats.snapshot import Snapshot
from birder.sources import uri_to_name

Thumbnails = Callable[[Sequence[str]], Mapping[str, bytes | str]]
"""Small JPEGs by uri, or why there is none."""

_OURS = (*VECTORS, "id", "uri", "sha256", "bytes", "modified", "etag", LABEL_SOURCE, "x", "y", "image", "file")
_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
_ROWS_AT_ONCE = 256  # pictures


@dataclass
class Charted:
    """What was written: rows, those left out as they are not on the map, and those without a picture."""

    rows: int = 0
    off_map: int = 0
    pictureless: int = 0


def write_embedding_atlas(
    snapshot: Snapshot, file: Path, places: Mapping[str, tuple[float, float]], thumbnails: Thumbnails
) -> Charted:
    """Write Parquet for Embedding Atlas: `id`, `x`, `y`, `image`, `file`, and what else has values.

    Parameters
    ----------
    snapshot
        The rows.
    file
        What to write.
    places
        Where each row is on the map, by its id; a row without a place is left out.
    thumbnails
        Gives the small pictures of some hundred rows.

    Raises
    ------
    CollectionError
        None of the rows is on the map.
    """
    rest = snapshot.filled([name for name in snapshot.schema.names if name not in _OURS])
    schema = pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("x", pa.float32()),
            pa.field("y", pa.float32()),
            pa.field("image", _IMAGE),
            pa.field("file", pa.string()),
            *(snapshot.schema.field(name) for name in rest),
        ]
    )
    done = Charted()
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in snapshot.batches(["id", "uri", *rest]):
            on_map = pa.array([id_ in places for id_ in batch["id"].to_pylist()], pa.bool_())
            done.off_map += batch.num_rows - on_map.true_count
            charted = batch.filter(on_map)
            for start in range(0, charted.num_rows, _ROWS_AT_ONCE):
                table = charted.slice(start, _ROWS_AT_ONCE)
                ids, uris = table["id"].to_pylist(), table["uri"].to_pylist()
                pictures = thumbnails(uris)
                images = [
                    {"bytes": found, "path": None} if isinstance(found := pictures[uri], bytes) else None
                    for uri in uris
                ]
                arrays = [
                    table["id"],
                    pa.array([places[id_][0] for id_ in ids], pa.float32()),
                    pa.array([places[id_][1] for id_ in ids], pa.float32()),
                    pa.array(images, _IMAGE),
                    pa.array([uri_to_name(uri) for uri in uris], pa.string()),
                    *(table[name] for name in rest),
                ]
                writer.write_table(pa.table(arrays, schema=schema))
                done.rows += table.num_rows
                done.pictureless += images.count(None)
    if not done.rows:
        raise CollectionError("None of the rows is on the map: compute it again with birder map DIR --recompute")
    return done
