"""What a run has to do: which sources are due, by size and time of their files alone, and which provide columns."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from birder.collection.schema import column_types, fits
from birder.collection.storage import Index, Shard, Storage
from birder.errors import CollectionError
from birder.pipeline.boxes import COLUMNS, Detecting
from birder.pipeline.known import Known, Pending
from birder.sources import Rows, Source, Stamp, TableRow, common_type, is_url, stamp_of
from birder.sources.video import VideoFrame

_REMOTE_AT_ONCE = 32


@contextlib.contextmanager
def many_objects() -> Iterator[None]:
    """Make many objects that stay and are in no cycles, without Python's search for cycles: a third of the time."""
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()


@dataclass
class Plan:
    """What a run has to do: the sources that are due, and how many exist already or failed before.

    `described` are those that exist and provide columns, which may be new; `shards`, those scanned; `overcome`, how
    many failures are of images that have become rows; `version`, that of the rows it was made from; `roots`, the paths
    in which the sources were found; `detecting`, how boxes are found, or None if images are embedded whole.
    """

    pending: list[Pending]
    done: int = 0
    failed_before: int = 0
    contents: set[bytes] = field(default_factory=set)
    described: list[Source] = field(default_factory=list)
    shards: dict[str, Shard] = field(default_factory=dict)
    overcome: int = 0
    version: int | None = None
    roots: Sequence[str] = ()
    detecting: Detecting | None = None

    @property
    def total(self) -> int:
        """How many sources there are."""
        return len(self.pending) + self.done + self.failed_before

    def renew(self, collection: Storage) -> None:
        """Take into account what others have committed since the plan was made; within `running` only."""
        if collection.version == self.version:
            return
        index = collection.index()
        known = Known(index, None if self.detecting is None else self.detecting.empty)
        pending = []
        for item in self.pending:
            known.look_again(item)
            if known.is_done(item.uri, item.stamp) and item.source.problem is None:
                self.done += 1
            else:
                pending.append(item)
        self.pending = pending
        self.contents = index.contents

    def column_types(self) -> dict[str, pa.DataType]:
        """Names and Arrow types of the columns that the images provide.

        Raises
        ------
        CollectionError
            A name that is Birder's own, or a column of Birder's own with another type.
        """
        types = column_types_of(chain((item.source for item in self.pending), self.described))
        if self.detecting is None:
            return types
        for name, type_ in COLUMNS.items():
            if not fits(types.get(name, type_), type_):
                raise CollectionError(
                    f"The column {name} must be {type_}, for detection fills it, but is {types[name]} in the table: "
                    "rename it."
                )
        return types | dict(COLUMNS)


def plan(
    collection: Storage | None,
    sources: Iterable[Source],
    *,
    retry_failed: bool = False,
    detecting: Detecting | None = None,
) -> Plan:
    """Find which sources are due, by path, size and time alone: no image is read.

    Shards are scanned without reading their images; an unchanged one whose images are all done is not even scanned.

    Parameters
    ----------
    collection
        None if it does not exist yet.
    sources
        The sources that should be in it.
    retry_failed
        Also try those that failed before and have not changed since.
    detecting
        How boxes are found, each of which becomes a row; None to embed images whole.
    """
    version = None if collection is None else collection.version
    index = Index({}, {}, set()) if collection is None else collection.index()
    known_shards = {} if collection is None else collection.shards()
    known = Known(index, None if detecting is None else detecting.empty)
    result = Plan([], contents=index.contents, overcome=known.overcome(), version=version, detecting=detecting)
    rows, failures = known.of_shards(known_shards)
    for source, stamp in _stamped(sources, index):
        if source.members is None:
            _consider(source, stamp, known, retry_failed, result)
            continue
        uri = source.uri
        shard = known_shards.get(uri)
        finished = shard is not None and rows[uri] + failures[uri] == shard.images and shard.stamp == stamp
        unchanged = finished and source.members.settled and not source.columns  # columns may be new to its rows
        if unchanged and not (retry_failed and failures[uri]):
            result.done += rows[uri]
            result.failed_before += failures[uri]
            continue
        count, whole = 0, stamp is not None
        for member in source.members.sources():
            if member.problem is None:
                count += 1
            else:
                whole = False
            _inherit(member, source)
            _consider(member, stamp, known, retry_failed, result)
        if whole and stamp is not None and source.members.settled:
            result.shards[uri] = Shard(stamp, count)
    return result


def _inherit(member: Source, shard: Source) -> None:
    """Give an image of a shard what is known about all of them: label and columns."""
    member.label = shard.label if member.label is None else member.label
    if not shard.columns or member.problem is not None:
        return
    member.describe(shard.columns)
    if isinstance(member.part, VideoFrame) and isinstance(begun := shard.columns.get("taken_at"), datetime):
        member.describe({"taken_at": begun + timedelta(milliseconds=member.part.milliseconds)})


def _consider(source: Source, stamp: Stamp | None, known: Known, retry_failed: bool, result: Plan) -> None:
    uri = source.uri
    if source.problem is None and known.is_done(uri, stamp):
        result.done += 1
        if source.columns:
            result.described += known.rows(source)
    elif known.has_failed(uri, stamp, retry=retry_failed):
        result.failed_before += 1
    else:
        result.pending.append(known.pending(source, stamp))


def _stamped(sources: Iterable[Source], index: Index) -> Iterator[tuple[Source, Stamp | None]]:
    """Sources with their stamps; servers are asked about many at once, and only about what the collection knows."""
    last: tuple[str, Stamp | None] = ("", None)
    rest = iter(sources)
    with ThreadPoolExecutor(_REMOTE_AT_ONCE, thread_name_prefix="birder-plan") as pool:

        def ask(source: Source) -> Stamp | None:
            uri = source.uri
            wanted = source.members is not None or uri in index.rows or uri in index.failures
            return stamp_of(source) if wanted else None

        while chunk := list(islice(rest, 1024)):
            remote = [source for source in chunk if is_url(source.path)]
            answers = dict(zip((source.path for source in remote), pool.map(ask, remote), strict=True))
            for source in chunk:
                if source.path in answers:
                    yield source, answers[source.path]
                    continue
                if source.path != last[0]:  # the boxes of one image share its stamp
                    last = (source.path, stamp_of(source))
                yield source, last[1]


def column_types_of(sources: Iterable[Source]) -> dict[str, pa.DataType]:
    """Names and Arrow types of the columns that sources provide; see `Plan.column_types`."""
    types: dict[str, pa.DataType | None] = {}
    seen: set[int] = set()
    loose: dict[str, Sequence[Any]] = {}

    def note(key: int, known: Iterable[tuple[str, pa.DataType]]) -> None:
        if key not in seen:
            seen.add(key)
            for name, type_ in known:
                types[name] = common_type(types.get(name), type_)

    for source in sources:
        if source.part is not None:
            note(id(source.part.types), source.part.types.items())
        for columns in source.columns.rows if isinstance(source.columns, Rows) else (source.columns,):
            if isinstance(columns, TableRow):
                note(id(columns.table), zip(columns.table.schema.names, columns.table.schema.types, strict=True))
                continue
            for name, value in columns.items():
                loose.setdefault(name, []).append(value)  # type: ignore[attr-defined]
    return column_types(loose) | column_types({name: pa.nulls(0, type_) for name, type_ in types.items()})
