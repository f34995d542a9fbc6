"""Where the images of a collection were taken: its places, from coordinates and the names of stations.

A place is a pair of coordinates, rounded. The images of a station are all at the place where most of them are, however
much a receiver's coordinates differ from one image to the next; a name whose images lie far apart, like that of a
country, is not taken for a station's. Stations at the same coordinates share a place.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.schema import DEPLOYMENT
from birder.server.catalogue import Snapshot
from birder.server.encoded import codes_of

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

COORDINATES = ("latitude", "longitude")
NAMED = 20
"""Stations of a place that are named."""
_STATIONS = (*DEPLOYMENT, "station", "site", "location", "camera")
_MOST = 10_000  # places, unless whole degrees have more
_DECIMALS = (5, 4, 3, 2, 1, 0)  # of degrees that coordinates are rounded to: the first that gives few enough places
_APART = 5.0  # kilometres from the place of a station that its images lie at most
_KILOMETRES = 111.32  # in a degree of latitude


@dataclass(frozen=True)
class Places:
    """The P places of N rows.

    Attributes
    ----------
    codes
        (N,): the place of each row, -1 for rows without coordinates or with impossible ones.
    latitude, longitude
        (P,): degrees, rounded; each pair is there once.
    decimals
        What they are rounded to.
    names
        (P,): the stations of each place, at most `NAMED`, the most frequent first.
    further
        (P,): how many stations each place has beside these.
    exact
        (P,): whether the rows of a place are those whose station has one of its names.
    box
        (P, 4): the least and the greatest latitude of its rows, and the same of the longitude.
    """

    codes: Codes
    latitude: Floats
    longitude: Floats
    decimals: int
    names: list[list[str]]
    further: Codes
    exact: npt.NDArray[np.bool_]
    box: Floats

    @cached_property
    def numbers(self) -> dict[tuple[float, float], int]:
        """The number of each place by its latitude and longitude."""
        pairs = zip(self.latitude.tolist(), self.longitude.tolist(), strict=True)
        return {pair: number for number, pair in enumerate(pairs)}


class KnownPlaces:
    """The places of the latest snapshot; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: tuple[pa.Array | None, ...] = ()
        self._places: Places | None = None

    def of(self, snapshot: Snapshot) -> Places:
        """The places of a snapshot; they are found again only when coordinates or stations have changed."""
        station = station_column(snapshot)
        columns = tuple(
            snapshot.encoded(name) if name is not None and snapshot.types.get(name) == kind else None
            for name, kind in ((COORDINATES[0], "number"), (COORDINATES[1], "number"), (station, "text"))
        )
        with self._lock:
            same = len(self._columns) == len(columns) and all(map(_is, columns, self._columns))
            if self._places is None or not same:
                self._places = places(len(snapshot), *columns)
                self._columns = columns
            return self._places


def _is(one: object, other: object) -> bool:
    return one is other


def station_column(snapshot: Snapshot) -> str | None:
    """The column of an image's station or camera; None if there is none with values."""
    return next((name for name in _STATIONS if snapshot.types.get(name) == "text" and snapshot.filled[name]), None)


def places(rows: int, latitude: pa.Array | None, longitude: pa.Array | None, station: pa.Array | None) -> Places:
    """The places of rows.

    Parameters
    ----------
    rows
        N.
    latitude, longitude
        (N,): degrees, or None: there are none.
    station
        (N,): texts, also as a dictionary, or None.
    """
    north, east = _degrees(latitude, rows, 90), _degrees(longitude, rows, 180)
    there = np.flatnonzero(np.isfinite(north) & np.isfinite(east))
    names, name_of = _named(station, rows)
    for decimals in _DECIMALS:
        spots = _spots(north[there], east[there], name_of[there], decimals)
        if len(spots.latitude) <= _MOST:
            break
    count = len(spots.latitude)
    codes = np.full(rows, -1, np.int64)
    codes[there] = spots.codes
    box = np.tile([np.inf, -np.inf, np.inf, -np.inf], (count, 1))
    for side, values in ((0, north), (2, east)):
        np.minimum.at(box[:, side], spots.codes, values[there])
        np.maximum.at(box[:, side + 1], spots.codes, values[there])
    # Of each place its names, the most frequent first; "no name" counts as one here.
    pairs, number = np.unique(spots.codes * (len(names) + 1) + name_of[there] + 1, return_counts=True)
    place, name = pairs // (len(names) + 1), pairs % (len(names) + 1) - 1
    everywhere = np.bincount(name_of[name_of >= 0], minlength=len(names))
    exact = np.ones(count, np.bool_)
    exact[place[(name < 0) | (np.append(everywhere, 0)[name] != number)]] = False
    place, name, number = place[name >= 0], name[name >= 0], number[name >= 0]
    order = np.lexsort((name, -number, place))
    place, name = place[order], name[order]
    total = np.bincount(place, minlength=count)
    rank = np.arange(len(place)) - np.append(0, np.cumsum(total))[place]
    shown = rank < NAMED
    texts = names.take(pa.array(name[shown])).to_pylist()
    listed: list[list[str]] = [[] for _ in range(count)]
    for at, text in zip(place[shown].tolist(), texts, strict=True):
        listed[at].append(text)
    further = np.maximum(total - NAMED, 0)
    return Places(codes, spots.latitude, spots.longitude, decimals, listed, further, exact & (further == 0), box)


