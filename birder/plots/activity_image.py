"""The activity report of a collection as an image: captures, activity, accumulation and stations in four panels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from birder.analysis.activity import LEAST, Activity
from birder.analysis.circular import STEP
from birder.plots.activity_charts import frame_of
from birder.plots.activity_page import station_list
from birder.plots.colouring import PALETTE
from birder.plots.image_file import figure_in, short

_BARS, _LINES = 15, 6
_Z = 1.959964


def draw_activity(found: Activity, to: str | Path) -> None:
    """Draw the report as an image of 1690 x 1300 pixels.

    Parameters
    ----------
    found
        What it shows.
    to
        The file; its ending says the format, such as .png or .svg.

    Raises
    ------
    BirderError
        The file cannot be written, or is of a format that matplotlib does not have.
    """
    with figure_in(to, (13, 10)) as figure:
        figure.suptitle(found.summary, fontsize=12)
        panels = figure.subplots(2, 2)
        _captures(panels[0, 0], found)
        _curves(panels[0, 1], found)
        _accumulation(panels[1, 0], found)
        _stations(panels[1, 1], found)
        for axes in panels.ravel():
            axes.spines[["top", "right"]].set_visible(False)


def _captures(axes: Any, found: Activity) -> None:
    rated = any(each.rate is not None for each in found.species)
    shown = found.species[:_BARS][::-1]
    more = f", the {len(shown)} most frequent of {len(found.species):,}" if len(found.species) > len(shown) else ""
    axes.set_title(f"Captures per 100 trap nights{more}" if rated else f"Captures{more}", loc="left", fontsize=10)
    if not shown:
        _nothing(axes, "No row has the name of an animal.")
        return
    values = [(each.rate or 0.0) if rated else each.captures for each in shown]
    axes.barh(range(len(shown)), values, color=PALETTE[0])
    axes.set_yticks(range(len(shown)), [short(each.name) for each in shown])
    for place, each in enumerate(shown):
        if rated and each.low is not None:
            axes.plot([each.low, each.high], [place, place], color="black", linewidth=1)
    axes.margins(y=0.01)


def _curves(axes: Any, found: Activity) -> None:
    axes.set_title("Activity over the day (share per hour, clock time)", loc="left", fontsize=10)
    if not found.curves:
        _nothing(axes, f"No species has {LEAST} captures with a time.")
        return
    for colour, (name, curve) in zip(PALETTE[:_LINES], found.curves.items(), strict=False):
        hours = np.arange(len(curve.density) + 1) * STEP / 60
        low, middle, high = (np.r_[each, each[0]] for each in (curve.low, curve.density, curve.high))
        axes.fill_between(hours, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(hours, middle, color=colour, label=f"{short(name)} ({curve.n:,})")
    axes.set(xlim=(0, 24), xticks=range(0, 25, 6), ylim=(0, None))
    axes.set_xticklabels([f"{hour}:00" for hour in range(0, 25, 6)])
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.legend(frameon=False, fontsize=8)


def _accumulation(axes: Any, found: Activity) -> None:
    axes.set_title("Accumulation of species, with 95 % band", loc="left", fontsize=10)
    curve = found.accumulation
    if curve is None:
        _nothing(axes, "No capture has a deployment and a time.")
        return
    low, high = np.maximum(curve.expected - _Z * curve.error, 0), curve.expected + _Z * curve.error
    axes.fill_between(curve.samples, low, high, color=PALETTE[0], alpha=0.2, linewidth=0)
    axes.plot(curve.samples, curve.expected, color=PALETTE[0])
    axes.set(xlabel="days at a deployment", ylabel="species", ylim=(0, None))


def _stations(axes: Any, found: Activity) -> None:
    axes.set_title("Stations, scaled by captures (degrees)", loc="left", fontsize=10)
    there = station_list(found)
    if not there:
        _nothing(axes, "No deployment has coordinates.")
        return
    frame = frame_of(there)
    captures = np.array([each.captures for each in there])
    order = np.argsort(-captures, kind="stable")
    size = np.maximum(900 * captures / max(int(captures.max()), 1), 8)
    latitudes = np.array([each.latitude for each in there])
    axes.scatter(
        frame.longitudes[order], latitudes[order], s=size[order], color=PALETTE[0], alpha=0.45, edgecolors=PALETTE[0]
    )
    axes.set(xlim=(frame.west, frame.east), ylim=(frame.south, frame.north))
    axes.set_aspect(1 / max(math.cos(math.radians((frame.south + frame.north) / 2)), 0.01))
    axes.ticklabel_format(useOffset=False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _nothing(axes: Any, why: str) -> None:
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])
