"""What a collection knows of an image that a user names: whether it is done, has failed, or is due.

Of a run that detects, an image has a row for each animal on it. Each of these rows tells how many there are, so that
an image is done when that many rows, and failures of boxes, have the file's stamp: a run that was killed between two
commits leaves no image that only looks done.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from birder.collection.detection import Empty
from birder.collection.inventory import Index, Shard
from birder.collection.schema import NOTHING_FORMER, Former
from birder.sources import Source, Stamp, image_of
from birder.sources.source import box_of


class Boxes(NamedTuple):
    """What a collection has of an image's boxes.

    Attributes
    ----------
    rows
        The rows that a detector made, of the whole image, too: uri -> stamp, and how many animals were found.
    failures
        Uris of boxes that failed.
    """

    rows: Mapping[str, tuple[Stamp, int]]
    failures: frozenset[str]


NO_BOXES = Boxes({}, frozenset())


class Found(NamedTuple):
    """What detection has found on the image of a box.

    Attributes
    ----------
    first
        Whether the box is the first of the image's that are due.
    animals
        How many animals there are.
    former
        What no longer holds of the image; the first has it.
    """

    first: bool
    animals: int
    former: Former = NOTHING_FORMER


@dataclass(slots=True)
class Pending:
    """A source that is due: `known` and `failed` say that the collection has its row, or its failure, already.

    Of a run that detects: `boxes` is what the collection has of an image's boxes. What detection makes of the image
    are further `Pending`, one a box, with what was `found`.
    """

    source: Source
    stamp: Stamp | None
    known: bool = False
    failed: bool = False
    boxes: Boxes = NO_BOXES
    found: Found | None = None

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
    empty
        What becomes of images without an animal in a run that detects; None for a run that does not.
    """

    def __init__(self, index: Index, empty: Empty | None) -> None:
        self._index = index
        self._detects = detects = empty is not None
        self._notes = empty == "note"
        self._rows: dict[str, list[str]] = defaultdict(list)
        self._failures: dict[str, list[str]] = defaultdict(list)
        if detects:
            for uri in index.detections:
                self._rows[image_of(uri)].append(uri)
            for uri in index.failures:
                if (image := image_of(uri)) != uri:
                    self._failures[image].append(uri)

    def is_done(self, uri: str, stamp: Stamp | None) -> bool:
        """Whether all rows of an image are there, made from the file as it is, or that it has no animal is noted."""
        if not self._detects:
            return uri in self._index.rows and self._index.rows[uri] == stamp
        if uri in self._index.noted and self._notes:
            return self._index.failures[uri] == stamp
        rows = [each for each in self._rows.get(uri, ()) if self._index.rows[each] == stamp]
        failed = sum(self._index.failures[each] == stamp for each in self._failures.get(uri, ()))
        return bool(rows) and len(rows) + failed >= max(1, *(self._index.detections[each] for each in rows))

    def has_failed(self, uri: str, stamp: Stamp | None, *, retry: bool) -> bool:
        """Whether an image has failed before and is left alone."""
        failures, rows = self._index.failures, self._rows if self._detects else self._index.rows
        if retry or uri in rows or uri in self._index.noted:
            return False
        return uri in failures and failures[uri] == stamp

    def rows(self, source: Source) -> list[Source]:
        """The sources of the rows of an image that is done: itself, or its boxes."""
        if not self._detects:
            return [source]
        return [replace(source, box=box_of(uri.partition("#")[2])) for uri in self._rows.get(source.uri, ())]

    def pending(self, source: Source, stamp: Stamp | None) -> Pending:
        """An image that is due."""
        item = Pending(source, stamp)
        self.look_again(item)
        return item

    def look_again(self, item: Pending) -> None:
        """Set what the collection has of an image."""
        uri = item.uri
        item.known, item.failed = uri in self._index.rows, uri in self._index.failures
        if uri in self._rows or uri in self._failures:
            rows = {each: (self._index.rows[each], self._index.detections[each]) for each in self._rows.get(uri, ())}
            item.boxes = Boxes(rows, frozenset(self._failures.get(uri, ())))

    def overcome(self) -> int:
        """How many failures are of images that have become rows."""
        return sum(uri in self._index.rows for uri in self._index.failures)

    def of_shards(self, shards: Mapping[str, Shard]) -> tuple[Counter[str], Counter[str]]:
        """How many of a shard's images are done, and have failed, with the stamp that it had when it was scanned."""
        done: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        if not shards:
            return done, failed
        noted = self._index.noted if self._notes else set()
        for uri in self._rows.keys() | noted if self._detects else self._index.rows:
            whole = uri.partition("#")[0]
            if whole in shards and whole != uri and image_of(uri) == uri:
                done[whole] += self.is_done(uri, shards[whole].stamp)
        for uri, stamp in self._index.failures.items():
            whole = uri.partition("#")[0]
            if whole in shards and whole != uri and image_of(uri) == uri and uri not in self._index.noted:
                failed[whole] += stamp == shards[whole].stamp
        return done, failed
