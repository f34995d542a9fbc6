"""Shards made of given members and rows."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Member = tuple[str, bytes]


def write_tar(path: Path, members: list[Member], format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path: Path, rows: int, group: int) -> Path:
    images = [{"bytes": b"%d" % i * 100, "path": f"{i}.jpg"} for i in range(rows)]
    names = {"label": {"_type": "ClassLabel", "names": ["owl", "wren"]}}
    table = pa.table(
        {
            "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array([i % 2 for i in range(rows)]),
            "uri": [f"u{i}" for i in range(rows)],
            "tags": [["a", str(i)] for i in range(rows)],
            "n": pa.array(range(rows), pa.uint8()),
        },
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": names}})})
    pq.write_table(table, path, row_group_size=group)
    return path


TREE = [
    ("20.jpg", b"owl"),
    ("20.taxonomic_name.txt", b"Animalia Chordata Aves Strigiformes Strigidae Strix aluco"),
    ("20.common_name.txt", b" tawny owl\n"),
    ("20.json", b'{"trap": 7, "place": {"x": 1}, "id": "a"}'),
    ("21.jpg", b"moss"),
    ("21.common_name.txt", b""),
    ("21.json", b'{"trap": 7.5}'),
]
