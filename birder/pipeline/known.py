"""What a collection knows of an image that a user names: whether it is done, has failed, or is due.

Of a run that detects, an image has a row for each animal on it. Each of these rows tells how many there are, so that
an image is done when that many rows, and failures of boxes, have the file's stamp: a run that was killed between two
commits leaves no image that only looks done.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from birder.collection.inventory import Index, Shard
from birder.collection.schema import Former
from birder.sources import Source, Stamp, image_of
from birder.sources.source import box_of


@dataclass(slots=True)
class Pending:
    """A source that is due: `known` and `failed` say that the collection has its row, or its failure, already.

    Of a run that detects: `before` has the rows of its boxes so far, with their stamps and how many boxes their image
    had; `failed_boxes`, the uris of boxes that failed. What detection makes of it are further `Pending`: `counts` is
    then 1 for the first of an image and 0 for the others, `animals` how many there are, and `former` what they replace.
    """

    source: Source
    stamp: Stamp | None
    known: bool = False
    failed: bool = False
    before: Mapping[str, tuple[Stamp, int]] | None = None
    failed_boxes: frozenset[str] = frozenset()
    counts: int = 1
    animals: int | None = None
    former: Former | None = None

    @property
    def uri(self) -> str:
        """The key of its row."""
        return self.source.uri


class Known:
    """What a collection has.

    Parameters
    ----------
    index
        Its rows and failures.
    detects
        Whether the run finds boxes.
    """

    def __init__(self, index: Index, *, detects: bool) -> None:
        self._index = index
        self._detects = detects
        self._rows: dict[str, list[str]] = defaultdict(list)
        self._failures: dict[str, list[str]] = defaultdict(list)
        if detects:
            for uri in index.detections:
                self._rows[image_of(uri)].append(uri)
            for uri in index.failures:
                if (image := image_of(uri)) != uri:
                    self._failures[image].append(uri)

    def is_done(self, uri: str, stamp: Stamp | None) -> bool:
        """Whether all rows of an image are there, made from the file as it is."""
        if not self._detects:
            return uri in self._index.rows and self._index.rows[uri] == stamp
        rows = [each for each in self._rows.get(uri, ()) if self._index.rows[each] == stamp]
        failed = sum(self._index.failures[each] == stamp for each in self._failures.get(uri, ()))
        return bool(rows) and len(rows) + failed >= max(1, *(self._index.detections[each] for each in rows))

    def has_failed(self, uri: str, stamp: Stamp | None, *, retry: bool) -> bool:
        """Whether an image has failed before and is left alone; that it has no animal is not tried again."""
        failures, noted = self._index.failures, uri in self._index.noted
        if uri not in failures or failures[uri] != stamp:
            return False
        if self._detects and noted:
            return True
        return not retry and not noted and uri not in (self._rows if self._detects else self._index.rows)

    def rows(self, source: Source) -> list[Source]:
        """The sources of the rows of an image that is done: itself, or its boxes."""
        if not self._detects:
            return [source]
        return [replace(source, box=box_of(uri.partition("#")[2])) for uri in self._rows[source.uri]]

    def pending(self, source: Source, stamp: Stamp | None) -> Pending:
        """An image that is due."""
        item = Pending(source, stamp)
        self.look_again(item)
        return item

    def look_again(self, item: Pending) -> None:
        """Set what the collection has of an image."""
        uri = item.uri
        item.known, item.failed = uri in self._index.rows, uri in self._index.failures
        rows = self._rows.get(uri)
        item.before = {each: (self._index.rows[each], self._index.detections[each]) for each in rows} if rows else None
        item.failed_boxes = frozenset(self._failures.get(uri, ()))

    def overcome(self) -> int:
        """How many failures are of images that have become rows."""
        return sum(uri in self._index.rows for uri in self._index.failures)

    def of_shards(self, shards: Mapping[str, Shard]) -> tuple[Counter[str], Counter[str]]:
        """How many of a shard's images are done, and have failed, with the stamp that it had when it was scanned."""
        done: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        if not shards:
            return done, failed
        for uri in self._rows if self._detects else self._index.rows:
            whole = uri.partition("#")[0]
            if whole in shards and whole != uri and image_of(uri) == uri:
                done[whole] += self.is_done(uri, shards[whole].stamp)
        for uri, stamp in self._index.failures.items():
            whole = uri.partition("#")[0]
            if whole in shards and whole != uri and image_of(uri) == uri:
                here = stamp == shards[whole].stamp and (self._detects or uri not in self._index.noted)
                failed[whole] += here
        return done, failed
