"""Captures: which species passed which camera, in which visit and when first; and how long each camera was out.

A capture is one species in one sequence, however many images and boxes show it. N is the number of rows, D of
deployments, E of events (sequences, and images without one), S of species, C of captures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.filter import Filter
from birder.collection.journal import Journal
from birder.collection.predictions import LABEL, PREFIX
from birder.collection.provenance import with_sources_told
from birder.collection.reading import RowReader
from birder.collection.schema import DEPLOYMENT, LABEL_SOURCE, TIME_OF_IMAGE
from birder.errors import unknown_name
from birder.formats.camtrap.observations import NOT_ANIMALS
from birder.sources import image_of
from birder.taxonomy import RANKS

Codes = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

START, END = "deploymentStart", "deploymentEnd"
"""Columns of a deployment's dates, as Camtrap DP names them; local times, as `taken_at`."""
DAY = 86_400_000_000
"""Microseconds."""

KINDS = ("animal", "human", "vehicle", "blank", "unnamed")
_LOWEST_FIRST = RANKS[::-1]
_BY_PEOPLE = ("label", "scientificName", *_LOWEST_FIRST)
_OF_SEQUENCE = PREFIX + "sequence_"
_BY_MODELS = (
    *(_OF_SEQUENCE + name for name in ("label", *_LOWEST_FIRST)),
    *(LABEL, *(PREFIX + rank for rank in _LOWEST_FIRST)),
)
_BY_DETECTORS = {"category": ("person", "vehicle"), "observationType": ("human", "vehicle", "blank", "unknown")}
_PLACE = ("latitude", "longitude")
_FURTHER = (*DEPLOYMENT, *_BY_DETECTORS, TIME_OF_IMAGE, "sequence", *_PLACE, START, END, LABEL_SOURCE)
_NO_NAMES = {"animal", "unclassified", "unidentified"}
_SEPARATOR = " | "  # between several names of one image, from Camtrap DP
_ROWS = 65_536  # read at once
_NEVER = np.iinfo(np.int64).max
_YEARS = (-62_135_596_800_000_000, 253_402_300_799_000_000)  # 1 to 9999


@dataclass(frozen=True)
class Deployment:
    """A camera at a place for a time.

    Attributes
    ----------
    name
        As the rows have it.
    start, end
        Its dates where the rows tell them, else its first and last image; None where neither is known.
    known_by
        Which of these it was: "dates" or "images"; None.
    nights
        From start to end, of 24 hours each; at least 1 where they are told by images. None where they are not known.
    latitude, longitude
        Degrees; None if unknown.
    events, animals, humans, vehicles, blanks, unnamed
        Events, and how many of them show animals with a name, humans, vehicles, nothing in all of their images, and
        none of these.
    """

    name: str
    start: datetime | None
    end: datetime | None
    known_by: Literal["dates", "images"] | None
    nights: float | None
    latitude: float | None
    longitude: float | None
    events: int
    animals: int
    humans: int
    vehicles: int
    blanks: int
    unnamed: int


@dataclass(frozen=True, eq=False)
class Captures:
    """What the rows of a collection tell about captures and effort.

    Attributes
    ----------
    deployments
        By name; the last, with an empty name, is of the rows without one, and is there only if there are such rows.
    species
        S names, by the number of captures and then by name.
    deployment, name
        (C,) int64 codes: the places of each capture's deployment and species in these.
    moment
        (C,) int64 microseconds: the time of the first image of the species in the event; -1 << 63 if unknown.
    rows, untimed, undeployed, by_folder
        Numbers of rows: all, without a time, without a deployment, named after their folder.
    """

    deployments: tuple[Deployment, ...]
    species: tuple[str, ...]
    deployment: Codes
    name: Codes
    moment: Codes
    rows: int
    untimed: int
    undeployed: int
    by_folder: int

    @property
    def timed(self) -> Bools:
        """(C,) bool: whether the time is known."""
        known: Bools = self.moment != NO_TIME
        return known


NO_TIME = np.iinfo(np.int64).min
"""The moment of a capture without a time."""