class _Spots(NamedTuple):
    """The place of each row, as a number, and the coordinates of the places."""

    codes: Codes
    latitude: Floats
    longitude: Floats


def _spots(latitude: Floats, longitude: Floats, name: Codes, decimals: int) -> _Spots:
    unit = 10**decimals
    y = np.rint(latitude * unit).astype(np.int64)
    x = np.rint(longitude * unit).astype(np.int64)
    x[x == 180 * unit] = -180 * unit
    wide = 360 * unit
    spot, keys = _numbered((y + 90 * unit) * wide + x + 180 * unit)
    spots = np.stack([keys // wide - 90 * unit, keys % wide - 180 * unit], axis=1) / unit
    # Rows with the same name at the same spot are one from here on.
    pair, keys = _numbered((name + 1) * max(len(spots), 1) + spot)
    name, spot = keys // max(len(spots), 1) - 1, keys % max(len(spots), 1)
    number = np.bincount(pair, minlength=len(keys))
    order = np.lexsort((spot, -number, name))
    order = order[name[order] >= 0]
    found, first = np.unique(name[order], return_index=True)
    main = np.zeros(name.max(initial=-1) + 1, np.int64)  # by name: the spot with most of its rows
    main[found] = spot[order[first]]
    apart = np.zeros(len(main), np.bool_)
    apart[name[order[_kilometres(spots[spot[order]], spots[main[name[order]]]) > _APART]]] = True
    together = order[~apart[name[order]]]
    target = spot.copy()
    target[together] = main[name[together]]
    used, place = np.unique(target, return_inverse=True)
    return _Spots(place[pair], spots[used, 0], spots[used, 1])


def _numbered(keys: Codes) -> tuple[Codes, Codes]:
    """A number for each key in the order in which they come first, and the key of each number; without sorting."""
    found = pa.array(keys).dictionary_encode()
    numbers = found.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers, found.dictionary.to_numpy(zero_copy_only=False)


def _kilometres(spots: Floats, others: Floats) -> Floats:
    """How far apart two arrays (M, 2) of coordinates are, pair by pair: right for the short ways that matter here."""
    north = others[:, 0] - spots[:, 0]
    east = (others[:, 1] - spots[:, 1] + 180) % 360 - 180
    distance: Floats = _KILOMETRES * np.hypot(north, east * np.cos(np.radians(spots[:, 0])))
    return distance


def _degrees(column: pa.Array | None, rows: int, most: int) -> Floats:
    """A column's numbers, NaN where there is none or an impossible one."""
    if column is None:
        return np.full(rows, np.nan)
    values = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return np.where(np.abs(values) <= most, values, np.nan)


def _named(station: pa.Array | None, rows: int) -> tuple[pa.Array, Codes]:
    """The different names, and the number of each row's; -1 without one."""
    if station is None:
        return pa.array([], pa.string()), np.full(rows, -1, np.int64)
    found = station if pa.types.is_dictionary(station.type) else station.dictionary_encode()
    codes = codes_of(found).astype(np.int64)
    empty = np.flatnonzero(pc.equal(found.dictionary, "").to_numpy(zero_copy_only=False))
    codes[np.isin(codes, empty)] = -1
    return found.dictionary, codes
