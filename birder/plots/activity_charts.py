"""The charts of an activity report as SVG text; colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from birder.analysis.accumulation import Accumulation
from birder.analysis.circular import STEP, Curve
from birder.plots.report_charts import text

Floats = npt.NDArray[np.float64]

KILOMETRES = 111.32
"""In a degree of latitude."""
_Z = 1.959964
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 18, 12, 40
_MAP = (720, 460)  # at most
_LARGEST = 26  # radius of a circle
_SMALLEST_SIDE = 0.01  # degrees that a map shows at least


class Station(NamedTuple):
    """A camera on the map: its name, place in degrees, and captures."""

    name: str
    latitude: float
    longitude: float
    captures: int


class Frame(NamedTuple):
    """A part of the earth as a plane on which a kilometre is as long to the east as to the north.

    Attributes
    ----------
    longitudes
        Of the stations; in one piece where they lie on both sides of 180 degrees, so some may be above 180.
    west, east, south, north
        Degrees.
    narrow
        A degree of longitude as a share of one of latitude, in the middle.
    """

    longitudes: Floats
    west: float
    east: float
    south: float
    north: float
    narrow: float


def frame_of(stations: Sequence[Station]) -> Frame:
    """The part of the earth that a map of these stations shows, with a margin; at least one station."""
    longitudes = np.array([each.longitude for each in stations])
    latitudes = np.array([each.latitude for each in stations])
    ordered = np.unique(longitudes)
    gaps = np.diff(np.r_[ordered, ordered[0] + 360])
    if (widest := int(gaps.argmax())) < len(ordered) - 1:
        longitudes = np.where(longitudes <= ordered[widest], longitudes + 360, longitudes)
    middle = (latitudes.min() + latitudes.max()) / 2
    narrow = max(math.cos(math.radians(middle)), 0.01)
    west, east = _widened(float(longitudes.min()), float(longitudes.max()), _SMALLEST_SIDE / narrow)
    south, north = _widened(float(latitudes.min()), float(latitudes.max()), _SMALLEST_SIDE)
    return Frame(longitudes, west, east, south, north, narrow)


def _widened(low: float, high: float, least: float) -> tuple[float, float]:
    margin = max(0.12 * (high - low), (least - (high - low)) / 2)
    return low - margin, high + margin


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers between two, some `about` of them, a step of 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def degrees(value: float, positive: str, negative: str) -> str:
    """A coordinate in words: 51.2° N."""
    value = (value + 180) % 360 - 180 if positive == "E" else value
    rounded = f"{abs(value):.6f}".rstrip("0").rstrip(".")
    return f"{rounded}° {positive if value >= 0 else negative}"


def clock(curve: Curve) -> str:
    """When a curve is highest: 05:10."""
    minutes = int(curve.density.argmax()) * STEP
    return f"{minutes // 60:02}:{minutes % 60:02}"


def activity(name: str, curve: Curve, most: float) -> str:
    """A curve over the day with its band; `most` is the density at the upper end of the axis."""
    wide, high = 340, 180
    hours = np.arange(len(curve.density) + 1) * STEP / 60

    def points(values: Floats) -> list[str]:
        x = _LEFT + (wide - _LEFT - _RIGHT) * hours / 24
        y = high - _BOTTOM - (high - _TOP - _BOTTOM) * np.r_[values, values[0]] / most
        return [f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]

    rails = "".join(
        f'<line class="rail" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{high - _BOTTOM}"/>'
        f'<text x="{x:.1f}" y="{high - _BOTTOM + 16}" text-anchor="middle">{hour}:00</text>'
        for hour in (0, 6, 12, 18, 24)
        for x in [_LEFT + (wide - _LEFT - _RIGHT) * hour / 24]
    )
    for level in ticks(0, most):
        y = high - _BOTTOM - (high - _TOP - _BOTTOM) * level / most
        rails += (
            f'<line class="rail" x1="{_LEFT}" x2="{wide - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * level:.3g}\u00a0%</text>'
        )
    band = " ".join([*points(curve.high), *points(curve.low)[::-1]])
    about = f"Activity of {name} over the day, from {curve.n:,} events: highest at {clock(curve)}"
    return (
        f'<svg class="chart" viewBox="0 0 {wide} {high}" role="img" aria-label="{text(about)}">{rails}'
        f'<polygon class="band" points="{band}"/>'
        f'<polyline class="line first" points="{" ".join(points(curve.density))}"/>'
        f'<text class="axis" x="{wide / 2:.0f}" y="{high - 6}" text-anchor="middle">clock time; share per hour</text>'
        "</svg>"
    )


def accumulation(found: Accumulation) -> str:
    """The expected number of species against the days at a deployment, with a normal 95 % band."""
    wide, high = 560, 330
    upper = found.expected + _Z * found.error
    low = np.maximum(found.expected - _Z * found.error, 0)
    most, last = max(float(upper.max()), 1.0), int(found.samples[-1])

    def points(values: Floats) -> list[str]:
        x = _LEFT + (wide - _LEFT - _RIGHT) * found.samples / last
        y = high - _BOTTOM - (high - _TOP - _BOTTOM) * values / most
        return [f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]

    rails = ""
    for level in ticks(0, most, 5):
        y = high - _BOTTOM - (high - _TOP - _BOTTOM) * level / most
        rails += (
            f'<line class="rail" x1="{_LEFT}" x2="{wide - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{level:g}</text>'
        )
    for day in ticks(0, last, 5):
        x = _LEFT + (wide - _LEFT - _RIGHT) * day / last
        rails += f'<text x="{x:.1f}" y="{high - _BOTTOM + 16}" text-anchor="middle">{day:,.10g}</text>'
    about = f"Accumulation of species: {found.expected[-1]:.0f} in {last:,} days; the table below has the numbers"
    return (
        f'<svg class="chart" viewBox="0 0 {wide} {high}" role="img" aria-label="{text(about)}">{rails}'
        f'<polygon class="band" points="{" ".join([*points(upper), *points(low)[::-1]])}"/>'
        f'<polyline class="line first" points="{" ".join(points(found.expected))}"/>'
        f'<text class="axis" x="{wide / 2:.0f}" y="{high - 6}" text-anchor="middle">days at a deployment</text>'
        f'<text class="axis" transform="translate(11 {(high - _BOTTOM + _TOP) / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">species</text></svg>'
    )


def stations(there: Sequence[Station]) -> str:
    """A map: circles whose area is proportional to the captures, on a graticule, with a scale."""
    frame = frame_of(there)
    across, down = (frame.east - frame.west) * frame.narrow, frame.north - frame.south
    scale = min((_MAP[0] - 2 * _LEFT) / across, (_MAP[1] - 2 * _BOTTOM) / down)
    wide, high = across * scale + 2 * _LEFT, down * scale + 2 * _BOTTOM

    def x(longitude: float) -> float:
        return _LEFT + (longitude - frame.west) * frame.narrow * scale

    def y(latitude: float) -> float:
        return _BOTTOM + (frame.north - latitude) * scale

    rails = ""
    for value in ticks(frame.south, frame.north):
        at = y(value)
        rails += (
            f'<line class="rail" x1="{_LEFT}" x2="{wide - _LEFT:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{_LEFT}" y="{at - 3:.1f}">{degrees(value, "N", "S")}</text>'
        )
    for value in ticks(frame.west, frame.east):
        at = x(value)
        rails += (
            f'<line class="rail" x1="{at:.1f}" x2="{at:.1f}" y1="{_BOTTOM}" y2="{high - _BOTTOM:.1f}"/>'
            f'<text x="{at:.1f}" y="{high - _BOTTOM + 14:.1f}" text-anchor="middle">{degrees(value, "E", "W")}</text>'
        )
    most = max([each.captures for each in there] + [1])
    circles = ""
    placed = sorted(zip(there, frame.longitudes.tolist(), strict=True), key=lambda each: -each[0].captures)
    for each, longitude in placed:
        radius = max(_LARGEST * math.sqrt(each.captures / most), 2.5)
        circles += (
            f'<circle class="{"station" if each.captures else "station none"}" cx="{x(longitude):.1f}" '
            f'cy="{y(each.latitude):.1f}" r="{radius:.1f}"><title>{text(each.name)}: {each.captures:,}</title></circle>'
        )
    length = ticks(0, across * KILOMETRES / 2)[1]
    pixels = length / KILOMETRES * scale
    bar = (
        f'<line class="scale" x1="{_LEFT}" x2="{_LEFT + pixels:.1f}" y1="{high - 8:.1f}" y2="{high - 8:.1f}"/>'
        f'<text x="{_LEFT + pixels + 6:.1f}" y="{high - 4:.1f}">{length:,.10g} km</text>'
    )
    about = f"Map of {len(there):,} deployments with their captures; the table below lists them"
    return (
        f'<svg class="chart map" viewBox="0 0 {wide:.0f} {high:.0f}" style="max-width: {wide:.0f}px" '
        f'role="img" aria-label="{about}">'
        f"{rails}{circles}{bar}</svg>"
    )