def read_captures(
    rows: RowReader, journal: Journal, *, column: str | None = None, where: Filter | None = None
) -> Captures:
    """Read the captures of a collection, whatever the order of its rows.

    A row's name is its label, else its lowest rank, else what its box or Camtrap DP says it is (a person, a vehicle,
    nothing), else the prediction for its sequence, else its own prediction. Takes some 200 bytes a row
    and 300 an event.

    Parameters
    ----------
    rows
        Of a collection, in one version: `Storage.snapshot`.
    journal
        Of the collection: it tells which names of folders a person has confirmed.
    column
        Names are in this column alone.
    where
        A filter: only these rows.

    Raises
    ------
    UnknownNameError
        There is no such column.
    """
    read = _read(rows, journal, column, where)
    kinds, parts, species = _named(read.names)
    event_keys, events = np.unique(
        read.columns["deployment"] * (len(read.sequences) + 1) + read.columns["sequence"], return_inverse=True
    )
    del event_keys
    row, part = _expanded(read.columns["name"], parts)
    flags = np.zeros((int(events.max(initial=-1)) + 1, len(KINDS)), bool)
    flags[events[row], kinds[part]] = True
    shown = kinds[part] == 0
    event, name = events[row[shown]], part[shown]
    moment = read.columns["moment"][row[shown]]
    order = np.lexsort((np.where(moment == NO_TIME, _NEVER, moment), name, event))
    first = order[np.r_[True, (np.diff(event[order]) != 0) | (np.diff(name[order]) != 0)][: len(order)]]
    place, rank = _sorted_by_name(read.deployments), _ranked(name[first], species)
    of_event = np.full(len(flags), -1)
    of_event[events] = place[read.columns["deployment"]]
    deployments = _deployments(read, place, of_event, flags)
    named = sorted(range(len(species)), key=lambda code: int(rank[code]))
    return Captures(
        tuple(deployments),
        tuple(species[code] for code in named if rank[code] >= 0),
        of_event[event[first]],
        rank[name[first]],
        moment[first],
        len(events),
        int((read.columns["moment"] == NO_TIME).sum()),
        int((read.columns["deployment"] < 0).sum()),
        read.by_folder,
    )


class _Codes(dict[str, int]):
    """Texts by the order in which they were met."""

    def encode(self, values: pa.Array) -> Codes:
        """The code of each text; -1 for null."""
        encoded = values.dictionary_encode()
        codes = [self.setdefault(each, len(self)) for each in encoded.dictionary.to_pylist()]
        places = encoded.indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)
        found: Codes = np.array([*codes, -1], np.int64)[places]
        return found


class _Read(NamedTuple):
    """The rows in numbers: what texts the codes stand for, and (N,) columns."""

    deployments: _Codes
    sequences: _Codes
    names: _Codes
    dates: dict[str, _Codes]
    columns: dict[str, Codes]
    latitude: npt.NDArray[np.float64]
    longitude: npt.NDArray[np.float64]
    by_folder: int


def _read(rows: RowReader, journal: Journal, column: str | None, where: Filter | None) -> _Read:
    own = {name: type_ for name, type_ in rows.columns.items() if not pa.types.is_nested(type_)}
    if column is not None and column not in own:
        raise unknown_name("column", column, own)
    people = [name for name in ([column] if column else _BY_PEOPLE) if name in own]
    models = [] if column else [name for name in _BY_MODELS if name in own]
    wanted = [*people, *models]
    wanted += [name for name in _FURTHER if name in own]
    if "sequence" not in own or rows.count_filled("sequence", where) < rows.count(where):
        wanted.append("uri")
    read = _Read(_Codes(), _Codes(), _Codes(), {START: _Codes(), END: _Codes()}, {}, np.empty(0), np.empty(0), 0)
    found: dict[str, list[npt.NDArray[Any]]] = {
        name: [] for name in ("deployment", "sequence", "name", "moment", START, END, *_PLACE)
    }
    by_folder = 0
    told = LABEL_SOURCE in own and "label" in people
    if told:
        wanted.append("id")
        journal.read()
    for table in rows.tables(list(dict.fromkeys(wanted)) or ["id"], where, rows=_ROWS):
        found["deployment"].append(read.deployments.encode(_first_text(table, DEPLOYMENT)))
        found["sequence"].append(read.sequences.encode(_sequences(table)))
        given = _first_text(table, people)
        detected = [_only(_first_text(table, [name]), values) for name, values in _BY_DETECTORS.items()]
        found["name"].append(read.names.encode(pc.coalesce(given, *detected, _first_text(table, models))))
        found["moment"].append(_moments(table))
        for name, codes in read.dates.items():
            found[name].append(codes.encode(_first_text(table, [name])))
        for name in _PLACE:
            found[name].append(_degrees(table, name))
        if told:
            sources = with_sources_told(table, journal)[LABEL_SOURCE]
            of_folder = pc.and_(pc.equal(sources, "folder"), pc.is_valid(table["label"]))
            by_folder += pc.sum(of_folder).as_py() or 0
    columns: dict[str, Any] = {
        name: np.concatenate(arrays) if arrays else np.empty(0, np.int64) for name, arrays in found.items()
    }
    latitude, longitude = columns.pop("latitude"), columns.pop("longitude")
    return read._replace(columns=columns, latitude=latitude, longitude=longitude, by_folder=by_folder)


