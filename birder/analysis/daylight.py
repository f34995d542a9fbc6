"""Night or day: where the sun stood when an image was taken.

The sun's position is that of NOAA's "General Solar Position Calculations" (Global Monitoring Laboratory,
https://gml.noaa.gov/grad/solcalc/solareqns.PDF), Fourier series after Spencer (1971); its elevation is right to about
half a degree in our century.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

NIGHT, DAY = "night", "day"
SUNSET = -0.833
"""The elevation in degrees at which the sun's upper edge is seen on the horizon: its radius and the refraction."""
DAYTIME = (6, 18)
"""The hours from and before which it is day where the place is not known."""

Floats = npt.NDArray[np.float64]


def sun_elevation(utc: npt.NDArray[np.datetime64], latitude: Floats, longitude: Floats) -> Floats:
    """The elevation of the sun's centre above the horizon, without refraction.

    Parameters
    ----------
    utc
        (N,) times, UTC.
    latitude, longitude
        (N,) degrees, north and east positive.

    Returns
    -------
    float64 (N,), degrees.
    """
    seconds = utc.astype("datetime64[s]").astype(np.int64)
    year = utc.astype("datetime64[Y]")
    begin, end = (each.astype("datetime64[s]").astype(np.int64) for each in (year, year + 1))
    minutes = seconds % 86_400 / 60
    days, length = (seconds - begin) / 86_400, (end - begin) / 86_400
    angle = 2 * np.pi / length * (days - 0.5)  # the fractional year; NOAA counts it from noon of 1 January
    equation = 229.18 * (
        0.000075
        + 0.001868 * np.cos(angle)
        - 0.032077 * np.sin(angle)
        - 0.014615 * np.cos(2 * angle)
        - 0.040849 * np.sin(2 * angle)
    )  # of time, in minutes
    declination = (
        0.006918
        - 0.399912 * np.cos(angle)
        + 0.070257 * np.sin(angle)
        - 0.006758 * np.cos(2 * angle)
        + 0.000907 * np.sin(2 * angle)
        - 0.002697 * np.cos(3 * angle)
        + 0.00148 * np.sin(3 * angle)
    )
    hour_angle = np.radians((minutes + equation + 4 * longitude) / 4 - 180)
    place = np.radians(latitude)
    sine = np.sin(place) * np.sin(declination) + np.cos(place) * np.cos(declination) * np.cos(hour_angle)
    elevation: Floats = np.degrees(np.arcsin(np.clip(sine, -1, 1)))
    return elevation


def night_or_day(
    taken_at: Sequence[datetime | None],
    latitude: Sequence[float | None],
    longitude: Sequence[float | None],
) -> list[str | None]:
    """Whether images were taken by night or by day.

    Where the place is known, it is night while the sun is below the horizon (`SUNSET`). The clock is taken to show the
    time of the zone that the longitude is in, to the next whole hour; summer time, or another zone, moves the limits by
    as much. Where the place is not known, it is day from 6 to 18 o'clock.

    Parameters
    ----------
    taken_at
        N local times without a zone, as cameras write them. None is no time; and 00:00:00 sharp is taken for a date
        without a time.
    latitude, longitude
        N values in degrees, north and east positive; None where the place is not known.

    Returns
    -------
    "night", "day", or None where there is no time.
    """
    found: list[str | None] = [None] * len(taken_at)
    placed = []
    for row, moment in enumerate(taken_at):
        if moment is None or moment.time() == moment.min.time():
            continue
        if latitude[row] is None or longitude[row] is None:
            found[row] = DAY if DAYTIME[0] <= moment.hour < DAYTIME[1] else NIGHT
        else:
            placed.append(row)
    if placed:
        north, east = (np.array([each[row] for row in placed], np.float64) for each in (latitude, longitude))
        local = np.array([taken_at[row] for row in placed], "datetime64[s]")
        utc = local - np.round(east / 15).astype("timedelta64[h]")
        for row, elevation in zip(placed, sun_elevation(utc, north, east).tolist(), strict=True):
            found[row] = DAY if elevation > SUNSET else NIGHT
    return found
