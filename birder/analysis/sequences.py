"""Sequences: the images of one visit, taken by one camera shortly after one another.

Images of one deployment belong together while each was taken at most a gap after the one before; Agouti, TrapTagger
and camtraptor (`deltaTimeComparedTo = "lastRecord"`) group them in the same way. docs/sequences.md names the sources.

N is the number of rows, S of sequences. A row is an image, a frame of a video, or a box on one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.reading import RowReader
from birder.collection.schema import DEPLOYMENT, TIME_OF_IMAGE, whole_number
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import BOX, are_wrong
from birder.sources import image_of

GAP = 60.0
"""Seconds: images of a sequence follow each other within this time."""

Codes = npt.NDArray[np.int64]

_FURTHER = ("label", "category", "count", BOX)


def find_sequences(
    places: Codes, moments: Codes, timed: npt.NDArray[np.bool_], names: Codes, images: Codes, gap: float = GAP
) -> Codes:
    """Put rows into sequences: of one place, each at most `gap` after the one before, in order of time, then of name.

    Parameters
    ----------
    places
        (N,) int64: the deployment of each row.
    moments
        (N,) int64: when its image was taken, in microseconds; of any value where `timed` is False.
    timed
        (N,) bool: whether that is known.
    names
        (N,) int64: the place of each row in the order of names.
    images
        (N,) int64: the image that each row is of. Without a time, an image stays alone, with all its boxes.
    gap
        In seconds, 0 or more.

    Returns
    -------
    (N,) int64: the first row of each row's sequence, by its place in these arrays. A later image never changes that
    of the rows before it.
    """
    firsts = np.arange(len(places), dtype=np.int64)
    known = np.flatnonzero(timed)
    order = known[np.lexsort((names[known], moments[known], places[known]))]
    _set_firsts(firsts, order, (np.diff(places[order]) != 0) | (np.diff(moments[order]) > round(gap * 1e6)))
    unknown = np.flatnonzero(~timed)
    order = unknown[np.lexsort((names[unknown], images[unknown]))]
    _set_firsts(firsts, order, np.diff(images[order]) != 0)
    return firsts


def _set_firsts(firsts: Codes, order: Codes, parted: npt.NDArray[np.bool_]) -> None:
    """Write the first row of each run; `parted` says after which of the ordered rows one ends."""
    begins = np.r_[True, parted][: len(order)]
    firsts[order] = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]


def count_animals(sequences: Codes, images: Codes, animals: npt.NDArray[np.bool_]) -> Codes:
    """The largest number of animals on one image of each sequence.

    Parameters
    ----------
    sequences
        (N,) int64, 0 to S - 1: the sequence of each row.
    images
        (N,) int64: the image of each row; no two sequences share one.
    animals
        (N,) bool: whether the row is an animal's box.

    Returns
    -------
    (S,) int64.
    """
    counts = np.zeros(int(sequences.max()) + 1 if len(sequences) else 0, np.int64)
    if animals.any():
        _, first, boxes = np.unique(images[animals], return_index=True, return_counts=True)
        np.maximum.at(counts, sequences[animals][first], boxes)
    return counts


class TimedRows(NamedTuple):
    """What sequences are made of, in the order in which the rows were written.

    Attributes
    ----------
    table
        N rows: id, uri, taken_at, deployment (null if unknown), and sequence (null where there is none yet).
    filled
        (N,) bool: whether the deployment came from a column of another name, and `deployment` itself is empty.
    """

    table: pa.Table
    filled: npt.NDArray[np.bool_]


def read_timed_rows(rows: Storage | RowReader) -> TimedRows:
    """Read what sequences are made of; some 400 bytes a row, as long as uris are short."""
    own = dict(rows.columns)
    names = [name for name in DEPLOYMENT if name in own and not pa.types.is_nested(own[name])]
    wanted = ["id", "uri", *names, *(name for name in (TIME_OF_IMAGE, "sequence") if name in own)]
    table = _read(rows, wanted)
    count = table.num_rows
    deployment = pa.nulls(count, pa.string())
    first = pa.nulls(count, pa.string())
    for name in names:
        values = _array(table[name]).cast(pa.string())
        values = pc.if_else(pc.equal(pc.utf8_trim_whitespace(values), ""), pa.scalar(None, pa.string()), values)
        first = values if name == DEPLOYMENT[0] else first
        deployment = pc.coalesce(deployment, values)
    moments = pa.nulls(count, pa.timestamp("us"))
    if TIME_OF_IMAGE in own and pa.types.is_timestamp(own[TIME_OF_IMAGE]):
        moments = _array(table[TIME_OF_IMAGE]).cast(pa.timestamp("us"))
    told = table["sequence"] if "sequence" in wanted else pa.nulls(count, pa.string())
    filled = pc.and_(pc.is_null(first), pc.is_valid(deployment)).to_numpy(zero_copy_only=False)
    columns = {"id": table["id"], "uri": table["uri"], "taken_at": moments, "deployment": deployment, "sequence": told}
    return TimedRows(pa.table(columns), filled)


def sequence_ids(table: pa.Table, gap: float = GAP) -> pa.Array:
    """The id of each row's sequence, that of its first row: (N,) string.

    Images of one deployment make sequences; those without a deployment, images of one folder.

    Parameters
    ----------
    table
        N rows with id, uri, taken_at and deployment.
    gap
        In seconds.
    """
    if not table.num_rows:
        return pa.array([], pa.string())
    uris = table["uri"].to_pylist()
    folders = pa.array([uri.partition("#")[0].rpartition("/")[0] for uri in uris], pa.string())
    deployment = _array(table["deployment"])
    kind = pc.if_else(pc.is_valid(deployment), "d", "f")
    place = pc.binary_join_element_wise(kind, pc.coalesce(deployment, folders), " ")
    moments = _array(table["taken_at"]).cast(pa.int64())
    timed = pc.is_valid(moments).to_numpy(zero_copy_only=False)
    names = np.empty(len(uris), np.int64)
    names[pc.array_sort_indices(_array(table["uri"])).to_numpy()] = np.arange(len(uris))
    images = _codes(pa.array(map(image_of, uris), pa.string()))
    firsts = find_sequences(_codes(place), moments.fill_null(0).to_numpy(), timed, names, images, gap)
    return _array(table["id"]).take(pa.array(firsts))


def summarise_sequences(rows: Storage | RowReader) -> pa.Table:
    """A row for each sequence of a collection, by deployment, start and id; those without a deployment come last.

    Columns: `sequence` (its id), `deployment`, `start`, `end` (null without a time), `images`, `count` (int64; the
    largest value in the collection's column `count` where a person gave one; else the largest number of animals' boxes
    on one image; null where neither is known), and `labels` (those of its rows, joined by "; "). Boxes that a person
    said are wrong count as no animals. Takes memory as `read_timed_rows`.
    """
    own = rows.columns
    further = [name for name in _FURTHER if name in own]
    wanted = ["id", "uri", *(name for name in ("deployment", TIME_OF_IMAGE, "sequence") if name in own), *further]
    table = _read(rows, wanted)
    if "sequence" not in own or not table.num_rows:
        return _SUMMARY.empty_table()
    table = table.filter(pc.is_valid(table["sequence"])).combine_chunks()
    encoded = _array(table["sequence"]).dictionary_encode()
    ids = encoded.dictionary.to_pylist()
    sequences = encoded.indices.to_numpy().astype(np.int64)
    images = _codes(pa.array(map(image_of, table["uri"].to_pylist()), pa.string()))
    number = len(ids)
    first_of_image = np.unique(images, return_index=True)[1]
    columns: dict[str, pa.Array | list[object]] = {"sequence": pa.array(ids, pa.string())}
    columns["deployment"] = _first_values(table, "deployment", sequences, number)
    start, end = _ends(table, sequences, number)
    columns |= {"start": start, "end": end}
    columns["images"] = pa.array(np.bincount(sequences[first_of_image], minlength=number), pa.int64())
    columns["count"] = pa.array(_counts(table, sequences, images, number), pa.int64())
    columns["labels"] = pa.array(_labels(table, sequences, number), pa.string())
    found = pa.table(columns, schema=_SUMMARY)
    return found.sort_by([("deployment", "ascending"), ("start", "ascending"), ("sequence", "ascending")])


_SUMMARY = pa.schema(
    [
        ("sequence", pa.string()),
        ("deployment", pa.string()),
        ("start", pa.timestamp("us")),
        ("end", pa.timestamp("us")),
        ("images", pa.int64()),
        ("count", pa.int64()),
        ("labels", pa.string()),
    ]
)


def _counts(table: pa.Table, sequences: Codes, images: Codes, number: int) -> list[int | None]:
    """How many animals each sequence shows: as a person said, else by boxes; None if neither is known."""
    said: dict[int, int] = {}
    if "count" in table.column_names:
        for sequence, value, wrong in zip(
            sequences.tolist(), table["count"].to_pylist(), are_wrong(table), strict=True
        ):
            if not wrong and (given := whole_number(value)) is not None:
                said[sequence] = max(given, said.get(sequence, 0))
    boxes: Sequence[int | None] = [None] * number
    if "category" in table.column_names:
        category = _array(table["category"])
        known = np.zeros(number, bool)
        known[sequences[pc.is_valid(category).to_numpy(zero_copy_only=False)]] = True
        animals = pc.equal(category, "animal").fill_null(False).to_numpy(zero_copy_only=False) & ~are_wrong(table)
        by_boxes = count_animals(np.r_[sequences, number - 1], np.r_[images, -1], np.r_[animals, False])
        boxes = [count if there else None for count, there in zip(by_boxes.tolist(), known, strict=True)]
    return [said.get(sequence, boxes[sequence]) for sequence in range(number)]


def _labels(table: pa.Table, sequences: Codes, number: int) -> list[str | None]:
    found: list[Counter[str]] = [Counter() for _ in range(number)]
    if "label" in table.column_names:
        for sequence, label, wrong in zip(
            sequences.tolist(), table["label"].to_pylist(), are_wrong(table), strict=True
        ):
            if label and not wrong:
                found[sequence][label] += 1
    return ["; ".join(sorted(each)) or None for each in found]


def _first_values(table: pa.Table, name: str, sequences: Codes, number: int) -> pa.Array:
    """Of each sequence, the value of its first row that has one."""
    if name not in table.column_names:
        return pa.nulls(number, pa.string())
    values = _array(table[name])
    rows = np.flatnonzero(pc.is_valid(values).to_numpy(zero_copy_only=False))
    there, first = np.unique(sequences[rows], return_index=True)
    where: list[int | None] = [None] * number
    for sequence, row in zip(there.tolist(), rows[first].tolist(), strict=True):
        where[sequence] = row
    return values.take(pa.array(where, pa.int64()))


def _ends(table: pa.Table, sequences: Codes, number: int) -> tuple[pa.Array, pa.Array]:
    """When each sequence starts and ends."""
    nothing = pa.nulls(number, pa.timestamp("us"))
    if TIME_OF_IMAGE not in table.column_names or not pa.types.is_timestamp(table[TIME_OF_IMAGE].type):
        return nothing, nothing
    moments = _array(table[TIME_OF_IMAGE]).cast(pa.timestamp("us")).cast(pa.int64())
    rows = np.flatnonzero(pc.is_valid(moments).to_numpy(zero_copy_only=False))
    values = moments.fill_null(0).to_numpy()[rows]
    start = np.full(number, np.iinfo(np.int64).max)
    end = np.full(number, np.iinfo(np.int64).min)
    np.minimum.at(start, sequences[rows], values)
    np.maximum.at(end, sequences[rows], values)
    unknown = start > end
    return tuple(pa.array(each, pa.int64(), mask=unknown).cast(pa.timestamp("us")) for each in (start, end))


def _read(rows: Storage | RowReader, names: list[str]) -> pa.Table:
    if batches := list(rows.scan(names)):
        return pa.Table.from_batches(batches).combine_chunks()
    return pa.schema([(name, rows.columns[name]) for name in names]).empty_table()


def _codes(values: pa.Array) -> Codes:
    codes: Codes = values.dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