def _first_text(table: pa.Table, names: Iterable[str]) -> pa.Array:
    """Of each row, the first of these columns that is there and has more than spaces; null if none has."""
    values = pa.nulls(table.num_rows, pa.string())
    for name in names:
        if name in table.column_names:
            column = pc.utf8_trim_whitespace(_array(table[name]).cast(pa.string()))
            values = pc.coalesce(values, pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column))
    return values


def _only(values: pa.Array, some: Sequence[str]) -> pa.Array:
    return pc.if_else(pc.is_in(values, pa.array(some)), values, pa.scalar(None, pa.string()))


def _sequences(table: pa.Table) -> pa.Array:
    """The sequence of each row; of one without, its image."""
    sequences = _first_text(table, ["sequence"])
    if not sequences.null_count:
        return sequences
    alone = pa.array(["\0" + image_of(uri) for uri in table["uri"].to_pylist()], pa.string())
    return pc.coalesce(sequences, alone)


def _moments(table: pa.Table) -> Codes:
    if TIME_OF_IMAGE not in table.column_names or not pa.types.is_timestamp(table[TIME_OF_IMAGE].type):
        return np.full(table.num_rows, NO_TIME)
    moments = _array(table[TIME_OF_IMAGE]).cast(pa.timestamp("us")).cast(pa.int64())
    found: Codes = moments.fill_null(NO_TIME).to_numpy(zero_copy_only=False)
    return np.where((found >= _YEARS[0]) & (found <= _YEARS[1]), found, NO_TIME)


