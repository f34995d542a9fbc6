"""The sun's position against published ones, and what is night."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birder.analysis.daylight import SUNSET, night_or_day, sun_elevation


def elevation(utc: str, latitude: float, longitude: float) -> float:
    return float(sun_elevation(np.array([utc], "datetime64[s]"), np.array([latitude]), np.array([longitude]))[0])


def test_the_elevation_is_that_of_the_solar_position_algorithm() -> None:
    # Reda and Andreas 2008, NREL/TP-560-34302, table A5.1: 17 October 2003, 12:30:30 at UTC - 7, zenith 50.11162.
    assert elevation("2003-10-17T19:30:30", 39.742476, -105.1786) == pytest.approx(90 - 50.11162, abs=0.3)


@pytest.mark.parametrize(
    ("utc", "latitude", "longitude"),
    [
        # The same table of NREL: sunrise 6:12:43, sunset 17:20:19.
        ("2003-10-17T13:12:43", 39.742476, -105.1786),
        ("2003-10-18T00:20:19", 39.742476, -105.1786),
        # HM Nautical Almanac Office, London: 4:43 and 21:21 BST in June, 8:04 and 15:53 GMT in December.
        ("2024-06-20T03:43:00", 51.5, -0.13),
        ("2024-06-20T20:21:00", 51.5, -0.13),
        ("2024-12-21T08:04:00", 51.5, -0.13),
        ("2024-12-21T15:53:00", 51.5, -0.13),
        # Geoscience Australia, Sydney: 5:41 and 20:05 at UTC + 11.
        ("2024-12-20T18:41:00", -33.87, 151.21),
        ("2024-12-21T09:05:00", -33.87, 151.21),
    ],
)
def test_the_sun_is_on_the_horizon_at_published_times(utc: str, latitude: float, longitude: float) -> None:
    assert elevation(utc, latitude, longitude) == pytest.approx(SUNSET, abs=0.5)


def test_night_is_told_by_the_sun_where_the_place_is_known_and_else_by_the_hour() -> None:
    evening = datetime(2024, 6, 20, 19, 30)
    assert night_or_day([evening] * 3, [60.0, -50.0, None], [30.0, 30.0, 30.0]) == ["day", "night", "night"]
    midnight_sun = datetime(2024, 6, 20, 0, 30)
    assert night_or_day([midnight_sun, datetime(2024, 12, 21, 12, 0)], [75.0] * 2, [20.0] * 2) == ["day", "night"]
    hours = [datetime(2024, 6, 20, hour, 1) for hour in range(24)]
    told = night_or_day(hours, [None] * 24, [None] * 24)
    assert [hour for hour, each in enumerate(told) if each == "day"] == list(range(6, 18))


def test_a_date_alone_is_not_a_time() -> None:
    assert night_or_day([None, datetime(2024, 6, 20)], [50.0, None], [8.0, None]) == [None, None]
    assert night_or_day([], [], []) == []


@given(st.floats(-66, 66), st.floats(-180, 180), st.datetimes(datetime(1990, 1, 1), datetime(2050, 1, 1)))
def test_noon_is_day_and_the_middle_of_the_night_is_not(latitude: float, longitude: float, moment: datetime) -> None:
    noon = moment.replace(hour=12, minute=0, second=1, microsecond=0)
    midnight = noon + timedelta(hours=12)
    # Of the sun at the zone's meridian, so that the clock is at most the equation of time off.
    meridian = round(longitude / 15) * 15.0
    inside = max(-60.0, min(60.0, latitude))
    assert night_or_day([noon, midnight], [inside] * 2, [meridian] * 2) == ["day", "night"]
