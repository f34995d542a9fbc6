"""What became of each source, and how that becomes a commit: the same for threads and for Ray.

read_group -> described -> embedded -> commit_of
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.detection import NO_ANIMAL
from birder.collection.schema import LABEL_SOURCE, NOTHING_FORMER, Content, Failure, Former, Row
from birder.inference.engine import Engine, is_usable
from birder.pipeline.decode import Decoded, Unreadable
from birder.pipeline.known import Pending
from birder.sources import drop_off_earth, fitted

UNUSABLE_EMBEDDING = "the model gives it an embedding that is zero or not finite"


class Embedded(NamedTuple):
    """A source that can become a row.

    `content` None: another source with the same sha256 has the embedding, in this run or in the collection.
    """

    item: Pending
    sha256: str
    columns: dict[str, Any]
    off_earth: bool
    content: Content | None


@dataclass(slots=True)
class Commit:
    """Rows and failures to write, and what to report about them.

    Attributes
    ----------
    reused
        How many of the rows take an existing embedding.
    off_earth
        How many had a latitude or longitude out of range.
    failed
        Name and reason of each failure; that an image has no animal is none.
    finished
        How many of the sources of the plan are dealt with.
    without_animal
        How many of them are images on which no animal was found.
    former
        Rows and failures that no longer hold.
    """

    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    reused: int = 0
    off_earth: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    finished: int = 0
    without_animal: int = 0
    former: Former = NOTHING_FORMER


@dataclass
class Summary:
    """What a run did.

    Attributes
    ----------
    embedded, reused
        Rows written, and how many of them took an existing embedding.
    updated
        Existing rows that got other values in the user's columns.
    off_earth
        Rows whose shard gives a latitude or longitude out of range; their coordinates are empty.
    failed
        Name and reason of each source that failed.
    finished
        How many sources were dealt with: each is a row or a failure, or has a row for each box that was found.
    without_animal
        How many of them are images on which no animal was found.
    seconds
        How long it took.
    commits
        How many commits, or fragments within commits, added rows.
    stopped
        Whether it ended before all was done.
    """

    embedded: int = 0
    reused: int = 0
    updated: int = 0
    off_earth: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    finished: int = 0
    without_animal: int = 0
    seconds: float = 0.0
    commits: int = 0
    stopped: bool = False

    def add(self, commit: Commit) -> None:
        """Count what a commit writes."""
        self.embedded += len(commit.rows)
        self.reused += commit.reused
        self.off_earth += commit.off_earth
        self.failed += commit.failed
        self.finished += commit.finished
        self.without_animal += commit.without_animal


def described(read: Decoded | Unreadable, types: Mapping[str, pa.DataType]) -> Decoded | Unreadable:
    """Give a decoded source all columns of its row: what its source says takes precedence over what its shard says.

    Parameters
    ----------
    types
        Types of the columns that the sources of the run provide; values of shards are converted to them.
    """
    if isinstance(read, Unreadable):
        return read
    source = read.item.source
    told = {name: fitted(value, types[name]) if name in types else value for name, value in read.columns.items()}
    told |= source.columns
    by_folder = "label" not in told and source.label is not None
    label_source = "folder" if by_folder else "table" if told.get("label") is not None else None
    columns = {"label": source.label, LABEL_SOURCE: label_source, **told}
    off_earth = drop_off_earth(columns)
    return read._replace(columns=columns, off_earth=off_earth)


def embedded(engine: Engine, read: Sequence[Decoded | Unreadable], batch_size: int) -> list[Embedded | Unreadable]:
    """Embed all pixels, at most `batch_size` images at once; everything else stays as it is, in the same order."""
    outcomes: list[Embedded | Unreadable] = [
        each
        if isinstance(each, Unreadable)
        else Embedded(each.item, each.sha256, dict(each.columns), each.off_earth, None)
        for each in read
    ]
    fresh = [(i, each) for i, each in enumerate(read) if isinstance(each, Decoded) and each.pixels is not None]
    for start in range(0, len(fresh), batch_size):
        batch = fresh[start : start + batch_size]
        vectors, patches = _embed(engine, np.stack([each.pixels for _, each in batch if each.pixels is not None]))
        for number, (i, each) in enumerate(batch):
            if is_usable(vectors[number]):
                content = each.content(vectors[number], None if patches is None else patches[number])
                outcomes[i] = Embedded(each.item, each.sha256, dict(each.columns), each.off_earth, content)
            else:
                outcomes[i] = Unreadable(each.item, each.sha256, UNUSABLE_EMBEDDING)
    return outcomes


def _embed(
    engine: Engine, pixels: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16] | None]:
    """Embeddings (N, D) of images (N, H, W, 3), and their patch tokens (N, ...) in a row if the engine gives them."""
    if engine.patches is None:
        return engine.embed(pixels), None
    vectors, patches = engine.embed_with_patches(pixels)
    return vectors, patches.reshape(len(patches), -1)


def patches_bytes(shape: Sequence[int]) -> int:
    """Bytes that the patch tokens (rows, columns, D) of one image take, in float16."""
    return 2 * math.prod(shape)


def commit_of(outcomes: Sequence[Embedded | Unreadable], unreadable: MutableMapping[str, str]) -> Commit:
    """Turn outcomes into rows and failures, in their order.

    Parameters
    ----------
    unreadable
        By sha256, why contents could not be embedded before; those of `outcomes` are added. A source that waited for
        the embedding of such a content fails with it.
    """
    unreadable.update({each.sha256: each.reason for each in outcomes if isinstance(each, Unreadable) and each.sha256})
    commit = Commit()
    gone: list[str] = []
    overcome: list[str] = []
    for each in outcomes:
        item = each.item
        commit.finished += item.found is None or item.found.first
        if item.found is not None:
            gone += item.found.former.rows
            overcome += item.found.former.failures
        reason = each.reason if isinstance(each, Unreadable) else unreadable.get(each.sha256)
        if reason is not None:
            # A row is removed only if its file was read: a network share that is away for a minute costs no rows.
            known = item.known and each.sha256 is not None
            commit.failures.append(Failure(item.uri, reason, item.stamp, known=known))
            if reason == NO_ANIMAL:
                commit.without_animal += 1
            else:
                commit.failed.append((item.source.name, reason))
        elif isinstance(each, Embedded):
            assert item.stamp is not None
            row = Row(item.uri, each.sha256, item.stamp, each.content, each.columns, item.known, item.failed)
            commit.rows.append(row)
            commit.reused += each.content is None
            commit.without_animal += item.found is not None and item.found.animals == 0
            commit.off_earth += each.off_earth
    commit.former = Former(gone, overcome)
    return commit
