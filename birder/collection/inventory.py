"""What a collection has already: all that is needed to find what is missing without reading an image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.detection import DETECTIONS, NO_ANIMAL
from birder.collection.disk import storing
from birder.collection.places import below
from birder.files import replacing
from birder.sources import Stamp

COLUMNS = ("uri", "sha256", *Stamp._fields)
"""Columns of the rows that an index is made of."""
FAILURE_COLUMNS = ("uri", "reason", *Stamp._fields)
"""Columns of the failures that an index is made of."""
_SHARDS = "shards.json"


class Index(NamedTuple):
    """What a collection has: uri -> stamp of its rows and of its failures, and the sha256 (raw) of all contents.

    `detections` has the rows that a detector made: uri -> how many animals it found on the row's image. `noted` has the
    failures that only say that an image has no animal.
    """

    rows: dict[str, Stamp]
    failures: dict[str, Stamp | None]
    contents: set[bytes]
    detections: dict[str, int] = {}  # noqa: RUF012 - never changed
    noted: frozenset[str] = frozenset()


class Shard(NamedTuple):
    """A shard as it was when a run scanned it, and how many images are in it."""

    stamp: Stamp
    images: int


def index_of(rows: Iterable[pa.RecordBatch], failures: Iterable[pa.RecordBatch]) -> Index:
    """The index of rows with `COLUMNS`, and `DETECTIONS` if there is one, and failures with `FAILURE_COLUMNS`."""
    stamps: dict[str, Stamp] = {}
    contents: set[bytes] = set()
    detections: dict[str, int] = {}
    noted: set[str] = set()
    for batch in rows:
        stamps.update(zip(batch["uri"].to_pylist(), _stamps(batch), strict=True))
        contents.update(filter(None, map(_digest, batch["sha256"].to_pylist())))
        if DETECTIONS in batch.schema.names:
            found = zip(batch["uri"].to_pylist(), batch[DETECTIONS].to_pylist(), strict=True)
            detections.update((uri, count) for uri, count in found if count is not None)
    failed: dict[str, Stamp | None] = {}
    for batch in failures:
        known = (None if stamp == (None, None, None) else stamp for stamp in _stamps(batch))
        failed.update(zip(batch["uri"].to_pylist(), known, strict=True))
        noted.update(batch["uri"].filter(pc.equal(batch["reason"], NO_ANIMAL)).to_pylist())
    return Index(stamps, failed, contents, detections, frozenset(noted))


def read_shards(path: Path) -> dict[str, Shard]:
    """The shards that were scanned, by uri: an unchanged one need not be scanned again."""
    try:
        stored = json.loads((path / _SHARDS).read_bytes())
        return {uri: Shard(Stamp(*stamp), int(count)) for uri, (stamp, count) in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # it only saves time


def add_shards(path: Path, shards: Mapping[str, Shard]) -> None:
    """Store shards with the known ones; the caller holds the right to write."""
    with storing(path), replacing(path / _SHARDS) as draft:
        draft.write_text(json.dumps(read_shards(path) | dict(shards)))


def forget_shards(path: Path, places: Sequence[str]) -> None:
    """Forget the shards scanned in some places, so that the next run scans them; the caller may write."""
    shards = read_shards(path)
    left = {uri: shard for uri, shard in shards.items() if all(below(uri, place) is None for place in places)}
    if len(left) < len(shards):
        with storing(path), replacing(path / _SHARDS) as draft:
            draft.write_text(json.dumps(left))


def _digest(sha256: str) -> bytes | None:
    """The bytes of a sha256; None for any other text, which a collection made by other software may have."""
    try:
        return bytes.fromhex(sha256)
    except ValueError:
        return None


def _stamps(batch: pa.RecordBatch) -> Iterator[Stamp]:
    columns = (batch["bytes"], batch["modified"].cast(pa.int64()), batch["etag"])
    return map(Stamp, *(column.to_pylist() for column in columns))