def _degrees(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    type_ = table[name].type if name in table.column_names else None
    if type_ is None or not (pa.types.is_floating(type_) or pa.types.is_integer(type_)):
        return np.full(table.num_rows, np.nan)
    values = _array(table[name]).cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    most = 90 if name == "latitude" else 180
    return np.where(np.abs(values) <= most, values, np.nan)


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _named(names: Mapping[str, int]) -> tuple[Codes, list[list[int]], list[str]]:
    """What the names stand for.

    Returns
    -------
    The kind of each part of a name, with that of no name last; the parts of each name; and the parts' texts.
    """
    species: dict[str, int] = {}
    parts = []
    for name in names:
        several = [part.strip() for part in name.split(_SEPARATOR)]
        parts.append([species.setdefault(part, len(species)) for part in several if part])
    kinds = [KINDS.index(_kind(name)) for name in species]
    parts.append([len(species)])
    return np.array([*kinds, KINDS.index("unnamed")], np.int64), parts, list(species)


def _kind(name: str) -> str:
    plain = name.casefold()
    kind = "unknown" if plain in _NO_NAMES else NOT_ANIMALS.get(plain, "animal")
    return "unnamed" if kind == "unknown" else kind


def _expanded(names: Codes, parts: Sequence[Sequence[int]]) -> tuple[Codes, Codes]:
    """Rows, and one name in each: a row with several names is there several times; one without has the last name."""
    lengths = np.array([len(each) for each in parts], np.int64)
    begins = np.cumsum(lengths) - lengths
    flat = np.array([part for each in parts for part in each], np.int64)
    times = lengths[names]
    row = np.repeat(np.arange(len(names)), times)
    within = np.arange(len(row)) - np.repeat(np.cumsum(times) - times, times)
    return row, flat[begins[names[row]] + within]


def _sorted_by_name(codes: Mapping[str, int]) -> Codes:
    """The place of each code by its text; that of -1, the last, comes after all."""
    place = np.empty(len(codes) + 1, np.int64)
    for new, name in enumerate(sorted(codes)):
        place[codes[name]] = new
    place[-1] = len(codes)
    return place


def _ranked(captured: Codes, species: Sequence[str]) -> Codes:
    """The place of each species by its captures and then its name; -1 without a capture."""
    counts = np.bincount(captured, minlength=len(species))
    rank = np.full(len(species) + 1, -1, np.int64)
    order = sorted((code for code in range(len(species)) if counts[code]), key=lambda c: (-counts[c], species[c]))
    rank[order] = np.arange(len(order))
    return rank


def _deployments(read: _Read, place: Codes, of_event: Codes, flags: Bools) -> list[Deployment]:
    names = [*sorted(read.deployments), ""]
    number = len(names)
    row = place[read.columns["deployment"]]
    moment = read.columns["moment"]
    timed = moment != NO_TIME
    first, last = np.full(number, _NEVER), np.full(number, NO_TIME)
    np.minimum.at(first, row[timed], moment[timed])
    np.maximum.at(last, row[timed], moment[timed])
    starts = _dates(read, START, row, min)
    ends = _dates(read, END, row, max)
    positions = _positions(read, row)
    only_blank = flags[:, 3] & ~flags[:, [0, 1, 2, 4]].any(1)
    nothing = ~flags[:, :3].any(1) & ~only_blank
    kinds = np.column_stack([np.ones(len(flags), bool), flags[:, :3], only_blank, nothing])
    counts = np.zeros((number, kinds.shape[1]), np.int64)
    np.add.at(counts, of_event, kinds)
    made = []
    for code, name in enumerate(names):
        if not counts[code, 0]:
            continue
        known_by: Literal["dates", "images"] | None = None
        start, end = starts.get(code), ends.get(code)
        nights = None
        if name and start is not None and end is not None and start < end:
            known_by, nights = "dates", (end - start) / timedelta(days=1)
        else:
            start = end = None
            if first[code] <= last[code]:
                start, end = _time(first[code]), _time(last[code])
            if name and start is not None and end is not None:
                known_by, nights = "images", max((end - start) / timedelta(days=1), 1.0)
        latitude, longitude = positions.get(code, (None, None))
        made.append(Deployment(name, start, end, known_by, nights, latitude, longitude, *counts[code].tolist()))
    return made


def _dates(read: _Read, column: str, row: Codes, choose: Any) -> dict[int, datetime]:
    """The earliest start, or latest end, of each deployment."""
    codes = read.columns[column]
    texts = list(read.dates[column])
    found: dict[int, datetime] = {}
    pairs = np.unique((row * len(texts) + codes)[codes >= 0]).tolist()
    for place, code in (divmod(pair, len(texts)) for pair in pairs):
        try:
            moment = datetime.fromisoformat(texts[code]).replace(tzinfo=None)
        except ValueError:
            continue
        found[place] = choose(found.get(place, moment), moment)
    return found


def _positions(read: _Read, row: Codes) -> dict[int, tuple[float, float]]:
    """The coordinates of each deployment; of several, the most southern."""
    there = np.flatnonzero(np.isfinite(read.latitude) & np.isfinite(read.longitude))
    order = there[np.lexsort((read.longitude[there], read.latitude[there], row[there]))]
    places, first = np.unique(row[order], return_index=True)
    rows = order[first]
    pairs = zip(read.latitude[rows].tolist(), read.longitude[rows].tolist(), strict=True)
    return dict(zip(places.tolist(), pairs, strict=True))


def _time(microseconds: np.int64) -> datetime:
    return datetime(1970, 1, 1) + timedelta(microseconds=int(microseconds))
