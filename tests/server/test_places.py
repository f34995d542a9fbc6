"""The places of images: how rows are put together, their numbers under filters, and the ids at some."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.server.places import NAMED, Places, places
from tests.factory import collection_of_columns
from tests.server.live import serving

Spot = tuple[int, int]
Row = tuple[float | None, float | None, str | None]
ROWS = st.lists(
    st.tuples(
        st.sampled_from([None, 51.2, 51.2000001, 51.21, 51.9, -90.0, 90.5, math.nan]),
        st.sampled_from([None, 4.4, 4.40001, 180.0, -180.0, 179.99999, -181.0]),
        st.sampled_from([None, "", "A1", "A2", "Belgium"]),
    ),
    max_size=30,
)


def by_hand(rows: list[Row]) -> list[Spot | None]:
    """The place of each row as the docstring of birder.server.places says it, in units of 0.00001 degrees."""

    def spot(latitude: float | None, longitude: float | None) -> Spot | None:
        if latitude is None or longitude is None or not abs(latitude) <= 90 or not abs(longitude) <= 180:
            return None
        return round(latitude * 1e5), (round(longitude * 1e5) + 18_000_000) % 36_000_000 - 18_000_000

    def kilometres(one: Spot, other: Spot) -> float:
        east = (other[1] - one[1] + 18_000_000) % 36_000_000 - 18_000_000
        return 111.32e-5 * math.hypot(other[0] - one[0], east * math.cos(math.radians(one[0] / 1e5)))

    spots = [spot(latitude, longitude) for latitude, longitude, _ in rows]
    seen = list(dict.fromkeys(each for each in spots if each is not None))
    main: dict[str, Spot] = {}
    for name in {name for _, _, name in rows if name}:
        counts = Counter(each for each, row in zip(spots, rows, strict=True) if row[2] == name and each is not None)
        if counts:
            best = min(counts, key=lambda each: (-counts[each], seen.index(each)))
            if all(kilometres(each, best) <= 5 for each in counts):
                main[name] = best
    return [None if each is None else main.get(row[2] or "", each) for each, row in zip(spots, rows, strict=True)]


def found(rows: list[Row]) -> Places:
    latitude, longitude, names = zip(*rows, strict=True) if rows else ((), (), ())
    return places(
        len(rows),
        pa.array(latitude, pa.float64()),
        pa.array(longitude, pa.float64()),
        pa.array(names, pa.string()),
    )


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_every_row_is_at_the_place_that_the_rule_says(
    rows: list[Row],
) -> None:
    told = found(rows)
    expected = by_hand(rows)
    spots = [(round(a * 1e5), round(b * 1e5)) for a, b in told.numbers]
    assert [None if code < 0 else spots[code] for code in told.codes.tolist()] == expected
    assert len(set(spots)) == len(spots) == len({each for each in expected if each})
    for number, spot in enumerate(spots):
        here = [row for row, each in zip(rows, expected, strict=True) if each == spot]
        names = Counter(name for _, _, name in here if name)
        assert Counter(told.names[number]) == Counter(names.keys())
        assert [names[name] for name in told.names[number]] == sorted(names.values(), reverse=True)
        assert told.exact[number] == (here == [row for row in rows if row[2] in names])
        ends = [f(row[k] for row in here) for k in (0, 1) for f in (min, max)]  # type: ignore[type-var]
        assert told.box[number].tolist() == ends


def test_coordinates_are_rounded_until_there_are_few_enough_places_and_names_are_cut() -> None:
    random = np.random.default_rng(1)
    latitude, longitude = pa.array(random.uniform(50, 50.05, 30_000)), pa.array(random.uniform(4, 4.05, 30_000))
    told = places(30_000, latitude, longitude, None)
    pairs = zip(latitude.to_pylist(), longitude.to_pylist(), strict=True)
    assert (told.decimals, len(told.latitude)) == (3, len({(round(a, 3), round(b, 3)) for a, b in pairs}))
    assert np.abs(told.latitude[told.codes] - latitude.to_numpy()).max() <= 0.0005 + 1e-9
    named = places(60, pa.array([1.0] * 60), pa.array([2.0] * 60), pa.array([f"S{n % 30}" for n in range(60)]))
    assert (len(named.names[0]), named.further.tolist(), named.exact.tolist()) == (NAMED, [10], [False])
    assert places(3, None, None, None).codes.tolist() == [-1] * 3


def test_places_have_numbers_under_filters_and_give_their_images(tmp_path: Path) -> None:
    rows: dict[str, dict[str, Any]] = {
        "file:///a.jpg": {"latitude": 51.0, "longitude": 4.0, "station": "A1", "night": True},
        "file:///b.jpg": {"latitude": 51.00001, "longitude": 4.0, "station": "A1", "night": False},
        "file:///c.jpg": {"latitude": 51.0, "longitude": 4.0, "station": "A1", "night": True},
        "file:///d.jpg": {"latitude": -3.0, "longitude": 179.5, "night": True},
        "file:///e.jpg": {"latitude": 95.0, "longitude": 4.0, "station": "A2", "night": True},
        "file:///f.jpg": {"station": "A3", "night": False},
    }
    types = {
        "latitude": pa.float64(),
        "longitude": pa.float64(),
        "station": pa.string(),
        "night": pa.bool_(),
    }
    collection_of_columns(tmp_path / "c.birder", rows, types)
    with serving(tmp_path / "c.birder") as client:

        def ids(**query: Any) -> list[str]:
            return list(client.get("ids", params=query).raise_for_status().json()["ids"])

        def at(*asked: dict[str, Any], where: str | None = None) -> list[str]:
            body = {"places": [[each["latitude"], each["longitude"]] for each in asked], "where": where}
            return list(client.post("places/ids", json=body).raise_for_status().json()["ids"])

        told = client.get("places").raise_for_status().json()
        assert (told["station"], told["rounded"], told["total"], told["nowhere"]) == ("station", 1e-5, 6, 2)
        first, second = told["places"]
        assert first == {
            "latitude": 51.0,
            "longitude": 4.0,
            "count": 3,
            "names": ["A1"],
            "further": 0,
            "exact": True,
            "box": [51.0, 51.00001, 4.0, 4.0],
        }
        assert (second["longitude"], second["names"], second["exact"]) == (179.5, [], False)
        assert at(first) == ids(where="station = 'A1'")
        south, north, west, east = second["box"]
        where = f"latitude >= {south} AND latitude <= {north} AND longitude >= {west} AND longitude <= {east}"
        assert at(second) == ids(where=where)
        told = client.get("places", params={"where": "night"}).json()
        assert [(each["count"]) for each in told["places"]] == [2, 1]
        assert (told["total"], told["nowhere"]) == (4, 1)
        assert at(first, second, where="night") == ids(where="night AND latitude < 95")
        assert client.post("places/ids", json={"where": "NOT night"}).json()["ids"] == at(first, where="NOT night")
        gone = client.post("places/ids", json={"places": [[1, 2]]})
        assert gone.status_code == 404 and "GET /api/v1/places again" in gone.json()["detail"]
        # A station is text, and may be corrected: the places follow.
        d, e = ids(where="longitude > 179"), ids(where="latitude > 90")
        client.post("labels", json={"ids": [*d, *e], "column": "station", "value": "B"}).raise_for_status()
        assert [each["names"] for each in client.get("places").json()["places"]] == [["A1"], ["B"]]
        assert [each["exact"] for each in client.get("places").json()["places"]] == [True, False]
